// Equations 1 to 4 of the chosen object: a row per base, a column per step, joined by their signs.

import { attentionSources, cropSources, explain, newCell } from "./equations.js";
import { BASES, paint } from "./colors.js";
import { METHOD_TEXTS } from "./panels.js";
import { GAINS } from "./state.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const HEADS = [
  ["base", "Bases <var>B</var>", "maps of the whole picture, shared by all objects", "below: strength, ", "from −1 to 3"],
  ["crop", "Crop <var>r</var>", "each base inside the box <var>p</var>; red is positive, blue negative", "equation 1", "<var>r</var> = RoIPool(<var>B</var>, <var>p</var>)"],
  ["attention", "Attention <var>a</var>", "where this object wants the base; grey: where not. ", "equation 2", "<var>a</var>′ = interpolate(<var>a</var>)"],
  ["score", "Score <var>s</var>", "the bases compete: at each cell, all <var>s</var> add up to 1", "equation 3", "<var>s</var> = softmax(<var>a</var>′)"],
  ["product", "Product", "what the base adds to the mask", "equation 4", "<var>s</var> ∘ <var>r</var>"],
];
// As equation 4 reads; the score, in brackets, is made of the attention.
const SIGNS = { crop: "›", attention: "×", score: "→", product: "=" };
// Above each tile, where there is no room for heads above the columns.
const CAPTIONS = { base: "base", crop: "crop r", attention: "attention a", score: "score s", product: "product s ∘ r", logits: "Σ = sum", result: "σ: mask" };
const NAMES = { crop: "crop", score: "score", product: "product" };

const made = (name, className = "", html = "") => {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.innerHTML = html;
  return element;
};
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
// Enough digits that crop times score is the product.
const share = (value) => value.toFixed(value < 0.0995 ? 4 : 3);

/** Change a text only where it differs: the browser lays the page out anew for every change. */
function write(element, text) {
  if (element.written === text) return;
  element.written = text;
  element.innerHTML = text;
}

/** A canvas of cells with its pixels, marks above it and a number below it. */
class Tile {
  constructor(kind, width, height, label) {
    this.kind = kind;
    this.root = made("div", `tile ${kind}`);
    this.face = made("div", "face");
    this.canvas = made("canvas");
    [this.canvas.width, this.canvas.height] = [width, height];
    this.context = this.canvas.getContext("2d");
    this.image = new ImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.number = made("output", "number");
    this.number.setAttribute("aria-hidden", "true");
    this.marks = [];
    this.face.append(this.canvas);
    this.face.setAttribute("aria-label", label);
    this.face.setAttribute("role", "img");
    this.face.dataset.tile = label;
    this.root.append(this.face, this.number);
    if (CAPTIONS[kind]) this.root.dataset.caption = CAPTIONS[kind];
    this.cells = [width, height];
  }

  draw(values, from, low, high, table) {
    paint(this.pixels, values, from, low, high, table);
    this.context.putImageData(this.image, 0, 0);
  }

  /** Outline cells: {x, y, weight}; the heavier, the stronger. */
  mark(places) {
    const [width, height] = this.cells;
    for (let i = 0; i < Math.max(places.length, this.marks.length); i += 1) {
      if (i >= this.marks.length) {
        this.marks.push(made("i", "mark"));
        this.face.append(this.marks[i]);
      }
      const { style } = this.marks[i];
      const place = places[i];
      this.marks[i].hidden = !place;
      if (!place) continue;
      style.left = `${(place.x / width) * 100}%`;
      style.top = `${(place.y / height) * 100}%`;
      style.width = `${100 / width}%`;
      style.height = `${100 / height}%`;
      style.opacity = 0.35 + 0.65 * (place.weight ?? 1);
    }
  }

  cellAt(event) {
    const frame = this.face.getBoundingClientRect();
    const [width, height] = this.cells;
    const place = (share, size) => Math.min(Math.max(Math.floor(share * size), 0), size - 1);
    return [
      place((event.clientX - frame.left) / frame.width, width),
      place((event.clientY - frame.top) / frame.height, height),
    ];
  }
}

export class Board {
  /**
   * @param {HTMLElement} root
   * @param {{point: (cell: ?number[], isPinned: boolean) => void, stroke: (cells: number[]) => void,
   *   gain: (base: number, value: number) => void, view: (base: number) => void,
   *   commit: (gesture: string) => void}} on
   */
  constructor(root, on) {
    this.root = root;
    this.on = on;
    this.brush = 1;
    this.shape = "";
  }

  // ---------------------------------------------------------------- layout

