// What follows from a state: equations 1 to 4 for the chosen object, by all three methods.
// All arrays are made once for a picture, so that a frame allocates nothing.

import { blend, clipBox, compute, newChain, paste, softmax } from "./equations.js";
import { METHODS } from "./state.js";

// Shares of the values that the colours distinguish; a few are far larger.
const SHARE = 0.995; // of bases and sums
const ATTENTIONS_SHARE = 0.9; // the cells at the border of a box are often extreme
export const BRUSH = 8; // attention of a painted cell, raw

export class Blend {
  /** @param {import("./model.js").Seen} seen @param {{mask: Uint8Array, box: Float32Array, name: string}[]} truth */
  constructor(seen, truth) {
    const { model: { K, M, R }, H, W } = seen;
    this.seen = seen;
    this.truth = truth;
    this.box = new Float64Array(4); // of the chosen object, pixels
    this.own = new Float32Array(K * M * M); // its attentions from the network
    this.attentions = new Float32Array(K * M * M); // as painted
    this.bases = new Float32Array(seen.bases.length);
    this.weights = new Float32Array(K * M * M);
    this.coefficients = new Float32Array(K);
    this.pasted = new Float32Array(H * W);
    this.mask = new Uint8Array(H * W); // of the chosen object by the chosen method
    this.ious = [null, null, null]; // by method, with the true object
    this.network = null; // IoU of the network's own mask
    this.ownMatch = null; // the true object that the chosen one is
    this.chains = METHODS.map(() => newChain(K, R));
    this.problems = METHODS.map((method) => ({
      method, bases: this.bases, K, H: seen.h, W: seen.w, stride: seen.stride, R, M,
      box: [0, 0, 1, 1],
      numbers: method === "blender" ? this.attentions : this.coefficients,
      interpolation: model(seen).interpolation,
    }));
    this.limits = { bases: limitOf(seen.bases), attentions: BRUSH, logits: 1 };
  }

  /** The chain of the chosen method. */
  get chain() {
    return this.chains[this.method];
  }

  /** Choose an object: its box, attentions and colour scales are the network's. */
  choose(object) {
    const { K, M } = model(this.seen);
    const size = K * M * M;
    this.own.set(this.seen.attentions.subarray(object * size, (object + 1) * size));
    this.ownBox = Array.from(this.seen.boxes.subarray(object * 4, object * 4 + 4));
    this.update({ box: null, painted: new Map(), blank: false, gains: [], method: "blender" });
    this.limits.logits = limitOf(this.chain.logits);
    this.limits.attentions = limitOf(this.own, ATTENTIONS_SHARE);
    this.network = this.ious[0];
    this.ownMatch = this.match;
  }

  /** @param {import("./state.js").State} state */
  update(state) {
    const { K, M, R } = model(this.seen);
    this.method = METHODS.indexOf(state.method);
    this.box.set(state.box ?? this.ownBox);
    this.attentions.set(this.own);
    if (state.blank) this.attentions.fill(0);
    for (const [index, value] of state.painted) this.attentions[index] = value * BRUSH;
    const cells = this.seen.h * this.seen.w;
    for (let k = 0; k < K; k += 1) {
      const gain = state.gains[k] ?? 1;
      for (let at = k * cells; at < (k + 1) * cells; at += 1) this.bases[at] = gain * this.seen.bases[at];
    }
    // YOLACT has one coefficient per base: the mean weight that the attention gives it.
    if (K > 1) softmax(this.attentions, K, this.weights);
    for (let k = 0; k < K; k += 1) {
      let sum = 0;
      for (let at = k * M * M; at < (k + 1) * M * M; at += 1) sum += this.weights[at];
      this.coefficients[k] = sum / (M * M);
    }
    this.match = this.#truthOf();
    METHODS.forEach((_, i) => {
      this.problems[i].box = this.box;
      const { probabilities } = compute(this.problems[i], this.chains[i]);
      this.ious[i] = this.iou(probabilities, R, i === this.method ? this.mask : null);
    });
  }

  /** IoU of a mask over the box with the true object, or null; its pixels are written to `mask`. */
  iou(probabilities, R, mask = null) {
    const { H, W, model: { maskThreshold } } = this.seen;
    paste(probabilities, R, clipBox(this.box, H, W), H, W, this.pasted);
    const truth = this.match === null ? null : this.truth[this.match].mask;
    let [both, either] = [0, 0];
    for (let at = 0; at < this.pasted.length; at += 1) {
      const isInside = this.pasted[at] >= maskThreshold ? 1 : 0;
      if (mask) mask[at] = isInside;
      if (truth) {
        both += isInside & truth[at];
        either += isInside | truth[at];
      }
    }
    return truth ? both / Math.max(either, 1) : null;
  }

  /** The true object whose box overlaps the chosen box most, or null. */
  #truthOf() {
    let [best, found] = [0, null];
    this.truth.forEach(({ box }, i) => {
      const iou = boxIou(this.box, box);
      if (iou > best) [best, found] = [iou, i];
    });
    return found;
  }

  /** Masks of all objects as the network found them: (N, H, W) bytes. */
  allMasks() {
    const { N, H, W, model: { R, maskThreshold } } = this.seen;
    const masks = Array.from({ length: N }, (_, object) => {
      this.choose(object);
      const mask = new Uint8Array(H * W);
      paste(this.chains[0].probabilities, R, clipBox(this.ownBox, H, W), H, W, this.pasted);
      this.pasted.forEach((value, at) => { mask[at] = value >= maskThreshold ? 1 : 0; });
      return mask;
    });
    return masks;
  }
}

const model = (seen) => seen.model;

function boxIou(a, b) {
  const across = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const down = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const both = Math.max(across, 0) * Math.max(down, 0);
  return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both);
}

/** The magnitude that a share of the values stays below. */
export function limitOf(values, share = SHARE) {
  const magnitudes = values.map(Math.abs).sort();
  return magnitudes[Math.floor(share * (magnitudes.length - 1))] || 1;
}
