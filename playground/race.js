// The networks of chapter 10's race: each has one method, and bases that it learned for it.
// They saw the scenes when the page was built; their masks are computed here.

import { limitOf } from "./blend.js";
import { paint } from "./colors.js";
import { compute, newChain } from "./equations.js";
import { METHOD_TEXTS } from "./panels.js";

const MOST_SHOWN = 4; // bases of a network: those that add most to the mask
const TEXT = `Three networks of <b>chapter 10's race</b>, on the same features at 128 pixels. Each learned one method
  and bases of its own, in 500 steps, so the masks are rough. One box is in all of them: drag it. Small: the bases that add most to the mask.`;
const NO_SCENE = "These three networks know drawn shapes, and saw only the scenes of this page. Choose one.";
const NO_OBJECT = "There is no true object under this box for which they would have numbers. Choose another object.";

export class Race {
  /** @param {HTMLDetailsElement} root @param {{open: (isOpen: boolean) => void, loaded: () => void}} on */
  constructor(root, on) {
    this.root = root;
    this.on = on;
    this.entry = null; // what is loaded, or being loaded
    this.networks = [];
    root.innerHTML = `<summary><h2>Each method on bases of its own</h2></summary><p></p><div class="methods"></div>`;
    [, this.text, this.group] = root.children;
    root.addEventListener("toggle", () => on.open(root.open));
  }

  /** @param {import("./blend.js").Blend} blend @param {?object} entry  of the picture in the catalogue */
  draw(blend, entry, state, tables) {
    this.root.open = state.race;
    if (!state.race) return;
    if (entry !== this.entry) this.#load(entry);
    const object = blend.ownMatch;
    const has = this.networks.length > 0 && object !== null;
    this.group.hidden = !has;
    const text = this.problem ?? (!entry?.rivals ? NO_SCENE : object === null ? NO_OBJECT : TEXT);
    if (this.written !== text) this.text.innerHTML = text;
    this.written = text;
    if (!has) return;
    const view = `${blend.seen.model.key} ${state.object}`;
    const isNew = view !== this.view || tables !== this.tables;
    [this.view, this.tables] = [view, tables];
    for (const network of this.networks) {
      const size = network.K * network.M ** 2;
      network.numbers = network.allNumbers.subarray(object * size, (object + 1) * size);
      network.stride = network.ownStride * (blend.seen.W / network.width);
      if (isNew) this.#showBases(network, blend.ownBox, tables);
      network.box = blend.box;
      const { probabilities } = compute(network, network.chain);
      paint(network.pixels, probabilities, 0, 0, 1, tables.mask);
      network.mask.putImageData(network.image, 0, 0);
      const iou = blend.iou(probabilities, network.R);
      network.output.textContent = iou === null ? "" : `IoU ${iou.toFixed(2)}`;
    }
  }

  async #load(entry) {
    this.entry = entry;
    this.networks = [];
    this.problem = null;
    if (!entry?.rivals) return;
    try {
      const answer = await fetch(entry.rivals);
      if (!answer.ok) throw new Error(`${entry.rivals}: ${answer.status} ${answer.statusText}`);
      const given = await answer.json();
      if (entry !== this.entry) return;
      this.networks = given.map((each) => this.#network(each));
      this.group.replaceChildren(...this.networks.map(({ figure }) => figure));
      this.view = null;
    } catch (error) {
      if (entry === this.entry) this.problem = error.message;
    }
    this.on.loaded();
  }

  /** A `Problem` of equations.js, with its place on the page. */
  #network(given) {
    const { method, K, H, W, R } = given;
    const bases = fromHalf(given.bases);
    const figure = document.createElement("figure");
    const few = `<canvas width="${W}" height="${H}"></canvas>`.repeat(Math.min(K, MOST_SHOWN));
    figure.innerHTML = `<canvas width="${R}" height="${R}"></canvas><b>${METHOD_TEXTS[method][0]}</b>
      <small>${K} bases of its own</small><output></output><div class="few">${few}</div>`;
    const image = new ImageData(R, R);
    return {
      ...given, bases, figure, image,
      ownStride: given.stride,
      allNumbers: fromHalf(given.numbers),
      chain: newChain(K, R),
      limit: limitOf(bases),
      mask: figure.firstChild.getContext("2d"),
      pixels: new Uint32Array(image.data.buffer),
      output: figure.querySelector("output"),
    };
  }

  /** The bases that add most to the object's mask; they stay while the box is dragged. */
  #showBases(network, ownBox, tables) {
    const { K, H, W, R, bases, chain, limit, figure } = network;
    network.box = ownBox;
    const { products } = compute(network, chain);
    const adds = Array.from({ length: K }, (_, k) =>
      products.subarray(k * R * R, (k + 1) * R * R).reduce((sum, value) => sum + Math.abs(value), 0));
    const most = [...adds.keys()].sort((a, b) => adds[b] - adds[a]).slice(0, MOST_SHOWN).sort((a, b) => a - b);
    const image = new ImageData(W, H);
    figure.querySelectorAll(".few canvas").forEach((canvas, i) => {
      paint(new Uint32Array(image.data.buffer), bases, most[i] * H * W, -limit, limit, tables.signed);
      canvas.getContext("2d").putImageData(image, 0, 0);
      canvas.title = `base ${most[i] + 1}`;
    });
  }
}

/** float16, little end first, in base64 -> Float32Array. */
function fromHalf(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return Float32Array.from(new Uint16Array(bytes.buffer), (bits) => {
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction;
    return bits >> 15 ? -size : size;
  });
}
