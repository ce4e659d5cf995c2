// The picture: masks of all objects, the chosen one with its box, and a base over it on demand.

import { OBJECTS, packedColor, paint } from "./colors.js";

const HANDLES = [[-1, -1], [0, -1], [1, -1], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0]];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const LEAST = 6; // side of a box, pixels
const STILL = 4; // a press that moves less is a click, CSS pixels
const CHOSEN = packedColor(OBJECTS[0], 130);
const RIM = packedColor("#ffffff", 255);
const TRUE = packedColor("#ffd400", 255);

export class Stage {
  /**
   * @param {{box: (box: number[]) => void, commit: (gesture: string) => void,
   *   choose: (object: number) => void, point: (cell: ?number[]) => void}} on
   */
  constructor(on) {
    this.on = on;
    for (const name of ["stage", "photo", "over", "chosen", "outlines", "box", "spot"]) {
      this[name] = document.getElementById(name);
    }
    for (const [x, y] of HANDLES) {
      const handle = document.createElement("i");
      handle.className = "handle";
      handle.dataset.side = `${x},${y}`;
      handle.style.cssText = `left:${(x + 1) * 50}%;top:${(y + 1) * 50}%`;
      handle.style.cursor = x * y === 0 ? (x ? "ew-resize" : "ns-resize") : (x === y ? "nwse-resize" : "nesw-resize");
      this.box.append(handle);
    }
    this.#listen();
  }

  /** A picture, before the network has seen it. @param {HTMLCanvasElement} canvas */
  show(canvas) {
    [this.photo.width, this.photo.height] = [canvas.width, canvas.height];
    this.photo.getContext("2d").drawImage(canvas, 0, 0);
    this.stage.style.setProperty("--ratio", canvas.width / canvas.height);
    this.stage.classList.toggle("coarse", Math.max(canvas.width, canvas.height) < 300);
    this.clear();
  }

  /** Take away all that belongs to objects. */
  clear() {
    this.seen = null;
    this.box.hidden = true;
    this.outlines.replaceChildren();
    for (const canvas of [this.over, this.chosen]) canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  }

  /** @param {import("./model.js").Seen} seen @param {Uint8Array[]} masks  of all its objects */
  arrange(seen, masks) {
    const { H, W, w, h, stride } = seen;
    this.seen = seen;
    this.masks = masks;
    this.areas = masks.map((mask) => mask.reduce((sum, value) => sum + value, 0));
    [this.over.width, this.over.height] = [W, H];
    [this.chosen.width, this.chosen.height] = [W, H];
    this.image = new ImageData(W, H);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.cells = new OffscreenCanvas(w, h);
    this.cellImage = new ImageData(w, h);
    this.cellPixels = new Uint32Array(this.cellImage.data.buffer);
    this.padded = [w * stride, h * stride];
    this.outlines.setAttribute("viewBox", `0 0 ${W} ${H}`);
    this.outlines.replaceChildren(...masks.map((_, i) => {
      const [x0, y0, x1, y1] = seen.boxes.subarray(i * 4, i * 4 + 4);
      const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const sides = { x: x0, y: y0, width: x1 - x0, height: y1 - y0, stroke: OBJECTS[(i + 1) % OBJECTS.length] };
      for (const [name, value] of Object.entries(sides)) rect.setAttribute(name, value);
      return rect;
    }));
    this.box.hidden = false;
  }

  /** What lies over the picture but does not change with a gesture: other objects, or a base. */
  drawOver(state, limit, tables) {
    const { model: { R }, bases, w, h } = this.seen;
    const context = this.over.getContext("2d");
    const isBase = state.view !== "masks";
    this.stage.classList.toggle("grey", isBase);
    context.clearRect(0, 0, this.over.width, this.over.height);
    if (isBase) {
      paint(this.cellPixels, bases, Number(state.view) * w * h, -limit, limit, tables.veil);
      this.cells.getContext("2d").putImageData(this.cellImage, 0, 0);
      context.drawImage(this.cells, 0, 0, ...this.padded);
    } else {
      this.pixels.fill(0);
      this.masks.forEach((mask, i) => {
        if (i === state.object) return;
        const color = packedColor(OBJECTS[(i + 1) % OBJECTS.length], 95);
        for (let at = 0; at < mask.length; at += 1) if (mask[at]) this.pixels[at] = color;
      });
      context.putImageData(this.image, 0, 0);
    }
    [...this.outlines.children].forEach((rect, i) => rect.classList.toggle("here", i === state.object));
  }

  /** The chosen object's mask and box. @param {import("./blend.js").Blend} blend */
  draw(blend, state) {
    const { W, H } = this.seen;
    const { mask, box, match, truth } = blend;
    const isBase = state.view !== "masks";
    const goal = state.truth && match !== null ? truth[match].mask : null;
    const { pixels } = this;
    for (let y = 0, at = 0; y < H; y += 1) {
      for (let x = 0; x < W; x += 1, at += 1) {
        pixels[at] = mask[at] ? (isRim(mask, x, y, at, W, H) ? RIM : isBase ? 0 : CHOSEN) : 0;
        if (goal?.[at] && isRim(goal, x, y, at, W, H)) pixels[at] = TRUE;
      }
    }
    this.chosen.getContext("2d").putImageData(this.image, 0, 0);
    const { style } = this.box;
    style.left = `${(box[0] / W) * 100}%`;
    style.top = `${(box[1] / H) * 100}%`;
    style.width = `${((box[2] - box[0]) / W) * 100}%`;
    style.height = `${((box[3] - box[1]) / H) * 100}%`;
    this.now = box;
  }

