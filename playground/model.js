// The network from the page's side: a picture goes in, what equations 1 to 4 need comes out.

/**
 * @typedef {object} Seen  what the network found in one picture
 * @property {object} model  its entry in the catalogue
 * @property {number} H @property {number} W  of the picture as the network saw it, pixels
 * @property {number} N  objects that are shown, best first
 * @property {boolean} isWeak  whether none of them reaches the model's usual score
 * @property {Float32Array} boxes  N * 4, pixels; may reach outside the picture
 * @property {Float32Array} scores @property {number[]} labels
 * @property {Float32Array} attentions  N * K * M * M, raw
 * @property {Float32Array} bases  K * h * w
 * @property {number} h @property {number} w  cells @property {number} stride  pixels a cell
 * @property {number} milliseconds  of the network @property {number} threads
 */

const MOST_OBJECTS = 12;

export class Network {
  /** @param {(share: number) => void} onProgress  of a download, 0 to 1 */
  constructor(onProgress) {
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.last = 0;
    this.worker.onmessage = ({ data }) => {
      if (data.share !== undefined) {
        onProgress(data.share);
        return;
      }
      const { resolve, reject } = this.waiting.get(data.number);
      this.waiting.delete(data.number);
      if (data.error) reject(new Error(data.error));
      else resolve(data);
    };
    this.worker.onerror = (event) => {
      const error = new Error(event.message || "the runtime did not start");
      this.waiting.forEach(({ reject }) => reject(error));
      this.waiting.clear();
    };
  }

  /**
   * @param {object} model  an entry of the catalogue
   * @param {{pixels: Float32Array, H: number, W: number}} picture  of `seenBy`
   * @returns {Promise<Seen>}
   */
  async look(model, { pixels, H, W }) {
    this.last += 1;
    const number = this.last;
    const answer = await new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      const file = new URL(model.file, document.baseURI).href;
      this.worker.postMessage({ number, file, pixels: pixels.slice(), height: H, width: W });
    });
    return arranged(model, answer, H, W);
  }
}

/** Objects above the model's usual score, or else the three best guesses. */
function arranged(model, { found, milliseconds, threads }, H, W) {
  const scores = found.scores.values;
  const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a]);
  const good = order.filter((index) => scores[index] >= model.score);
  const chosen = (good.length ? good : order.slice(0, 3)).slice(0, MOST_OBJECTS);
  const perObject = model.K * model.M * model.M;
  const gather = (values, size) => {
    const out = new Float32Array(chosen.length * size);
    chosen.forEach((index, i) => out.set(values.subarray(index * size, (index + 1) * size), i * size));
    return out;
  };
  const [h, w] = found.bases.dims.slice(-2);
  return {
    model, H, W, h, w, milliseconds, threads,
    N: chosen.length,
    isWeak: good.length === 0,
    boxes: gather(found.boxes.values, 4),
    scores: gather(scores, 1),
    labels: chosen.map((index) => found.labels.values[index]),
    attentions: gather(found.attentions.values, perObject),
    bases: found.bases.values,
    stride: Number(found.stride.values[0]),
  };
}
