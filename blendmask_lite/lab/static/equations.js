// Equations 1 to 4 of BlendMask, its two rivals and pasting, for a page without a kernel.
// Chapters 09 and 10. The numbers are those of model/merge.py, model/attention.py and masks.py.
//
// All maps are Float32Array, row by row: K maps of R x R are K * R * R numbers. Every function
// writes into `out` and returns it; if it is not given, a new array is made. Lengths of `out` are
// those of the result.

/** @typedef {{K: number, H: number, W: number}} BasesSize  H and W in cells, not pixels */
/** @typedef {[number, number, number, number]} Box  corners (x0, y0, x1, y1), pixels */
/** @typedef {"bilinear" | "nearest"} Interpolation */
/** @typedef {{x: number, y: number, weight: number}} Source  a cell that a value comes from */

const { fround } = Math; // the package computes places in float32; so do we, or cells would flip

// ---------------------------------------------------------------- equation 1

/**
 * Where the samples of R bins lie along one side of a box: bilinear neighbours and their share.
 * @param {number} low  start of the box, pixels
 * @param {number} high  end of the box, pixels
 * @param {number} stride  of the bases, pixels
 * @param {number} R  bins
 * @param {number} size  cells of the bases along this side
 * @param {Axis} axis  is filled
 */
function sampleAxis(low, high, stride, R, size, axis) {
  const scale = fround(1 / stride);
  const start = fround(fround(fround(low) * scale) - 0.5);
  const length = fround(fround(fround(fround(high) * scale) - 0.5) - start);
  const bin = fround(length / R);
  const half = fround(0.5 * bin);
  for (let i = 0; i < R; i += 1) {
    let place = fround(fround(start + fround(i * bin)) + half);
    const isInside = place >= -1 && place <= size;
    place = Math.max(place, 0);
    const first = Math.min(Math.floor(place), size - 1);
    axis.first[i] = first;
    axis.second[i] = Math.min(first + 1, size - 1);
    axis.share[i] = first === size - 1 ? 0 : place - first;
    axis.weight[i] = isInside ? 1 : 0;
  }
}

/** @typedef {{first: Int32Array, second: Int32Array, share: Float32Array, weight: Float32Array}} Axis */

/** @param {number} size @returns {Axis} */
const newAxis = (size) => ({
  first: new Int32Array(size),
  second: new Int32Array(size),
  share: new Float32Array(size),
  weight: new Float32Array(size),
});

const axes = { across: newAxis(0), down: newAxis(0) }; // kept, so that a frame allocates nothing

/** @param {number} across @param {number} down @returns {{across: Axis, down: Axis}} */
function roomFor(across, down) {
  if (axes.across.first.length < across) axes.across = newAxis(across);
  if (axes.down.first.length < down) axes.down = newAxis(down);
  return axes;
}

/**
 * Equation 1: RoIAlign with one sample a bin; outside the image the bases are 0.
 * @param {Float32Array} bases  K * H * W
 * @param {BasesSize} size
 * @param {number} stride  of the bases, pixels
 * @param {Box} box
 * @param {number} R  cells
 * @param {Float32Array} [out]  K * R * R
 * @returns {Float32Array}
 */
export function cropBases(bases, { K, H, W }, stride, box, R, out = new Float32Array(K * R * R)) {
  const { across, down } = roomFor(R, R);
  sampleAxis(box[0], box[2], stride, R, W, across);
  sampleAxis(box[1], box[3], stride, R, H, down);
  let at = 0;
  for (let k = 0; k < K; k += 1) {
    const map = k * H * W;
    for (let y = 0; y < R; y += 1) {
      const upper = map + down.first[y] * W;
      const lower = map + down.second[y] * W;
      const dy = down.share[y];
      for (let x = 0; x < R; x += 1, at += 1) {
        const left = across.first[x];
        const right = across.second[x];
        const dx = across.share[x];
        const top = (1 - dx) * bases[upper + left] + dx * bases[upper + right];
        const bottom = (1 - dx) * bases[lower + left] + dx * bases[lower + right];
        out[at] = down.weight[y] * across.weight[x] * ((1 - dy) * top + dy * bottom);
      }
    }
  }
  return out;
}

// Half away from zero, like C's `round`, which RoIPool uses.
const roundAway = (/** @type {number} */ value) => Math.sign(value) * Math.floor(Math.abs(value) + 0.5);

/**
 * The bases' cells from `first` up to but excluding `second` of every bin of RoIPool.
 * @param {number} low @param {number} high @param {number} stride @param {number} R
 * @param {number} size @param {Axis} axis
 */