  /** Mark the cell of the mask that is pointed at, or none. */
  mark(cell) {
    this.spot.hidden = !cell;
    if (!cell) return;
    const { W, H, model: { R } } = this.seen;
    const [x0, y0, x1, y1] = this.now;
    const { style } = this.spot;
    style.left = `${((x0 + ((cell[0] + 0.5) / R) * (x1 - x0)) / W) * 100}%`;
    style.top = `${((y0 + ((cell[1] + 0.5) / R) * (y1 - y0)) / H) * 100}%`;
  }

  // ---------------------------------------------------------------- gestures

  #place(event) {
    const frame = this.stage.getBoundingClientRect();
    const { W, H } = this.seen;
    return [((event.clientX - frame.left) / frame.width) * W, ((event.clientY - frame.top) / frame.height) * H];
  }

  #objectAt([x, y]) {
    const { W, H } = this.seen;
    if (x < 0 || y < 0 || x >= W || y >= H) return -1;
    const at = Math.floor(y) * W + Math.floor(x);
    const there = this.masks.map((mask, i) => (mask[at] ? i : -1)).filter((i) => i >= 0);
    return there.sort((a, b) => this.areas[a] - this.areas[b])[0] ?? -1;
  }

  #cellAt([x, y]) {
    const [x0, y0, x1, y1] = this.now;
    const { R } = this.seen.model;
    const cell = [Math.floor(((x - x0) / (x1 - x0)) * R), Math.floor(((y - y0) / (y1 - y0)) * R)];
    return cell.every((place) => place >= 0 && place < R) ? cell : null;
  }

  #listen() {
    let drag = null;
    this.stage.addEventListener("pointerdown", (event) => {
      if (!this.seen || event.button) return;
      const side = event.target.dataset?.side?.split(",").map(Number);
      const isBox = side || event.target === this.box;
      drag = { start: this.#place(event), from: [event.clientX, event.clientY], box: Array.from(this.now), side: side ?? [0, 0], isBox, canDraw: isBox || event.pointerType !== "touch", hasMoved: false };
      if (drag.canDraw) this.stage.setPointerCapture(event.pointerId);
    });
    this.stage.addEventListener("pointermove", (event) => {
      if (!this.seen) return;
      if (!drag) {
        this.on.point(this.#cellAt(this.#place(event)));
        return;
      }
      const [dx, dy] = [event.clientX - drag.from[0], event.clientY - drag.from[1]];
      if (!drag.hasMoved && Math.hypot(dx, dy) < STILL) return;
      drag.hasMoved = true;
      if (!drag.canDraw) return; // a finger beside the box scrolls the page
      const [x, y] = this.#place(event);
      this.on.box(drag.isBox ? this.#moved(drag.box, drag.side, x - drag.start[0], y - drag.start[1])
        : this.#between(drag.start, [x, y]));
    });
    const end = (event) => {
      if (!drag) return;
      const { hasMoved, canDraw, start } = drag;
      drag = null;
      if (event.type === "pointercancel") return;
      if (hasMoved && canDraw) this.on.commit("box");
      else if (!hasMoved) {
        const object = this.#objectAt(start);
        if (object >= 0) this.on.choose(object);
      }
    };
    this.stage.addEventListener("pointerup", end);
    this.stage.addEventListener("pointercancel", end);
    this.stage.addEventListener("pointerleave", () => { if (!drag && this.seen) this.on.point(null); });
    this.stage.addEventListener("keydown", (event) => {
      const step = ARROWS[event.key];
      if (!this.seen || (!step && event.key !== "Escape")) return;
      event.preventDefault();
      if (!step) {
        this.on.point(null, true);
        return;
      }
      const far = event.ctrlKey || event.metaKey ? 1 : Math.max(1, this.seen.W / 64);
      this.on.box(this.#moved(Array.from(this.now), event.shiftKey ? [1, 1] : [0, 0], step[0] * far, step[1] * far, event.shiftKey && step));
    });
    this.stage.addEventListener("keyup", (event) => { if (ARROWS[event.key] && this.seen) this.on.commit("box"); });
  }

  /** A new box with two places as its corners, in any order. */
  #between(a, b) {
    const size = [this.seen.W, this.seen.H];
    const inside = [a, b].map((place) => place.map((value, axis) => Math.min(Math.max(value, 0), size[axis])));
    const low = size.map((most, axis) => Math.min(inside[0][axis], inside[1][axis], most - LEAST));
    return [...low, ...low.map((least, axis) => Math.max(inside[0][axis], inside[1][axis], least + LEAST))];
  }

  #moved([x0, y0, x1, y1], [x, y], dx, dy) {
    const { W, H } = this.seen;
    const clip = (value, low, high) => Math.min(Math.max(value, low), high);
    if (x === 0 && y === 0) {
      const [right, down] = [clip(dx, Math.min(0, -x0), Math.max(0, W - x1)), clip(dy, Math.min(0, -y0), Math.max(0, H - y1))];
      return [x0 + right, y0 + down, x1 + right, y1 + down];
    }
    return [
      x < 0 ? clip(x0 + dx, Math.min(0, x0), x1 - LEAST) : x0,
      y < 0 ? clip(y0 + dy, Math.min(0, y0), y1 - LEAST) : y0,
      x > 0 ? clip(x1 + dx, x0 + LEAST, Math.max(W, x1)) : x1,
      y > 0 ? clip(y1 + dy, y0 + LEAST, Math.max(H, y1)) : y1,
    ];
  }
}

const isRim = (mask, x, y, at, W, H) =>
  x === 0 || y === 0 || x === W - 1 || y === H - 1
  || !mask[at - 1] || !mask[at + 1] || !mask[at - W] || !mask[at + W];
