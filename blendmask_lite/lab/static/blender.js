// The Blender lab's board: it computes equations 1 to 4 itself, so that the picture moves with the
// pointer. Python computes the same after each gesture and stays the judge: its pixels replace
// these, and how far they were apart stands in `data-apart`.

import { Board, asBytes, clamp, widget } from "./canvas.js";
import {
  attentionSources, clipBox, compute, cropSources, explain, newCell, newChain, paste,
  touchedPixels,
} from "./equations.js";

const AHEAD = new Set(["live", "overlays", "bars"]); // what the page also makes itself

const floats = (view) => new Float32Array(asBytes(view).slice().buffer);
const signed = (value) => (value < 0 ? "" : "+") + value.toFixed(2); // as Python's +.2f

// One way from bases to a mask: the problem, its buffers, and the panels that show it.
class Lane {
  constructor(spec) {
    const { K, H, W, R } = spec;
    this.spec = spec;
    this.problem = { ...spec, bases: floats(spec.bases), numbers: null, box: null };
    this.own = floats(spec.own);
    this.chain = newChain(K, R);
    this.cell = newCell(K);
    this.cells = spec.maps.map(({ kind }) => new Uint8Array(
      kind === "attention" ? spec.M ** 2 : R * R,
    ));
    Object.assign(this, { K, H, W, R });
  }

  setNumbers(numbers) {
    this.problem.numbers = numbers;
  }

  // The numbers behind the panel of a map: K maps of them, and how many there are in one.
  source(kind) {
    const { chain, problem, R } = this;
    if (kind === "attention") return [problem.numbers, this.spec.M ** 2];
    if (kind === "sum") return [chain.logits, R * R];
    if (kind === "mask") return [chain.probabilities, R * R];
    return [chain[{ crop: "crops", score: "scores", product: "products" }[kind]], R * R];
  }

  // Bytes of a panel, as `as_cells` in canvas.py makes them.
  bytes(index) {
    const { kind, k, low, high } = this.spec.maps[index];
    const cells = this.cells[index];
    const [values, size] = this.source(kind);
    const scale = 255 / (high - low);
    for (let i = 0; i < size; i += 1) {
      cells[i] = Math.round(clamp((values[k * size + i] - low) * scale, 0, 255));
    }
    return cells;
  }
}

// The image: its size, the true objects, and buffers for a mask pasted into it.
class Ground {
  constructor({ height, width, threshold, truths }) {
    Object.assign(this, { height, width, threshold });
    this.soft = new Float32Array(height * width);
    this.layer = new Uint8Array(height * width);
    this.truths = truths.map((truth) => {
      const mask = asBytes(truth.mask);
      const border = mask.map((is, i) => Number(is && this.isBorder(mask, i)));
      return { ...truth, mask, border, area: mask.reduce((sum, is) => sum + is, 0) };
    });
  }

  // Whether a set pixel has a neighbour that is not, or lies at the image's border.
  isBorder(mask, i) {
    const { height, width } = this;
    const x = i % width;
    return x === 0 || x === width - 1 || i < width || i >= (height - 1) * width
      || !mask[i - 1] || !mask[i + 1] || !mask[i - width] || !mask[i + width];
  }

  // The true object whose box overlaps a box most.
  under(box) {
    let best = null;
    let most = 0;
    const area = (each) => (each[2] - each[0]) * (each[3] - each[1]);
    for (const truth of this.truths) {
      const [x0, y0, x1, y1] = truth.box;
      const across = Math.max(0, Math.min(x1, box[2]) - Math.max(x0, box[0]));
      const down = Math.max(0, Math.min(y1, box[3]) - Math.max(y0, box[1]));
      const shared = across * down;
      const iou = shared / (area(truth.box) + area(box) - shared);
      if (iou > most) [best, most] = [truth, iou];
    }
    return best;
  }

  // The whole pixels that a box touches, and one around them.
  part(box) {
    return touchedPixels(box, this.height, this.width);
  }

  // Pastes a lane's mask into `soft`; returns its IoU with a true object.
  paste(lane, box, truth) {
    const { height, width, soft, threshold } = this;
    const clipped = clipBox(box, height, width);
    paste(lane.chain.probabilities, lane.R, clipped, height, width, soft);
    let shared = 0;
    let area = 0;
    const [x0, y0, x1, y1] = this.part(clipped);
    for (let y = y0; y < y1; y += 1) {
      for (let i = y * width + x0; i < y * width + x1; i += 1) {
        const isMask = soft[i] >= threshold ? 1 : 0;
        soft[i] = isMask;
        area += isMask;
        if (truth) shared += isMask & truth.mask[i];
      }
    }
    return truth ? shared / Math.max(truth.area + area - shared, 1) : null;
  }

