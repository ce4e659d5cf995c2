// Below the chain: three ways to use the same bases; and the comparison with the network.

import { paint } from "./colors.js";
import { METHODS } from "./state.js";

export const METHOD_TEXTS = {
  blender: ["BlendMask", "a grid of attentions per base"],
  weighted_sum: ["YOLACT", "one number per base"],
  assembler: ["FCIS", "a fixed tile of the box per base"],
};
const DASH = "–";
const EQUAL = 0.005; // IoUs that differ less are called equal

export class Rivals {
  /** @param {HTMLElement} root @param {(method: string) => void} choose */
  constructor(root, choose) {
    this.root = root;
    this.choose = choose;
    this.R = 0;
  }

  arrange({ model: { R } }) {
    if (R === this.R) return;
    this.R = R;
    this.root.innerHTML = `<h2>Three ways to use the same bases</h2>
      <p>All three use BlendMask's bases here. A network made for YOLACT or FCIS learns bases that
      suit it, so this is no fair race: it shows what each rule can do with the same maps. IoU is the overlap with the true mask, at most 1.</p>
      <fieldset class="methods"><legend class="hidden">Method</legend></fieldset>`;
    const group = this.root.lastElementChild;
    this.methods = METHODS.map((method) => {
      const [name, words] = METHOD_TEXTS[method];
      const label = document.createElement("label");
      label.innerHTML = `<input type="radio" name="method" value="${method}"><span><canvas width="${R}" height="${R}"></canvas>
        <b>${name}</b><small>${words}</small><output></output></span>`;
      const [input, canvas, output] = ["input", "canvas", "output"].map((name) => label.querySelector(name));
      input.addEventListener("change", () => this.choose(method));
      group.append(label);
      const image = new ImageData(R, R);
      return { input, output, image, context: canvas.getContext("2d"), pixels: new Uint32Array(image.data.buffer) };
    });
  }

  draw(blend, state, tables) {
    this.methods.forEach(({ input, output, image, context, pixels }, i) => {
      paint(pixels, blend.chains[i].probabilities, 0, 0, 1, tables.mask);
      context.putImageData(image, 0, 0);
      const iou = blend.ious[i];
      const text = iou === null ? "" : `IoU ${iou.toFixed(2)}`;
      if (output.textContent !== text) output.textContent = text;
      input.checked = METHODS[i] === state.method;
    });
  }
}

export class Contest {
  constructor() {
    for (const name of ["beat", "beat-text", "bars", "blank", "truth"]) this[name] = document.getElementById(name);
    this.bars.innerHTML = ["you", "network"].map((name) => `<span>${name}</span><i class="${name}"><b></b></i><output></output>`).join("");
    this.rows = ["you", "network"].map((name) => {
      const bar = this.bars.querySelector(`.${name}`);
      return { fill: bar.firstChild, text: bar.nextElementSibling };
    });
    this.beaten = false;
  }

  /** @returns {boolean} whether the user is ahead now */
  draw(blend, state, isTouched) {
    const [yours, network] = [blend.ious[blend.method], blend.network];
    const has = yours !== null && network !== null;
    this.beat.classList.toggle("empty", !has);
    this.truth.checked = state.truth;
    const text = !has ? "There is no true object here to compare with."
      : !isTouched ? "Change the box or paint the attentions: can you come closer to the true mask?"
      : Math.abs(yours - network) <= EQUAL ? `As good as the network: at most ${EQUAL} apart.`
      : yours > network ? "You have beaten the network!" : "The network is ahead.";
    if (this["beat-text"].textContent !== text) this["beat-text"].textContent = text;
    [yours, network].forEach((value, i) => {
      this.rows[i].fill.style.width = `${(value ?? 0) * 100}%`;
      this.rows[i].text.textContent = value === null ? DASH : value.toFixed(3);
    });
    this.bars.setAttribute("aria-label", has ? `IoU with the true mask: you ${yours.toFixed(3)}, network ${network.toFixed(3)}` : text);
    return has && isTouched && yours > network + EQUAL;
  }
}
