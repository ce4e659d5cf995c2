// The guided tour: beside the page, one gesture a step, left and taken up again at any step.

const NARROW = matchMedia("(max-width: 1100px)"); // as in style.css

export class Tour {
  /**
   * @param {HTMLElement} root @param {{title: string, steps: object[], words: object}} texts
   * @param {{go: (step: ?number) => void}} on
   */
  constructor(root, texts, on) {
    this.root = root;
    this.texts = texts;
    this.on = on;
    this.done = new Set();
    this.step = null;
    // In a wide window it has a place in the left column, else below everything, never over it.
    const home = root.nextElementSibling;
    const place = () => (NARROW.matches ? document.body.append(root) : home.before(root));
    NARROW.addEventListener("change", place);
    place();
  }

  /** Show a step, or nothing for null. */
  show(step) {
    const { steps, words } = this.texts;
    const last = this.step;
    this.step = step === null ? null : Math.min(step, steps.length - 1);
    document.body.classList.toggle("touring", this.step !== null);
    document.querySelectorAll(".lit").forEach((each) => each.classList.remove("lit"));
    this.root.hidden = this.step === null;
    if (this.step === null) return;
    const { title, text, gesture, ask, light } = steps[this.step];
    const isLast = this.step === steps.length - 1;
    this.root.innerHTML = `
      <p class="count">${words.step} ${this.step + 1} / ${steps.length}
        <span class="dots" aria-hidden="true">${steps.map((_, i) => `<i class="${i === this.step ? "here" : ""} ${this.done.has(i) ? "done" : ""}"></i>`).join("")}</span>
        <button class="leave" aria-label="${words.leave}" title="${words.leave}">×</button></p>
      <h2 tabindex="-1">${title}</h2><p>${text}</p>
      <p class="ask ${this.done.has(this.step) ? "done" : ""}" ${gesture ? "" : "hidden"}><span aria-hidden="true"></span>${ask ?? ""}</p>
      <div class="row"><button class="back" ${this.step ? "" : "disabled"}>${words.back}</button>
      <button class="next strong">${isLast ? words.end : words.next}</button></div>`;
    const find = (name) => this.root.querySelector(name);
    find(".leave").addEventListener("click", () => this.on.go(null));
    find(".back").addEventListener("click", () => this.on.go(this.step - 1));
    find(".next").addEventListener("click", () => this.on.go(isLast ? null : this.step + 1));
    const lit = [...document.querySelectorAll(light)];
    lit.forEach((each) => each.classList.add("lit"));
    if (last !== null && last !== this.step) find("h2").focus({ preventScroll: true });
    if (last !== this.step) lit[0]?.scrollIntoView({ block: NARROW.matches ? "center" : "nearest", behavior: "smooth" });
  }

  /** The user has done something; the step that asked for it is ticked off. */
  did(gesture) {
    if (this.step === null || this.texts.steps[this.step].gesture !== gesture) return;
    this.done.add(this.step);
    this.root.querySelector(".ask")?.classList.add("done");
    this.root.querySelectorAll(".dots i")[this.step]?.classList.add("done");
  }
}