  // The layer above the image after `paste`: 1 the mask, 2 its border, 3 the true outline.
  overlay(box, truth) {
    const { soft, layer, width } = this;
    const parts = [this.part(box), ...(truth ? [this.part(truth.box)] : [])];
    const [x0, y0] = [0, 1].map((side) => Math.min(...parts.map((part) => part[side])));
    const [x1, y1] = [2, 3].map((side) => Math.max(...parts.map((part) => part[side])));
    let at = 0;
    for (let y = y0; y < y1; y += 1) {
      for (let i = y * width + x0; i < y * width + x1; i += 1, at += 1) {
        if (truth?.border[i]) layer[at] = 3;
        else if (!soft[i]) layer[at] = 0;
        else layer[at] = this.isBorder(soft, i) ? 2 : 1;
      }
    }
    return { x: x0, y: y0, width: x1 - x0, height: y1 - y0, pixels: layer.subarray(0, at) };
  }
}

class BlenderBoard extends Board {
  constructor(model, el, reporter) {
    super(model, el, reporter);
    this.compared = 0;
    this.ready = true;
    this.adopt();
  }

  build() {
    super.build();
    this.columns.classList.toggle("bm-lanes", this.model.get("lanes").length > 1);
  }

  get lanes() {
    const specs = this.model.get("lanes");
    if (specs !== this.laneSpecs) {
      // Colours and sizes may follow from a gesture: what it painted stays, to be compared.
      const before = new Map(this.ways?.map((lane) => [lane.spec.name, lane.problem.numbers]));
      this.laneSpecs = specs;
      this.ways = specs.map((spec) => new Lane(spec));
      for (const lane of this.ways) {
        const numbers = before.get(lane.spec.name);
        if (numbers?.length === lane.own.length) lane.setNumbers(numbers);
      }
    }
    return this.ways;
  }

  get ground() {
    const spec = this.model.get("ground");
    if (spec !== this.groundSpec) {
      this.groundSpec = spec;
      this.place = new Ground(spec);
    }
    return this.place;
  }

  // ---- Python's state, and the state ahead of it

  // Whether a gesture is not answered yet.
  isAhead(name) {
    return Boolean(this.ready) && this.isMoved && AHEAD.has(name) && !this.isAnswered();
  }

  isAnswered() {
    return !this.reporter.isBusy && ![...this.panels.values()].some((panel) => panel.drag);
  }

  refresh() {
    super.refresh();
    if (!this.ready) return;
    if (!this.reporter.isBusy) this.brushValue = null;
    if (this.isMoved && this.isAnswered()) {
      this.compare();
      this.isMoved = false;
      this.drawn.live = {}; // what was left out while the page was ahead is drawn now
      this.drawn.overlays = this.drawn.bars = null;
      super.refresh();
    }
    if (!this.isMoved) this.adopt();
  }

  // Start from what Python says.
  adopt() {
    const numbers = this.model.get("numbers");
    const isSame = numbers === this.kernelNumbers && this.model.get("box").join() === this.kernelBox
      && this.model.get("lanes") === this.laneSpecs && this.model.get("ground") === this.groundSpec;
    if (isSame || this.model.get("lanes").length === 0) return;
    this.kernelNumbers = numbers;
    this.kernelBox = this.model.get("box").join();
    for (const lane of this.lanes) lane.setNumbers(floats(numbers[lane.spec.name]));
    this.solve();
    this.measure(false);
    this.tell();
  }

  // How far this page's pixels were from those of Python, in steps of the palette.
  compare() {
    const live = this.model.get("live");
    if (this.lanes.some((lane) => lane.problem.numbers === null)) return;
    this.solve();
    let apart = 0;
    for (const lane of this.lanes) {
      lane.spec.maps.forEach(({ panel }, index) => {
        const [mine, judged] = [lane.bytes(index), asBytes(live[panel])];
        for (let i = 0; i < mine.length; i += 1) {
          apart = Math.max(apart, Math.abs(mine[i] - judged[i]));
        }
      });
    }
    this.compared += 1;
    this.el.dataset.apart = apart;
    this.el.dataset.compared = this.compared;
  }

  solve() {
    for (const lane of this.lanes) {
      lane.problem.box = this.box;
      compute(lane.problem, lane.chain);
    }
  }

  // ---- gestures

  report(event) {
    if (event.kind === "box" || event.kind === "paint") {
      this.isMoved = true;
      if (event.kind === "paint") this.strike(event);
      this.solve();
      this.show();
    }
    if (event.kind === "key" && "+-".includes(event.key)) {
      const { value, step, low, high } = this.brush;
      this.brushValue = clamp(value + (event.key === "+" ? step : -step), low, high);
    }
    if (event.kind === "hover") {
      this.pointed = this.cellOf(event);
      this.panels.forEach((panel) => panel.outline());
    }
    this.tell();
    super.report(event);
  }

  // Keys change its value before Python has answered them.
  get brush() {
    const brush = this.model.get("brush");
    return { ...brush, value: this.brushValue ?? brush.value };
  }

  // A stroke over the numbers of the first lane, as `painted` in state.py does it.
  strike({ panel, cells }) {
    const [lane] = this.lanes;
    const { M, method } = lane.spec;
    const { kind, value } = this.brush;
    const k = Number(panel.replace("attention ", "")) - 1;
    const numbers = lane.problem.numbers;
    const size = this.brushSize;
    const before = Math.floor((size - 1) / 2);
    const put = (i) => {
      numbers[i] = kind === "own" ? lane.own[i] : kind === "zero" ? 0 : value;
    };
    if (method === "weighted_sum") {
      put(k);
      return;
    }
    for (const [x, y] of cells) {
      for (let row = Math.max(y - before, 0); row < Math.min(y - before + size, M); row += 1) {
        for (let line = Math.max(x - before, 0); line < Math.min(x - before + size, M); line += 1) {
          put((k * M + row) * M + line);
        }
      }
    }
  }