function poolAxis(low, high, stride, R, size, axis) {
  const scale = fround(1 / stride);
  const start = roundAway(fround(fround(low) * scale));
  const end = roundAway(fround(fround(high) * scale));
  const bin = fround(Math.max(end - start + 1, 1) / R);
  for (let i = 0; i < R; i += 1) {
    const from = Math.floor(fround(i * bin)) + start;
    const to = Math.ceil(fround((i + 1) * bin)) + start;
    axis.first[i] = Math.min(Math.max(from, 0), size);
    axis.second[i] = Math.min(Math.max(to, 0), size);
  }
}

/**
 * Equation 1 with RoIPool: the largest value of each bin, 0 for a bin outside the image.
 * @param {Float32Array} bases  K * H * W
 * @param {BasesSize} size
 * @param {number} stride  of the bases, pixels
 * @param {Box} box
 * @param {number} R  cells
 * @param {Float32Array} [out]  K * R * R
 * @returns {Float32Array}
 */
export function poolBases(bases, { K, H, W }, stride, box, R, out = new Float32Array(K * R * R)) {
  const { across, down } = roomFor(R, R);
  poolAxis(box[0], box[2], stride, R, W, across);
  poolAxis(box[1], box[3], stride, R, H, down);
  let at = 0;
  for (let k = 0; k < K; k += 1) {
    for (let j = 0; j < R; j += 1) {
      for (let i = 0; i < R; i += 1, at += 1) {
        let largest = -Infinity;
        for (let y = down.first[j]; y < down.second[j]; y += 1) {
          const row = (k * H + y) * W;
          for (let x = across.first[i]; x < across.second[i]; x += 1) {
            largest = Math.max(largest, bases[row + x]);
          }
        }
        out[at] = largest === -Infinity ? 0 : largest;
      }
    }
  }
  return out;
}

// ---------------------------------------------------------------- equations 2 and 3

/** @param {number} M @param {number} R @param {Interpolation} mode @param {Axis} axis */
function enlargeAxis(M, R, mode, axis) {
  const scale = fround(M / R);
  for (let i = 0; i < R; i += 1) {
    const place = mode === "nearest"
      ? Math.min(Math.floor(fround(i * scale)), M - 1)
      : Math.max(fround(fround(fround(i + 0.5) * scale) - 0.5), 0);
    const first = Math.min(Math.floor(place), M - 1);
    axis.first[i] = first;
    axis.second[i] = Math.min(first + 1, M - 1);
    axis.share[i] = place - first;
  }
}

/**
 * Equation 2: attentions of M x M to the resolution of the mask.
 * @param {Float32Array} attentions  K * M * M, raw
 * @param {{K: number, M: number}} size
 * @param {number} R  cells
 * @param {Interpolation} [mode]
 * @param {Float32Array} [out]  K * R * R
 * @returns {Float32Array}
 */
export function enlarge(attentions, { K, M }, R, mode = "bilinear", out = new Float32Array(K * R * R)) {
  const axis = roomFor(R, R).across;
  enlargeAxis(M, R, mode, axis);
  let at = 0;
  for (let k = 0; k < K; k += 1) {
    for (let y = 0; y < R; y += 1) {
      const upper = (k * M + axis.first[y]) * M;
      const lower = (k * M + axis.second[y]) * M;
      const dy = axis.share[y];
      for (let x = 0; x < R; x += 1, at += 1) {
        const left = axis.first[x];
        const right = axis.second[x];
        const dx = axis.share[x];
        const top = (1 - dx) * attentions[upper + left] + dx * attentions[upper + right];
        const bottom = (1 - dx) * attentions[lower + left] + dx * attentions[lower + right];
        out[at] = (1 - dy) * top + dy * bottom;
      }
    }
  }
  return out;
}

/**
 * Equation 3: the K maps compete at every cell; their sum over K is one.
 * @param {Float32Array} scores  K maps of any size
 * @param {number} K
 * @param {Float32Array} [out]  as long as `scores`, and may be `scores`
 * @returns {Float32Array}
 */
export function softmax(scores, K, out = new Float32Array(scores.length)) {
  const cells = scores.length / K;
  for (let cell = 0; cell < cells; cell += 1) {
    let largest = -Infinity;
    for (let at = cell; at < scores.length; at += cells) largest = Math.max(largest, scores[at]);
    let sum = 0;
    for (let at = cell; at < scores.length; at += cells) {
      out[at] = Math.exp(scores[at] - largest);
      sum += out[at];
    }
    for (let at = cell; at < scores.length; at += cells) out[at] /= sum;
  }
  return out;
}

