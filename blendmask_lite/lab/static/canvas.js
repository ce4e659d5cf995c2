// The shared canvas: panels of crisp cells, one box with handles, a brush, a pointer.
// Python holds the state; the page reports what the user does and draws what comes back. Files that
// draw ahead of Python build on the classes exported here.

const SILENCE = 4000; // milliseconds until the page says that no kernel answers
const BREAK = 800; // milliseconds after which another key press is a gesture of its own
const HANDLES = [
  [-1, -1, "nwse-resize"], [0, -1, "ns-resize"], [1, -1, "nesw-resize"], [1, 0, "ew-resize"],
  [1, 1, "nwse-resize"], [0, 1, "ns-resize"], [-1, 1, "nesw-resize"], [-1, 0, "ew-resize"],
];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const HELP = {
  box: "Arrows move the box, Shift and arrows resize it, Control makes small steps.",
  paint: "Arrows move between cells, Space paints, plus and minus change the value.",
  hover: "Arrows move between pixels, Escape points at none.",
};

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
export const asBytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function shape(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// ---------------------------------------------------------------- what is reported, and when

export class Reporter {
  // Only one event is on its way at a time; later ones wait, and only the latest is kept.
  constructor(model) {
    this.model = model;
    this.waiting = new Map();
    this.flying = null;
    this.last = Date.now(); // larger than on any earlier page, so that numbers do not repeat
    this.onSilence = new Set();
    model.on("change:done", () => {
      if (model.get("done") === this.flying) this.land();
    });
  }

  get isBusy() {
    return this.flying !== null || this.waiting.size > 0;
  }

  newNumber() {
    this.last += 1;
    return this.last;
  }

  post(event) {
    const name = event.kind === "paint" ? `paint ${event.panel} ${event.gesture}`
      : event.kind === "key" ? `key ${event.key}` : event.kind;
    const before = this.waiting.get(name);
    if (before && event.kind === "key") event.count += before.count;
    if (before && event.kind === "paint") {
      const cells = new Map([...before.cells, ...event.cells].map((cell) => [cell.join(), cell]));
      event.cells = [...cells.values()];
    }
    this.waiting.set(name, event);
    if (this.flying === null) this.next();
  }

  next() {
    const [first] = this.waiting;
    if (!first) return;
    this.waiting.delete(first[0]);
    this.flying = this.newNumber();
    this.timer = setTimeout(() => {
      this.flying = null;
      this.waiting.clear();
      this.onSilence.forEach((tell) => tell(true));
    }, SILENCE);
    this.model.send({ ...first[1], id: this.flying });
  }

  land() {
    clearTimeout(this.timer);
    this.flying = null;
    this.onSilence.forEach((tell) => tell(false));
    this.next();
  }
}

// ---------------------------------------------------------------- the box

// From where the pointer went down to where it is, in any direction.
function drawnBox(from, to, extent, smallest) {
  const sides = [0, 1].map((axis) => {
    const [low, high] = [from[axis], clamp(to[axis], 0, extent[axis])].sort((a, b) => a - b);
    const start = Math.min(low, extent[axis] - smallest);
    return [start, Math.max(high, start + smallest)];
  });
  return [sides[0][0], sides[1][0], sides[0][1], sides[1][1]];
}

function movedBox(box, [x, y], dx, dy, [width, height], smallest) {
  const [x0, y0, x1, y1] = box;
  if (x === 0 && y === 0) {
    const right = clamp(dx, Math.min(0, -x0), Math.max(0, width - x1));
    const down = clamp(dy, Math.min(0, -y0), Math.max(0, height - y1));
    return [x0 + right, y0 + down, x1 + right, y1 + down];
  }
  return [
    x < 0 ? clamp(x0 + dx, Math.min(0, x0), x1 - smallest) : x0,
    y < 0 ? clamp(y0 + dy, Math.min(0, y0), y1 - smallest) : y0,
    x > 0 ? clamp(x1 + dx, x0 + smallest, Math.max(width, x1)) : x1,
    y > 0 ? clamp(y1 + dy, y0 + smallest, Math.max(height, y1)) : y1,
  ];
}

// ---------------------------------------------------------------- one panel

export class PanelView {
  constructor(spec, board) {
    this.spec = spec;
    this.board = board;
    this.cursor = null; // the cell that the keyboard or the pointer is at
    this.drag = null;
    this.keys = { time: 0, gesture: 0 };
    this.act = ["box", "paint", "hover"].find((act) => spec.acts.includes(act));
    this.root = element("figure", "bm-panel");
    this.root.style.setProperty("--bm-size", `${spec.size}px`);
    if (spec.title) {
      const title = element("figcaption", "", spec.title);
      if (spec.color) title.style.setProperty("--bm-base", spec.color);
      title.classList.toggle("bm-base", Boolean(spec.color));
      this.root.append(title);
    }
    this.stage = element("div", "bm-stage");
    this.stage.dataset.panel = spec.key;
    this.stage.style.aspectRatio = `${spec.width} / ${spec.height}`;
    this.picture = this.layer("bm-picture");
    if (spec.overlay) this.over = this.layer("bm-over");
    this.svg = shape("svg", { viewBox: `0 0 ${spec.width} ${spec.height}`, "aria-hidden": true });
    this.stage.append(this.svg);
    this.root.append(this.stage);
    if (spec.value !== null) {
      this.value = element("div", "bm-value", spec.value);
      this.root.append(this.value);
    }
    this.stage.setAttribute("aria-label", spec.label + (this.act ? `. ${HELP[this.act]}` : ""));
    this.stage.setAttribute("role", this.act ? "application" : "img");
    if (this.act) this.listen();
  }

  layer(className) {
    const canvas = element("canvas", className);
    canvas.width = this.spec.width;
    canvas.height = this.spec.height;
    this.stage.append(canvas);
    return canvas;
  }

  // ---- drawing

  async draw(view) {
    const bytes = asBytes(view);
    const { palette, width, height } = this.spec;
    const context = this.picture.getContext("2d", { willReadFrequently: !this.spec.overlay });
    if (palette === "png") {
      this.latest = view;
      const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
      if (this.latest === view) this.drawPicture(context, bitmap);
      bitmap.close();
      return;
    }
    context.putImageData(this.pixels(bytes, palette, width, height), 0, 0);
  }

  // An image may be finer than the cells that can be pointed at.
  drawPicture(context, bitmap) {
    const { canvas } = context;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
      canvas.style.imageRendering = "auto";
    }
    context.drawImage(bitmap, 0, 0);
  }

  drawOver(part) {
    const context = this.over.getContext("2d");
    context.clearRect(0, 0, this.spec.width, this.spec.height);
    if (!part || part.width * part.height === 0) return;
    const bytes = asBytes(part.pixels);
    const pixels = this.pixels(bytes, this.spec.overlay, part.width, part.height);
    context.putImageData(pixels, part.x, part.y);
  }

  pixels(bytes, palette, width, height) {
    const image = new ImageData(width, height);
    const colors = this.board.colors(palette);
    const cells = new Uint32Array(image.data.buffer);
    for (let i = 0; i < cells.length; i += 1) cells[i] = colors[bytes[i]];
    return image;
  }

  // Lines above the pixels: box, marks, and where the pointer is.
  outline() {
    const perPixel = this.spec.width / (this.stage.clientWidth || this.spec.size);
    const parts = [];
    const rectangle = (className, x, y, width, height) =>
      parts.push(shape("rect", { class: className, x, y, width, height }));
    for (const mark of this.board.marks(this.spec.key)) {
      const className = mark.weight === null ? "bm-mark" : "bm-mark bm-weighed";
      const grow = Math.max(0, 5 * perPixel - mark.width) / 2; // cells too small to be seen
      const place = [mark.x - grow, mark.y - grow, mark.width + 2 * grow, mark.height + 2 * grow];
      rectangle(`${className} bm-under`, ...place);
      rectangle(className, ...place);
      if (mark.weight !== null) parts.at(-1).style.fillOpacity = 0.75 * mark.weight;
      if (mark.weight === null || mark.width < 26 * perPixel) continue;
      const at = { x: mark.x + mark.width / 2, y: mark.y + mark.height / 2 };
      const size = Math.min(11 * perPixel, mark.width * 0.45);
      const style = `font-size: ${size}px; stroke-width: ${size / 4}px`;
      parts.push(shape("text", { class: "bm-number", ...at, style }, mark.weight.toFixed(2)));
    }
    const box = this.board.box;
    if (box.length === 4 && this.spec.acts.some((act) => act.endsWith("box"))) {
      const [x0, y0, x1, y1] = box.map((side) => side / this.spec.unit);
      rectangle("bm-box bm-under", x0, y0, x1 - x0, y1 - y0);
      rectangle("bm-box", x0, y0, x1 - x0, y1 - y0);
      const side = 9 * perPixel;
      for (const [x, y] of this.act === "box" ? HANDLES : []) {
        const [left, top] = [(x0 + x1 + x * (x1 - x0)) / 2, (y0 + y1 + y * (y1 - y0)) / 2];
        rectangle("bm-handle", left - side / 2, top - side / 2, side, side);
      }
    }
    if (this.cursor && this.act !== "box") {
      const size = this.act === "paint" ? this.board.brushSize : 1;
      const [x, y] = this.cursor.map((place) => place - Math.floor((size - 1) / 2));
      rectangle("bm-cursor bm-under", x, y, size, size);
      rectangle("bm-cursor", x, y, size, size);
    }
    this.svg.replaceChildren(...parts);
  }

  // ---- pointer

  listen() {
    this.stage.tabIndex = 0;
    this.stage.classList.add(`bm-${this.act}`);
    this.stage.dataset.lmSuppressShortcuts = "true"; // or JupyterLab would intercept the arrow keys
    const on = (name, handler) => this.stage.addEventListener(name, handler);
    on("keydown", (event) => this.key(event));
    on("pointerdown", (event) => this.down(event));
    on("pointerenter", (event) => this.move(event)); // without a move, if the view comes to it
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", (event) => this.up(event));
    on("pointerleave", () => {
      if (this.drag) return;
      this.cursor = null;
      if (this.pointed) this.point(null);
      this.outline();
    });
    on("blur", () => this.board.settle());
  }

  at(event) {
    const frame = this.stage.getBoundingClientRect();
    return [
      ((event.clientX - frame.left) / frame.width) * this.spec.width,
      ((event.clientY - frame.top) / frame.height) * this.spec.height,
    ];
  }

  cellAt(event) {
    const [x, y] = this.at(event);
    return [
      clamp(Math.floor(x), 0, this.spec.width - 1),
      clamp(Math.floor(y), 0, this.spec.height - 1),
    ];
  }

  // Which part of the box a pointer is at: a handle, the inside ([0, 0]), or none.
  grip(event) {
    const box = this.board.box;
    if (box.length !== 4) return null;
    const frame = this.stage.getBoundingClientRect();
    const perPixel = (this.spec.width * this.spec.unit) / frame.width;
    const reach = (event.pointerType === "touch" ? 22 : 9) * perPixel;
    const [x, y] = this.at(event).map((place) => place * this.spec.unit);
    const [x0, y0, x1, y1] = box;
    let best = x > x0 && x < x1 && y > y0 && y < y1 ? [0, 0, "move"] : null;
    let nearest = reach;
    for (const handle of HANDLES) {
      const [left, top] = [
        (x0 + x1 + handle[0] * (x1 - x0)) / 2, (y0 + y1 + handle[1] * (y1 - y0)) / 2,
      ];
      const distance = Math.max(Math.abs(x - left), Math.abs(y - top));
      if (distance <= nearest) [best, nearest] = [handle, distance];
    }
    return best;
  }

  down(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.stage.focus({ preventScroll: true });
    this.stage.setPointerCapture(event.pointerId);
    const gesture = this.board.reporter.newNumber();
    this.drag = { gesture, from: this.at(event), box: this.board.box, cell: this.cellAt(event) };
    if (this.act === "box") {
      this.drag.handle = this.grip(event); // none: a box from scratch
    } else if (this.act === "paint") {
      this.stroke(this.drag.cell, false);
    } else {
      this.point(this.cellAt(event));
    }
  }

  move(event) {
    if (this.act === "box") {
      if (this.drag) this.dragBox(event, false);
      else this.stage.style.cursor = this.grip(event)?.[2] ?? "crosshair";
    }
    if (this.act === "paint") {
      const cell = this.cellAt(event);
      if (this.drag) this.stroke(cell, false);
      this.cursor = cell;
      this.outline();
    }
    if (this.spec.acts.includes("hover") && !(this.act === "box" && this.drag)) {
      this.point(this.cellAt(event));
    }
  }

  up(event) {
    if (!this.drag) return;
    if (this.act === "box" && this.drag.hasMoved) this.dragBox(event, true);
    if (this.act === "paint") this.stroke(this.cellAt(event), true);
    this.drag = null;
  }

  dragBox(event, isLast) {
    const { from, box, handle, gesture } = this.drag;
    const [start, end] = [from, this.at(event)].map((at) => at.map((place) => place * this.spec.unit));
    const [dx, dy] = [end[0] - start[0], end[1] - start[1]];
    const limits = [this.extent, this.board.smallest];
    const changed = handle ? movedBox(box, handle, dx, dy, ...limits)
      : drawnBox(start, end, ...limits);
    this.drag.hasMoved = true;
    this.changeBox(changed, gesture, isLast);
  }

  get extent() {
    return [this.spec.width * this.spec.unit, this.spec.height * this.spec.unit];
  }

  changeBox(box, gesture, isLast) {
    this.board.holdBox(box);
    this.board.report({ kind: "box", panel: this.spec.key, box, gesture, is_last: isLast });
  }

  // All cells between the last one and this one, so that fast strokes leave no gaps.
  stroke(cell, isLast) {
    const [x, y] = this.drag.cell;
    const [dx, dy] = [cell[0] - x, cell[1] - y];
    const steps = Math.max(Math.abs(dx), Math.abs(dy));
    if (steps === 0 && this.drag.hasMoved && !isLast) return;
    const cells = [];
    for (let i = 0; i <= steps; i += 1) {
      const share = steps === 0 ? 0 : i / steps;
      cells.push([Math.round(x + share * dx), Math.round(y + share * dy)]);
    }
    this.drag.hasMoved = true;
    this.drag.cell = cell;
    this.paint(cells, this.drag.gesture, isLast);
  }

  paint(cells, gesture, isLast) {
    this.board.report({ kind: "paint", panel: this.spec.key, cells, gesture, is_last: isLast });
  }

  point(cell) {
    if (this.pointed?.join() === cell?.join()) return;
    this.pointed = cell;
    this.board.report({ kind: "hover", panel: this.spec.key, cells: cell ? [cell] : [] });
  }

  // ---- keyboard

  key(event) {
    if (this.handles(event)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  handles(event) {
    const isCommand = event.ctrlKey || event.metaKey;
    if (isCommand && event.key.toLowerCase() === "z") {
      this.board.report({ kind: "key", key: event.shiftKey ? "redo" : "undo", count: 1 });
      return true;
    }
    const arrow = ARROWS[event.key];
    if (this.act === "box") return Boolean(arrow) && this.arrowBox(arrow, event);
    if (arrow) {
      const start = this.cursor ?? this.pointed;
      const [x, y] = start ?? [Math.floor(this.spec.width / 2), Math.floor(this.spec.height / 2)];
      const [dx, dy] = start ? arrow : [0, 0];
      this.cursor = [clamp(x + dx, 0, this.spec.width - 1), clamp(y + dy, 0, this.spec.height - 1)];
      if (this.spec.acts.includes("hover")) this.point(this.cursor);
      else this.board.say(`column ${this.cursor[0] + 1}, row ${this.cursor[1] + 1}`);
      this.outline();
      return true;
    }
    if (event.key === "Escape") {
      this.cursor = null;
      if (this.spec.acts.includes("hover")) this.point(null);
      this.outline();
      return true;
    }
    if (this.act !== "paint") return false;
    if (event.key === " " || event.key === "Enter") {
      if (this.cursor) this.paint([this.cursor], this.keyGesture(), true);
      return true;
    }
    if ("+-=".includes(event.key)) {
      this.board.report({ kind: "key", key: event.key === "-" ? "-" : "+", count: 1 });
      return true;
    }
    return false;
  }

  arrowBox([x, y], event) {
    const box = this.board.box;
    if (box.length !== 4) return false;
    const step = event.ctrlKey ? 1 : Math.max(1, Math.round(this.extent[0] / 64));
    const handle = event.shiftKey ? [Math.abs(x), Math.abs(y)] : [0, 0];
    const moved = movedBox(box, handle, x * step, y * step, this.extent, this.board.smallest);
    this.changeBox(moved, this.keyGesture(), true);
    return true;
  }

  keyGesture() {
    const now = performance.now();
    if (now - this.keys.time > BREAK) this.keys.gesture = this.board.reporter.newNumber();
    this.keys.time = now;
    return this.keys.gesture;
  }
}

// ---------------------------------------------------------------- all panels of one view

export class Board {
  constructor(model, el, reporter) {
    Object.assign(this, { model, el, reporter, panels: new Map(), drawn: {}, palettes: new Map() });
    this.held = null; // the box under the pointer, ahead of Python's
    el.classList.add("bm-canvas");
    this.columns = element("div", "bm-columns");
    this.voice = element("div", "bm-voice");
    this.voice.setAttribute("role", "status");
    this.voice.setAttribute("aria-live", "polite");
    this.note = element("div", "bm-note");
    el.append(this.note, this.columns, this.voice);
    this.tellSilence = (isSilent) => {
      this.note.textContent = isSilent ? "No kernel answers. Run the cell that made this view again." : "";
    };
    reporter.onSilence.add(this.tellSilence);
    this.update = () => this.refresh();
    model.on("change", this.update);
    this.watcher = new ResizeObserver(() => this.panels.forEach((panel) => panel.outline()));
    this.refresh();
  }

  close() {
    this.model.off("change", this.update);
    this.reporter.onSilence.delete(this.tellSilence);
    this.watcher.disconnect();
    this.panels.clear();
    this.drawn = {};
  }

  get box() {
    return this.held ?? this.model.get("box");
  }

  get brushSize() {
    return this.model.get("brush_size");
  }

  get smallest() {
    return this.model.get("smallest_box");
  }

  marks(key) {
    return this.model.get("marks")[key] ?? [];
  }

  colors(name) {
    if (!this.palettes.has(name)) {
      const bytes = asBytes(this.model.get("palettes")[name]).slice();
      this.palettes.set(name, new Uint32Array(bytes.buffer));
    }
    return this.palettes.get(name);
  }

  report(event) {
    this.reporter.post(event);
  }

  say(text) {
    this.voice.textContent = text;
  }

  holdBox(box) {
    this.held = box;
    this.panels.forEach((panel) => panel.outline());
  }

  // Once the pointer rests, the box that Python sends is shown.
  settle() {
    const isDragged = [...this.panels.values()].some((panel) => panel.drag);
    if (!isDragged && !this.reporter.isBusy) this.held = null;
  }

  refresh() {
    const isNew = (name) => {
      const value = this.model.get(name);
      const differs = this.drawn[name] !== value;
      this.drawn[name] = value;
      return differs;
    };
    if (isNew("palettes")) this.palettes.clear();
    if (isNew("columns")) this.build();
    for (const name of ["still", "live"]) {
      const before = this.drawn[name] ?? {};
      if (!isNew(name)) continue;
      for (const [key, view] of Object.entries(this.drawn[name])) {
        if (before[key] !== view && !this.isAhead(name)) this.panels.get(key)?.draw(view);
      }
    }
    if (isNew("overlays") && !this.isAhead("overlays")) {
      this.panels.forEach((panel, key) => panel.over && panel.drawOver(this.drawn.overlays[key]));
    }
    if (isNew("bars") && !this.isAhead("bars")) this.drawBars();
    if (isNew("announcement")) this.say(this.drawn.announcement);
    this.settle();
    this.panels.forEach((panel) => panel.outline());
    this.el.dataset.done = this.model.get("done");
  }

  // Whether the page shows something newer than what Python has sent under this name.
  isAhead(_name) {
    return false;
  }

  build() {
    const focused = this.el.querySelector(".bm-stage:focus")?.dataset.panel;
    this.watcher.disconnect();
    this.panels.clear();
    for (const name of ["still", "live", "overlays", "bars"]) this.drawn[name] = {};
    const columns = this.model.get("columns").map((groups) => {
      const column = element("div", "bm-column");
      column.classList.toggle("bm-low", groups.some((group) => group.is_low));
      column.append(...groups.map((group) => this.buildGroup(group)));
      return column;
    });
    this.columns.replaceChildren(...columns);
    this.tellSilence(false);
    if (columns.length === 0) this.note.textContent = "Run the cell that makes this view.";
    this.panels.get(focused)?.stage.focus({ preventScroll: true });
  }

  buildGroup(group) {
    const root = element("section", "bm-group");
    root.setAttribute("aria-label", group.title || group.panels[0]?.label || group.bars);
    const heading = element("header", "", group.title);
    if (group.note) heading.append(element("small", "", group.note));
    if (group.title) root.append(heading);
    const row = element("div", "bm-row");
    row.classList.toggle("bm-joined", group.joint !== null);
    for (const [index, spec] of group.panels.entries()) {
      if (group.joint !== null && index > 0) row.append(this.joint(group.joint, spec));
      const panel = new PanelView(spec, this);
      this.panels.set(spec.key, panel);
      this.watcher.observe(panel.stage);
      row.append(panel.root);
    }
    root.append(row);
    if (group.bars) {
      const bars = element("div", "bm-bars");
      bars.dataset.bars = group.bars;
      row.append(bars);
    }
    return root;
  }

  // A sign between two panels, beside their cells.
  joint(sign, spec) {
    const joint = element("span", "bm-joint", sign);
    joint.style.setProperty("--bm-height", `${(spec.size * spec.height) / spec.width}px`);
    joint.classList.toggle("bm-above-value", spec.value !== null);
    return joint;
  }

  drawBars() {
    for (const root of this.el.querySelectorAll(".bm-bars")) {
      const chart = this.drawn.bars[root.dataset.bars];
      if (!chart) continue;
      const place = (value) => (100 * (value - chart.low)) / (chart.high - chart.low);
      const rows = chart.bars.map((bar) => {
        const row = element("div", "bm-bar");
        const track = element("span", "bm-track");
        const fill = element("span", "bm-fill");
        const ends = [0, bar.value].map((value) => clamp(place(value), 0, 100));
        fill.style.left = `${Math.min(...ends)}%`;
        fill.style.width = `${Math.abs(ends[1] - ends[0])}%`;
        fill.style.background = bar.color;
        track.append(fill);
        row.append(element("span", "bm-label", bar.label), track, element("span", "bm-text", bar.text));
        return row;
      });
      root.setAttribute("role", "img");
      const words = chart.bars.map((bar) => `${bar.label} ${bar.text}`).join(", ");
      root.setAttribute("aria-label", `${chart.title}: ${words}`);
      root.style.setProperty("--bm-lines", chart.lines);
      root.replaceChildren(element("div", "bm-bars-title", chart.title), ...rows);
    }
  }
}

function save({ download, kind }, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: kind }));
  link.download = download;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// The two hooks of anywidget, for a board of this class.
export function widget(BoardClass) {
  let reporter;
  return {
    initialize({ model }) {
      reporter = new Reporter(model);
      model.on("msg:custom", (message, buffers) => {
        if (message.download) save(message, buffers[0]);
      });
    },
    render({ model, el }) {
      const board = new BoardClass(model, el, reporter);
      return () => board.close();
    },
  };
}

export default () => widget(Board);