  show() {
    for (const lane of this.lanes) {
      lane.spec.maps.forEach(({ panel }, index) => this.panels.get(panel)?.draw(lane.bytes(index)));
    }
    this.measure(true);
  }

  // The masks in the image: their layers, if these are to be drawn, and their IoU.
  measure(isDrawn) {
    const { ground } = this;
    const truth = ground.under(this.box);
    for (const lane of this.lanes) {
      const iou = ground.paste(lane, this.box, truth);
      const picture = this.panels.get(lane.spec.picture);
      if (picture?.value) picture.value.textContent = iou === null ? "" : `IoU ${iou.toFixed(2)}`;
      if (!isDrawn) continue;
      picture?.drawOver(ground.overlay(this.box, truth));
      if (!picture?.value) this.showIou(truth, iou);
    }
  }

  // The first bar of Python's chart is the present mask; the search for the best begins at rest.
  showIou(truth, iou) {
    const chart = this.model.get("bars").iou;
    if (!chart || !truth) return;
    const [yours, network, best] = chart.bars;
    const gain = iou - truth.network;
    const verdict = truth.network === null ? "The network found no mask of it."
      : Math.abs(gain) < 0.005 ? "The network's own mask." : `${signed(gain)} against the network`;
    this.drawn.bars = { ...this.drawn.bars, iou: {
      ...chart,
      title: `IoU with the true ${truth.name}\n${verdict}\n${truth.note}`,
      bars: [
        { ...yours, value: iou, text: iou.toFixed(2) },
        { ...network, value: truth.network ?? 0, text: truth.network?.toFixed(2) ?? "–" },
        { ...best, value: 0, text: "…" },
      ],
    } };
    this.drawBars();
  }

  // ---- the numbers of one cell

  // The mask's cell that an event points at, as shares of the box.
  cellOf({ panel, cells }) {
    if (cells.length === 0) return null;
    const spec = this.panels.get(panel).spec;
    const [left, top, right, bottom] = spec.acts.some((act) => act.endsWith("box")) ? this.box
      : [0, 0, spec.width, spec.height];
    const [x, y] = cells[0].map((place) => place + 0.5);
    const [across, down] = [(x - left) / (right - left), (y - top) / (bottom - top)];
    return across >= 0 && across < 1 && down >= 0 && down < 1 ? [across, down] : null;
  }

  // Below each map the number of the pointed cell, with the sign of equation 4 that joins it.
  tell() {
    if (!this.ready) return;
    for (const lane of this.lanes) {
      const { R } = lane;
      const at = this.pointed?.map((share) => Math.floor(share * R));
      const cell = at && lane.problem.numbers ? explain(lane.chain, lane, at, lane.cell) : null;
      for (const { panel, kind, k } of lane.spec.maps) {
        const view = this.panels.get(panel);
        if (!view?.value) continue;
        view.value.textContent = !cell ? view.spec.value : {
          crop: () => signed(cell.r[k]),
          score: () => `× ${lane.spec.method === "weighted_sum" ? signed(cell.s[k]) : cell.s[k].toFixed(2)}`,
          product: () => `= ${signed(cell.products[k])}`,
          sum: () => signed(cell.sum),
          mask: () => cell.probability.toFixed(2),
        }[kind]();
        view.value.classList.toggle("bm-told", Boolean(cell));
      }
    }
  }

  // Where the pointed cell comes from, on every panel of its lane.
  marks(key) {
    if (!this.ready || !this.pointed) return this.ready ? [] : super.marks(key);
    for (const lane of this.lanes) {
      const { R, spec } = lane;
      const [x, y] = this.pointed.map((share) => Math.floor(share * R));
      const map = spec.maps.find(({ panel }) => panel === key);
      if (map && map.kind !== "attention") return [{ x, y, width: 1, height: 1, weight: null }];
      if (map && spec.method === "weighted_sum") return [{ x: 0, y: 0, width: 1, height: 1, weight: null }];
      if (map) return weighed(attentionSources(spec.M, R, spec.interpolation, [x, y]));
      if (spec.basePanels.includes(key)) {
        if (spec.pooling === "pool") return super.marks(key); // Python knows each base's largest pixel
        return weighed(cropSources(lane, spec.stride, this.box, R, [x, y]));
      }
      if (key === spec.picture) {
        const [x0, y0, x1, y1] = this.box;
        const [width, height] = [(x1 - x0) / R, (y1 - y0) / R];
        return [{ x: x0 + x * width, y: y0 + y * height, width, height, weight: null }];
      }
    }
    return [];
  }
}

const weighed = (sources) => sources.filter(({ weight }) => weight > 0.005)
  .map((source) => ({ ...source, width: 1, height: 1 }));

export default () => widget(BlenderBoard);