/**
 * 1 / (1 + exp(-x)) of every value.
 * @param {Float32Array} values
 * @param {Float32Array} [out]  as long as `values`, and may be `values`
 * @returns {Float32Array}
 */
export function sigmoid(values, out = new Float32Array(values.length)) {
  for (let at = 0; at < values.length; at += 1) out[at] = 1 / (1 + Math.exp(-values[at]));
  return out;
}

// ---------------------------------------------------------------- the rivals' score maps

/**
 * YOLACT: one coefficient per base, constant over the box.
 * @param {Float32Array} coefficients  K, raw
 * @param {number} K
 * @param {number} R  cells
 * @param {boolean} [hasTanh]  whether the coefficients pass a tanh
 * @param {Float32Array} [out]  K * R * R
 * @returns {Float32Array} score maps for `blend`
 */
export function weightedSum(coefficients, K, R, hasTanh = false, out = new Float32Array(K * R * R)) {
  for (let k = 0; k < K; k += 1) {
    out.fill(hasTanh ? Math.tanh(coefficients[k]) : coefficients[k], k * R * R, (k + 1) * R * R);
  }
  return out;
}

/**
 * FCIS: base k fills tile k of a grid over the box, row by row.
 * @param {number} K  a square number
 * @param {number} R  cells
 * @param {Float32Array} [out]  K * R * R
 * @returns {Float32Array} score maps for `blend`: 1 where base k owns the cell, else 0
 */
export function tiles(K, R, out = new Float32Array(K * R * R)) {
  const side = Math.round(Math.sqrt(K));
  if (side * side !== K) throw new RangeError(`K = ${K}: must be a square number of tiles`);
  out.fill(0);
  for (let y = 0; y < R; y += 1) {
    const row = Math.floor((y * side) / R) * side;
    for (let x = 0; x < R; x += 1) {
      const owner = row + Math.floor((x * side) / R);
      out[(owner * R + y) * R + x] = 1;
    }
  }
  return out;
}

/**
 * max(x, 0) of every value: YOLACT's bases before the sum.
 * @param {Float32Array} values
 * @param {Float32Array} [out]  as long as `values`, and may be `values`
 * @returns {Float32Array}
 */
export function relu(values, out = new Float32Array(values.length)) {
  for (let at = 0; at < values.length; at += 1) out[at] = Math.max(values[at], 0);
  return out;
}

// ---------------------------------------------------------------- equation 4

/**
 * Equation 4: the products r_k * s_k, and their sum over the bases, the mask's logits.
 * @param {Float32Array} crops  K * R * R
 * @param {Float32Array} scores  K * R * R
 * @param {number} K
 * @param {number} R  cells
 * @param {{products?: Float32Array, logits?: Float32Array}} [out]  K * R * R, and R * R
 * @returns {{products: Float32Array, logits: Float32Array}}
 */
export function blend(crops, scores, K, R, out = {}) {
  const { products = new Float32Array(K * R * R), logits = new Float32Array(R * R) } = out;
  for (let cell = 0; cell < R * R; cell += 1) {
    let sum = 0;
    for (let at = cell; at < K * R * R; at += R * R) {
      products[at] = crops[at] * scores[at];
      sum += products[at];
    }
    logits[cell] = sum;
  }
  return { products, logits };
}

/**
 * The blender with K = 1, which has nothing to compete with: the logit of a product of sigmoids
 * (section 4.1). Its score map is `sigmoid(maps)`.
 * @param {Float32Array} crops  R * R
 * @param {Float32Array} maps  R * R, enlarged raw attentions
 * @param {Float32Array} [out]  R * R logits
 * @returns {Float32Array}
 */
export function blendOne(crops, maps, out = new Float32Array(crops.length)) {
  for (let cell = 0; cell < crops.length; cell += 1) {
    const [b, a] = [-crops[cell], -maps[cell]];
    const largest = Math.max(b, a, b + a);
    out[cell] = -largest
      - Math.log(Math.exp(b - largest) + Math.exp(a - largest) + Math.exp(b + a - largest));
  }
  return out;
}

/** @typedef {"blender" | "weighted_sum" | "assembler"} Method */
/**
 * @typedef {object} Problem
 * @property {Method} method  how the bases are combined
 * @property {Float32Array} bases  at least K * H * W; the first K maps are used
 * @property {number} K  bases in use; for "assembler" a square number
 * @property {number} H  cells
 * @property {number} W  cells
 * @property {number} stride  of the bases, pixels
 * @property {Box} box
 * @property {number} R  cells
 * @property {number} M  cells; only for "blender"
 * @property {Float32Array} numbers  raw attentions (K * M * M), coefficients (K), or nothing
 * @property {Interpolation} [interpolation]  of the attentions
 * @property {"align" | "pool"} [pooling]  of the bases
 * @property {boolean} [hasTanh]  only for "weighted_sum"
 * @property {boolean} [hasRelu]  only for "weighted_sum"
 */
