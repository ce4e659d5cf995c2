// What a user can change, as the page's address: whoever opens the address sees the same.

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const MOST_UNDONE = 200;
export const METHODS = ["blender", "weighted_sum", "assembler"];
export const GAINS = [-1, 3];

/**
 * @typedef {object} State
 * @property {string} model @property {string} picture  their keys; "own" is not in the catalogue
 * @property {number} object  place among the objects found
 * @property {?number[]} box  pixels that the model sees; null is the network's
 * @property {Map<number, number>} painted  attention value by index: -1 less, 0 nothing, 1 more
 * @property {boolean} blank  whether all other attentions are 0
 * @property {number[]} gains  by base; 1 changes nothing
 * @property {string} method @property {string} view  "masks" or a base's number
 * @property {?number[]} cell  column and row of the mask that is pointed at
 * @property {boolean} truth  whether the true outline is shown
 * @property {boolean} race  whether the networks of chapter 10's race are shown
 * @property {?number} step  of the tour
 */

/** @returns {State} */
export function initial(catalogue) {
  return {
    model: catalogue.models[0].key,
    picture: catalogue.pictures[0].key,
    ...untouched(),
    method: "blender",
    view: "masks",
    truth: false,
    race: false,
    step: null,
  };
}

/** The part of the state that belongs to one object. */
export const untouched = () => ({
  object: 0, box: null, painted: new Map(), blank: false, gains: [], cell: null,
});

const letters = (number) => LETTERS[number >> 6] + LETTERS[number & 63];
const number = (text) => LETTERS.indexOf(text[0]) * 64 + LETTERS.indexOf(text[1]);

/** The address' part behind the "#". What has its initial value is left out. */
export function encode(state) {
  const parts = [`m=${state.model}`, `p=${state.picture}`];
  if (state.object) parts.push(`o=${state.object}`);
  if (state.box) parts.push(`b=${state.box.join(",")}`);
  if (state.blank) parts.push("e=1");
  if (state.painted.size) {
    const cells = [...state.painted].sort((a, b) => a[0] - b[0]);
    parts.push(`a=${cells.map(([index, value]) => letters(index * 3 + value + 1)).join("")}`);
  }
  if (state.gains.some((gain) => gain !== 1)) parts.push(`g=${state.gains.join(",")}`);
  if (state.method !== "blender") parts.push(`w=${state.method}`);
  if (state.view !== "masks") parts.push(`v=${state.view}`);
  if (state.cell) parts.push(`c=${state.cell.join(",")}`);
  if (state.truth) parts.push("t=1");
  if (state.race) parts.push("r=1");
  if (state.step !== null) parts.push(`s=${state.step + 1}`);
  return parts.join("&");
}

/** The state of an address. What makes no sense has its initial value. */
export function decode(text, catalogue) {
  const given = new URLSearchParams(text.replace(/^#/, ""));
  const state = initial(catalogue);
  const numbers = (name, count) => {
    const list = (given.get(name) ?? "").split(",").map(Number);
    return given.get(name) && list.length >= count && list.every(Number.isFinite) ? list : null;
  };
  const known = (list, name, old) => (list.some((each) => each.key === name) ? name : old);
  state.model = known(catalogue.models, given.get("m"), state.model);
  state.picture = known(catalogue.pictures, given.get("p"), state.picture);
  if (given.get("p") === "own") state.picture = "own";
  const { K, M, R } = catalogue.models.find((each) => each.key === state.model);
  state.object = Math.max(0, Math.floor(numbers("o", 1)?.[0] ?? 0));
  const box = numbers("b", 4)?.slice(0, 4);
  if (box && box[2] - box[0] >= 1 && box[3] - box[1] >= 1) state.box = box.map((side) => Math.min(Math.max(side, -9999), 9999));
  state.blank = given.get("e") === "1";
  for (const pair of (given.get("a") ?? "").match(/[\w-]{2}/g) ?? []) {
    const code = number(pair);
    if (code < K * M * M * 3) state.painted.set(Math.floor(code / 3), (code % 3) - 1);
  }
  const clip = (gain) => Math.min(Math.max(gain, GAINS[0]), GAINS[1]);
  state.gains = (numbers("g", K) ?? []).slice(0, K).map(clip);
  if (METHODS.includes(given.get("w"))) state.method = given.get("w");
  const view = Number(given.get("v"));
  if (given.get("v") && view >= 0 && view < K) state.view = String(Math.floor(view));
  const cell = numbers("c", 2)?.slice(0, 2).map(Math.floor);
  if (cell && cell.every((place) => place >= 0 && place < R)) state.cell = cell;
  state.truth = given.get("t") === "1";
  state.race = given.get("r") === "1";
  const step = numbers("s", 1)?.[0];
  if (step >= 1) state.step = Math.floor(step) - 1;
  return state;
}

/** Addresses to go back and forth to. A gesture is one entry. */
export class History {
  constructor(first) {
    this.past = [];
    this.now = first;
    this.future = [];
  }

  /** A gesture has ended. @returns {boolean} whether it changed anything */
  add(text) {
    if (text === this.now) return false;
    this.past.push(this.now);
    if (this.past.length > MOST_UNDONE) this.past.shift();
    this.now = text;
    this.future.length = 0;
    return true;
  }

  undo() {
    return this.#go(this.past, this.future);
  }

  redo() {
    return this.#go(this.future, this.past);
  }

  #go(from, to) {
    if (!from.length) return null;
    to.push(this.now);
    this.now = from.pop();
    return this.now;
  }
}