  /** Make the rows anew where a picture or a model has another shape. */
  arrange(seen) {
    const { model: { K, M, R }, h, w, H, W } = seen;
    const shape = [K, M, R, h, w, H, W].join();
    this.seen = seen;
    this.cell = newCell(K);
    if (shape === this.shape) return;
    this.shape = shape;
    this.root.replaceChildren();
    this.rows = [];
    this.root.append(this.#heads(K, M, R));
    const rows = made("div", "rows");
    for (let k = 0; k < K; k += 1) {
      this.rows.push(this.#row(k, seen));
      rows.append(this.rows[k].root);
    }
    this.root.append(rows, this.#sum(R));
    this.root.style.setProperty("--wide", Math.min(1, W / H));
    this.root.style.setProperty("--ratio", W / H);
  }

  #heads(K, M, R) {
    const heads = made("div", "heads");
    for (const [kind, title, words, equation, formula] of HEADS) {
      const head = made("div", `head ${kind}`, `<h2>${kind === "base" ? `${K} ` : ""}${title}</h2><p>${words}</p>`);
      head.title = { attention: `${M} × ${M} cells`, crop: `${R} × ${R} cells` }[kind] ?? "";
      if (equation) head.append(made("small", "", `${equation}<br>${formula}`));
      if (kind === "attention") {
        this.hint = made("b", "hint");
        this.brushes = this.#brushes();
        head.children[1].append(this.hint);
        head.append(this.brushes);
      }
      heads.append(head);
    }
    return heads;
  }

  #brushes() {
    const group = made("fieldset", "choices brushes", "<legend class='hidden'>Brush</legend>");
    for (const [value, text, title] of [[1, "+ more", "Paint: the object wants this base here"],
      [-1, "− less", "Paint: it does not want this base here"]]) {
      const label = made("label", "", `<input type="radio" name="brush" value="${value}"><span>${text.replace(" ", " <b>")}</b></span>`);
      label.title = title;
      const input = label.firstChild;
      input.checked = value === this.brush;
      input.addEventListener("change", () => { this.brush = value; });
      group.append(label);
    }
    return group;
  }

  #row(k, { model: { M, R }, H, W }) {
    const row = made("div", "line");
    row.style.setProperty("--base", BASES[k % BASES.length]);
    row.dataset.base = k;
    const name = `base ${k + 1}`;
    const tiles = {
      base: new Tile("base", W, H, name),
      crop: new Tile("crop", R, R, `crop of ${name}`),
      attention: new Tile("attention", M, M, `attention for ${name}`),
      score: new Tile("score", R, R, `score of ${name}`),
      product: new Tile("product", R, R, `product of ${name}`),
    };
    row.append(made("b", "badge", String(k + 1)));
    for (const [kind, tile] of Object.entries(tiles)) {
      if (SIGNS[kind]) row.append(made("span", `sign ${kind}`, SIGNS[kind]));
      row.append(tile.root);
      if (NAMES[kind]) this.#point(tile);
    }
    this.#baseTile(tiles.base, k);
    this.#paintTile(tiles.attention, k);
    tiles.attention.instead = made("b", "instead");
    tiles.attention.face.append(tiles.attention.instead);
    return { root: row, tiles, gain: this.#gain(tiles.base, k) };
  }

  #baseTile(tile, k) {
    tile.outline = made("i", "outline");
    tile.face.append(tile.outline);
    tile.face.setAttribute("role", "button");
    tile.face.tabIndex = 0;
    tile.face.title = `Show base ${k + 1} on the picture`;
    tile.face.addEventListener("click", () => this.on.view(k));
    tile.face.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        this.on.view(k);
      }
    });
  }

  #gain(tile, k) {
    const control = made("label", "gain", `<button class="knock" aria-pressed="false" title="Knock base ${k + 1} out"
      aria-label="Knock base ${k + 1} out">off</button><input type="range" min="${GAINS[0]}" max="${GAINS[1]}" step="0.25" value="1"
      aria-label="Strength of base ${k + 1}"><output>×1</output>`);
    const [button, slider, text] = control.children;
    slider.addEventListener("input", () => this.on.gain(k, Number(slider.value)));
    slider.addEventListener("change", () => this.on.commit("gain"));
    button.addEventListener("click", (event) => {
      event.preventDefault();
      this.on.gain(k, slider.value === "0" ? 1 : 0);
      this.on.commit("gain");
    });
    tile.number.replaceWith(control);
    return { button, slider, text };
  }

  #sum(R) {
    const sum = made("div", "sum");
    this.logits = new Tile("logits", R, R, "sum of the products");
    this.mask = new Tile("result", R, R, "mask");
    this.#point(this.logits);
    this.#point(this.mask);
    sum.append(
      made("div", "brace", "<span aria-hidden='true'>Σ</span>"),
      made("div", "head", "<h2>Sum <var>m</var></h2><p>red: inside, blue: outside</p><small>equation 4<br><var>m</var> = Σ <var>s</var> ∘ <var>r</var></small>"), this.logits.root,
      made("div", "sign down", "σ <small>sigmoid</small>"),
      made("div", "head", "<h2>Mask</h2><p>probability of each cell</p>"), this.mask.root,
    );
    this.flow = made("p", "flow");
    this.flow.setAttribute("aria-live", "polite");
    sum.append(this.flow);
    return sum;
  }

  // ---------------------------------------------------------------- gestures

  #point(tile) {
    const { face } = tile;
    face.classList.add("pointed");
    face.addEventListener("pointermove", (event) => this.on.point(tile.cellAt(event), false));
    face.addEventListener("pointerleave", () => this.on.point(null, false));
    face.addEventListener("click", (event) => this.on.point(tile.cellAt(event), true));
    if (tile.kind !== "result") return;
    face.tabIndex = 0;
    face.setAttribute("role", "application");
    face.setAttribute("aria-label", "mask. Arrows move between cells, Escape points at none.");
    face.addEventListener("keydown", (event) => {
      const step = ARROWS[event.key];
      const { R } = this.seen.model;
      const clip = (place) => Math.min(Math.max(place, 0), R - 1);
      if (step) {
        const [x, y] = this.pointed ?? [R >> 1, R >> 1];
        this.on.point([clip(x + step[0]), clip(y + step[1])], true);
      } else if (event.key === "Escape") this.on.point(null, true);
      else return;
      event.preventDefault();
    });
  }

  #paintTile(tile, k) {
    const { face } = tile;
    const { M } = this.seen.model;
    let last = null;
    let cursor = [M >> 1, M >> 1];
    face.setAttribute("role", "application");
    face.tabIndex = 0;
    face.setAttribute("aria-label", `attention for base ${k + 1}. Arrows move between cells, Space paints, plus and minus choose.`);
    const stroke = ([x, y]) => this.on.stroke((k * M + y) * M + x, this.brush);
    face.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      face.setPointerCapture(event.pointerId);
      event.preventDefault();
      face.focus({ preventScroll: true });
      last = tile.cellAt(event);
      stroke(last);
    });
    face.addEventListener("pointermove", (event) => {
      if (!last) return;
      const cell = tile.cellAt(event);
      const steps = Math.max(Math.abs(cell[0] - last[0]), Math.abs(cell[1] - last[1]));
      for (let i = 1; i <= steps; i += 1) {
        stroke(cell.map((place, axis) => Math.round(last[axis] + ((place - last[axis]) * i) / steps)));
      }
      last = cell;
    });
    const end = () => {
      if (last) this.on.commit("paint");
      last = null;
    };
    face.addEventListener("pointerup", end);
    face.addEventListener("pointercancel", end);
    face.addEventListener("keydown", (event) => {
      const step = ARROWS[event.key];
      if (step) cursor = cursor.map((place, axis) => Math.min(Math.max(place + step[axis], 0), M - 1));
      else if (event.key === " " || event.key === "Enter") {
        stroke(cursor);
        this.on.commit("paint");
      } else if (event.key === "+" || event.key === "-") {
        this.brush = event.key === "+" ? 1 : -1;
        this.root.querySelector(`[name=brush][value="${this.brush}"]`).checked = true;
      } else return;
      event.preventDefault();
      tile.mark([{ x: cursor[0], y: cursor[1] }]);
    });
    face.addEventListener("blur", () => tile.mark([]));
  }

  // ---------------------------------------------------------------- drawing

  /** The bases over the grey picture: once a picture. */
  showBases(photo, limit, tables) {
    const { w, h, W, H, bases, stride } = this.seen;
    const cells = new OffscreenCanvas(w, h);
    const context = cells.getContext("2d");
    const image = new ImageData(w, h);
    const pixels = new Uint32Array(image.data.buffer);
    this.rows.forEach(({ tiles: { base } }, k) => {
      paint(pixels, bases, k * w * h, -limit, limit, tables.veil);
      context.putImageData(image, 0, 0);
      base.context.filter = "grayscale(1) brightness(1.1)";
      base.context.drawImage(photo, 0, 0, W, H);
      base.context.filter = "none";
      base.context.drawImage(cells, 0, 0, w * stride, h * stride); // padded at the right and below
    });
  }

  /** Everything that changes with a gesture. @param {import("./blend.js").Blend} blend */
  draw(blend, state, tables) {
    const { seen: { model: { K, M, R }, W, H }, chain, limits, box } = blend;
    const canPaint = state.method === "blender";
    this.root.dataset.method = state.method;
    this.brushes.disabled = !canPaint;
    write(this.hint, canPaint ? "Paint on it" : `${METHOD_TEXTS[state.method][0]}: nothing to paint`);
    const palette = (k) => tables.base[k % BASES.length];
    this.rows.forEach(({ tiles, gain, root }, k) => {
      const from = k * R * R;
      tiles.crop.draw(chain.crops, from, -limits.bases, limits.bases, tables.signed);
      if (canPaint) {
        tiles.attention.draw(blend.attentions, k * M * M, -limits.attentions, limits.attentions, tables.attention[k % BASES.length]);
      } else {
        tiles.attention.pixels.fill(0);
        tiles.attention.context.putImageData(tiles.attention.image, 0, 0);
        write(tiles.attention.number, "");
      }
      write(tiles.attention.instead, { blender: "", weighted_sum: `one number:<br>${share(blend.coefficients[k])}`, assembler: "a fixed tile" }[state.method]);
      tiles.score.draw(chain.scores, from, 0, 1, palette(k));
      tiles.product.draw(chain.products, from, -limits.logits, limits.logits, tables.signed);
      const value = state.gains[k] ?? 1;
      root.classList.toggle("out", value === 0);
      if (gain.value !== value) {
        gain.value = value;
        gain.button.setAttribute("aria-pressed", String(value === 0));
        gain.slider.value = value;
        gain.text.textContent = `×${value}`;
      }
      const { style } = tiles.base.outline;
      style.left = `${(box[0] / W) * 100}%`;
      style.top = `${(box[1] / H) * 100}%`;
      style.width = `${((box[2] - box[0]) / W) * 100}%`;
      style.height = `${((box[3] - box[1]) / H) * 100}%`;
    });
    this.logits.draw(chain.logits, 0, -limits.logits, limits.logits, tables.signed);
    this.mask.draw(chain.probabilities, 0, 0, 1, tables.mask);
    this.#numbers(blend, state, K, M, R);
  }

  /** The numbers that flow through the cell that is pointed at, and where they come from. */
  #numbers(blend, state, K, M, R) {
    const cell = this.pointed;
    const { seen, chain, box } = blend;
    const here = cell ? [{ x: cell[0], y: cell[1], weight: 1 }] : [];
    const crops = cell ? cropSources({ H: seen.h, W: seen.w }, seen.stride, box, R, cell) : [];
    const attentions = cell && state.method === "blender"
      ? attentionSources(M, R, seen.model.interpolation, cell) : [];
    if (cell) explain(chain, { K, R }, cell, this.cell);
    this.root.classList.toggle("pointing", Boolean(cell));
    this.rows.forEach(({ tiles }, k) => {
      for (const kind of Object.keys(NAMES)) tiles[kind].mark(here);
      tiles.base.cells = [seen.W / seen.stride, seen.H / seen.stride];
      tiles.base.mark(crops);
      if (document.activeElement !== tiles.attention.face) tiles.attention.mark(attentions);
      write(tiles.crop.number, cell ? signed(this.cell.r[k]) : "");
      write(tiles.score.number, cell ? share(this.cell.s[k]) : "");
      write(tiles.product.number, cell ? signed(this.cell.products[k]) : "");
      if (state.method === "blender") write(tiles.attention.number, cell ? signed(enlarged(blend.attentions, k * M * M, M, attentions)) : "");
    });
    for (const tile of [this.logits, this.mask]) tile.mark(here);
    write(this.logits.number, cell ? signed(this.cell.sum) : "");
    write(this.mask.number, cell ? `${(this.cell.probability * 100).toFixed(0)} %` : "");
    write(this.flow, cell ? this.#sentence(K, seen.model.maskThreshold, state.method)
      : "Point at a cell of any square, and follow its numbers through the equations.");
  }

  #sentence(K, threshold, method) {
    const terms = (texts) => texts.map((text, k) => `<span style="--base:${BASES[k % BASES.length]}">${text}</span>`);
    const of = (values) => Array.from(values.subarray(0, K));
    const scores = method === "blender" ? `scores: ${terms(of(this.cell.s).map(share)).join(" + ")} ≈ <b>1</b><br>` : "";
    const verdict = this.cell.probability >= threshold ? "inside" : "outside";
    return `${scores}products: ${terms(of(this.cell.products).map(signed)).join(" ")} ≈ <b>${signed(this.cell.sum)}</b>, so <b>${verdict}</b>`;
  }
}

const enlarged = (values, from, M, sources) =>
  sources.reduce((sum, { x, y, weight }) => sum + weight * values[from + y * M + x], 0);
