// Pictures from anywhere, and as the network sees them.

const MOST_BYTES = 40e6;
const MOST_PIXELS = 60e6;
const SHOWN = 960; // longer side that the page keeps of a picture, pixels

/**
 * @typedef {object} Picture
 * @property {HTMLCanvasElement} canvas  upright
 * @property {?{height: number, width: number, objects: {name: string, box: number[], runs: number[]}[]}} truth
 */

/** A picture of the catalogue with its true objects. @returns {Promise<Picture>} */
export async function fromCatalogue(entry) {
  const [image, truth] = await Promise.all([fetched(entry.file), fetched(entry.truth)]);
  return { canvas: await upright(await image.blob()), truth: await truth.json() };
}

/**
 * A file of the user, turned upright as its EXIF data say.
 * @param {Blob} file @returns {Promise<Picture>}
 * @throws {Error} it is no picture, or too large; the message is for the user
 */
export async function fromFile(file) {
  if (file.size > MOST_BYTES) {
    throw new Error(`That file has ${Math.round(file.size / 1e6)} MB; at most ${MOST_BYTES / 1e6} MB are read.`);
  }
  let canvas;
  try {
    canvas = await upright(file, SHOWN);
  } catch (error) {
    if (error instanceof RangeError) throw error;
    throw new Error("This browser cannot read that file as a picture. JPEG, PNG and WebP work.");
  }
  return { canvas, truth: null };
}

/** The frame that a video shows. @param {HTMLVideoElement} video @returns {Picture} */
export function fromVideo(video) {
  return { canvas: drawn(video, video.videoWidth, video.videoHeight, SHOWN), truth: null };
}

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status} ${answer.statusText}`);
  return answer;
}

async function upright(blob, most = Infinity) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  try {
    if (width * height > MOST_PIXELS) {
      throw new RangeError(`That picture has ${width} x ${height} pixels; at most ${MOST_PIXELS / 1e6} million are read.`);
    }
    return drawn(bitmap, width, height, most);
  } finally {
    bitmap.close();
  }
}

function drawn(source, width, height, most) {
  const scale = Math.min(1, most / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // behind what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/**
 * The picture at the size for which the model was made, as the package resizes it.
 * @param {HTMLCanvasElement} canvas @param {object} model  an entry of the catalogue
 * @returns {{pixels: Float32Array, H: number, W: number}} 3 * H * W from 0 to 1
 * @throws {Error} it is too narrow
 */
export function seenBy(model, canvas) {
  const { width, height } = canvas;
  const [short, long] = [Math.min(width, height), Math.max(width, height)];
  const scale = Math.min(model.testSize / short, model.maxSize / long);
  const W = Math.max(1, Math.floor(width * scale + 0.5));
  const H = Math.max(1, Math.floor(height * scale + 0.5));
  if (Math.min(H, W) < model.leastSide) {
    throw new Error(`That picture is too narrow for the network: ${width} x ${height} pixels.`);
  }
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  return { pixels: resized(data, height, width, H, W), H, W };
}

/** Bilinear and antialiased: every new pixel is a tent-weighted mean, first across, then down. */
function resized(data, height, width, H, W) {
  const across = tents(width, W);
  const down = tents(height, H);
  const rows = new Float32Array(3 * height * W);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < W; x += 1) {
      const { first, weights } = across[x];
      let [red, green, blue] = [0, 0, 0];
      for (let i = 0; i < weights.length; i += 1) {
        const at = (y * width + first + i) * 4;
        red += weights[i] * data[at];
        green += weights[i] * data[at + 1];
        blue += weights[i] * data[at + 2];
      }
      const to = y * W + x;
      rows[to] = red;
      rows[height * W + to] = green;
      rows[2 * height * W + to] = blue;
    }
  }
  const pixels = new Float32Array(3 * H * W);
  for (let channel = 0; channel < 3; channel += 1) {
    for (let y = 0; y < H; y += 1) {
      const { first, weights } = down[y];
      for (let x = 0; x < W; x += 1) {
        let sum = 0;
        for (let i = 0; i < weights.length; i += 1) {
          sum += weights[i] * rows[(channel * height + first + i) * W + x];
        }
        // The package rounds to bytes, too.
        pixels[(channel * H + y) * W + x] = Math.min(Math.max(Math.round(sum), 0), 255) / 255;
      }
    }
  }
  return pixels;
}

/** For each of `size` new pixels: the first old one that it is made of, and their weights. */
function tents(old, size) {
  const scale = old / size;
  const reach = Math.max(scale, 1);
  return Array.from({ length: size }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(center - reach + 0.5));
    const end = Math.min(old, Math.floor(center + reach + 0.5));
    const weights = [];
    for (let at = first; at < end; at += 1) {
      weights.push(Math.max(0, 1 - Math.abs(at + 0.5 - center) / reach));
    }
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/**
 * The true masks at the size that the network saw: the pixel under each new centre.
 * @returns {{name: string, box: Float32Array, mask: Uint8Array}[]}
 */
export function truthAt(truth, H, W) {
  if (!truth) return [];
  const { height, width } = truth;
  return truth.objects.map(({ name, box, runs }) => {
    const whole = new Uint8Array(height * width);
    let at = 0;
    runs.forEach((length, i) => {
      if (i % 2) whole.fill(1, at, at + length);
      at += length;
    });
    const mask = new Uint8Array(H * W);
    for (let y = 0; y < H; y += 1) {
      const row = Math.floor(((y + 0.5) * height) / H) * width;
      for (let x = 0; x < W; x += 1) mask[y * W + x] = whole[row + Math.floor(((x + 0.5) * width) / W)];
    }
    const [across, down] = [W / width, H / height];
    return { name, mask, box: Float32Array.of(box[0] * across, box[1] * down, box[2] * across, box[3] * down) };
  });
}