/**
 * @typedef {object} Chain  what equations 1 to 4 compute, from first to last
 * @property {Float32Array} crops  K * R * R, as they enter the product
 * @property {Float32Array} scores  K * R * R
 * @property {Float32Array} products  K * R * R
 * @property {Float32Array} logits  R * R
 * @property {Float32Array} probabilities  R * R
 */

/**
 * Arrays for `compute`, to be used again as long as K and R stay.
 * @param {number} K
 * @param {number} R
 * @returns {Chain}
 */
export function newChain(K, R) {
  const [maps, mask] = [K * R * R, R * R];
  return {
    crops: new Float32Array(maps),
    scores: new Float32Array(maps),
    products: new Float32Array(maps),
    logits: new Float32Array(mask),
    probabilities: new Float32Array(mask),
  };
}

/**
 * All of equations 1 to 4 for one object and one method.
 * @param {Problem} problem
 * @param {Chain} [chain]  from `newChain(K, R)`, is filled
 * @returns {Chain}
 */
export function compute(problem, chain = newChain(problem.K, problem.R)) {
  const { method, bases, K, stride, box, R, M, numbers } = problem;
  const { crops, scores } = chain;
  const crop = problem.pooling === "pool" ? poolBases : cropBases;
  crop(bases, problem, stride, box, R, crops);
  if (method === "weighted_sum") {
    if (problem.hasRelu) relu(crops, crops);
    weightedSum(numbers, K, R, problem.hasTanh, scores);
  } else if (method === "assembler") {
    tiles(K, R, scores);
  } else {
    enlarge(numbers, { K, M }, R, problem.interpolation, scores);
    if (K === 1) {
      blendOne(crops, scores, chain.probabilities); // kept there until the products are made
      sigmoid(scores, scores);
    } else softmax(scores, K, scores);
  }
  blend(crops, scores, K, R, chain);
  if (method === "blender" && K === 1) chain.logits.set(chain.probabilities);
  sigmoid(chain.logits, chain.probabilities);
  return chain;
}

// ---------------------------------------------------------------- back into the image

/**
 * A box cut at the image's border, along which masks are pasted.
 * @param {Box} box @param {number} H  pixels @param {number} W  pixels @returns {Box}
 */
export function clipBox([x0, y0, x1, y1], H, W) {
  const within = (/** @type {number} */ side, /** @type {number} */ most) =>
    Math.min(Math.max(side, 0), most);
  return [within(x0, W), within(y0, H), within(x1, W), within(y1, H)];
}

/**
 * The whole pixels that a box touches, and one around them.
 * @param {Box} box @param {number} H  pixels @param {number} W  pixels @returns {Box}
 */
export function touchedPixels([x0, y0, x1, y1], H, W) {
  const [left, top] = [Math.floor(fround(x0)) - 1, Math.floor(fround(y0)) - 1];
  return clipBox([left, top, Math.ceil(fround(x1)) + 1, Math.ceil(fround(y1)) + 1], H, W);
}

/** @param {number} low @param {number} high @param {number} from @param {number} to
 *  @param {number} R @param {Axis} axis */
function pasteAxis(low, high, from, to, R, axis) {
  const [start, end] = [fround(low), fround(high)];
  const length = fround(end - start);
  for (let pixel = from; pixel < to; pixel += 1) {
    const place = fround(fround(fround(fround(pixel + 0.5 - start) / length) * R) - 0.5);
    const first = Math.floor(place);
    const share = place - first;
    const i = pixel - from;
    // Two neighbours with tent weights; a neighbour outside the mask is 0.
    axis.first[i] = Math.min(Math.max(first, 0), R - 1);
    axis.second[i] = Math.min(Math.max(first + 1, 0), R - 1);
    axis.weight[i] = first >= 0 && first < R ? 1 - share : 0;
    axis.share[i] = first + 1 >= 0 && first + 1 < R ? share : 0;
  }
}

/**
 * A mask resized to its box and put into an empty image, before the threshold.
 * @param {Float32Array} mask  R * R probabilities
 * @param {number} R  cells
 * @param {Box} box  as a detection has it: clipped to the image by `clipBox`
 * @param {number} H  pixels
 * @param {number} W  pixels
 * @param {Float32Array} [out]  H * W
 * @returns {Float32Array} probabilities, 0 farther than a pixel from the box
 */
export function paste(mask, R, box, H, W, out = new Float32Array(H * W)) {
  out.fill(0);
  const [x0, y0, x1, y1] = touchedPixels(box, H, W);
  if (!(box[0] < box[2] && box[1] < box[3])) return out;
  const { across, down } = roomFor(x1 - x0, y1 - y0);
  pasteAxis(box[0], box[2], x0, x1, R, across);
  pasteAxis(box[1], box[3], y0, y1, R, down);
  for (let j = 0; j < y1 - y0; j += 1) {
    const upper = down.first[j] * R;
    const lower = down.second[j] * R;
    const [a, b] = [down.weight[j], down.share[j]];
    const row = (y0 + j) * W + x0;
    for (let i = 0; i < x1 - x0; i += 1) {
      const left = across.first[i];
      const right = across.second[i];
      out[row + i] = across.weight[i] * (a * mask[upper + left] + b * mask[lower + left])
        + across.share[i] * (a * mask[upper + right] + b * mask[lower + right]);
    }
  }
  return out;
}

// ---------------------------------------------------------------- the numbers of one cell

/**
 * Equation 4 at one cell of the mask.
 * @typedef {object} Cell
 * @property {Float32Array} r  K values of the crops
 * @property {Float32Array} s  K scores
 * @property {Float32Array} products  K values r_k * s_k
 * @property {number} sum  the mask's logit (for a blender with K = 1 not quite the product)
 * @property {number} probability  its sigmoid
 */

/**
 * The numbers that flow through cell (x, y) of the mask.
 * @param {Chain} chain  as `compute` filled it
 * @param {{K: number, R: number}} size
 * @param {[number, number]} cell  column and row
 * @param {Cell} [out]  from an earlier call with the same K
 * @returns {Cell}
 */
export function explain(chain, { K, R }, [x, y], out = newCell(K)) {
  const at = y * R + x;
  for (let k = 0; k < K; k += 1) {
    out.r[k] = chain.crops[k * R * R + at];
    out.s[k] = chain.scores[k * R * R + at];
    out.products[k] = chain.products[k * R * R + at];
  }
  out.sum = chain.logits[at];
  out.probability = chain.probabilities[at];
  return out;
}

/** @param {number} K @returns {Cell} */
export const newCell = (K) => ({
  r: new Float32Array(K),
  s: new Float32Array(K),
  products: new Float32Array(K),
  sum: 0,
  probability: 0,
});

/** @param {Axis} across @param {Axis} down @returns {Source[]} */
function sources(across, down) {
  /** @type {Source[]} */
  const found = [];
  for (const [y, dy] of [[down.first[0], 1 - down.share[0]], [down.second[0], down.share[0]]]) {
    for (const [x, dx] of [[across.first[0], 1 - across.share[0]], [across.second[0], across.share[0]]]) {
      if (dx * dy > 0) found.push({ x, y, weight: dx * dy });
    }
  }
  return found;
}

/** @param {Axis} axis @param {number} i @returns {Axis} */
const single = (axis, i) => ({
  first: axis.first.subarray(i, i + 1),
  second: axis.second.subarray(i, i + 1),
  share: axis.share.subarray(i, i + 1),
  weight: axis.weight.subarray(i, i + 1),
});

/**
 * The cells of a base that cell (x, y) of its crop is made of, by RoIAlign; their weights sum to 1.
 * @param {{H: number, W: number}} size  of the base, cells
 * @param {number} stride  pixels
 * @param {Box} box
 * @param {number} R  cells
 * @param {[number, number]} cell  column and row
 * @returns {Source[]} up to 4; none outside the image
 */
export function cropSources({ H, W }, stride, box, R, [x, y]) {
  const { across, down } = roomFor(R, R);
  sampleAxis(box[0], box[2], stride, R, W, across);
  sampleAxis(box[1], box[3], stride, R, H, down);
  return across.weight[x] * down.weight[y] === 0 ? [] : sources(single(across, x), single(down, y));
}

/**
 * The cells of an M x M attention that cell (x, y) of its R x R map is made of.
 * @param {number} M @param {number} R @param {Interpolation} mode
 * @param {[number, number]} cell  column and row
 * @returns {Source[]} up to 4, whose weights sum to 1
 */
export function attentionSources(M, R, mode, [x, y]) {
  const axis = roomFor(R, R).across;
  enlargeAxis(M, R, mode, axis);
  return sources(single(axis, x), single(axis, y));
}
