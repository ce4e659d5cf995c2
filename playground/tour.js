// The guided tour: below the page, one gesture a step, left and taken up again at any step.

export class Tour {
  /**
   * @param {HTMLElement} root @param {{steps: object[], words: object}} texts
   * @param {{begin: (step: number) => void, end: (isFinished: boolean) => void}} on
   */
  constructor(root, texts, on) {
    this.root = root;
    this.texts = texts;
    this.on = on;
    this.done = new Set();
    this.step = null;
  }

  /** Show a step, or nothing for null. */
  show(step) {
    const { steps, words } = this.texts;
    const last = this.step;
    this.step = step === null ? null : Math.min(step, steps.length - 1);
    document.body.classList.toggle("touring", this.step !== null);
    this.root.hidden = this.step === null;
    const lit = this.light();
    if (this.step === null) return;
    const { title, text, ask } = steps[this.step];
    const isLast = this.step === steps.length - 1;
    this.root.innerHTML = `
      <div class="count"><span>${words.step} ${this.step + 1} / ${steps.length}</span>
        <span class="dots" aria-hidden="true">${steps.map((_, i) => `<i class="${i === this.step ? "here" : ""} ${this.done.has(i) ? "done" : ""}"></i>`).join("")}</span>
        <button class="back" ${this.step ? "" : "disabled"}>${words.back}</button>
        <button class="next strong">${isLast ? words.end : words.next}</button>
        <button class="leave" aria-label="${words.leave}" title="${words.leave}">×</button></div>
      <h2 tabindex="-1">${title}</h2><p class="text">${text}</p>
      <p class="ask ${this.done.has(this.step) ? "done" : ""}"><span aria-hidden="true"></span>${ask}</p>`;
    const find = (name) => this.root.querySelector(name);
    find(".leave").addEventListener("click", () => this.on.end(false));
    find(".back").addEventListener("click", () => this.on.begin(this.step - 1));
    find(".next").addEventListener("click", () => (isLast ? this.on.end(true) : this.on.begin(this.step + 1)));
    if (last !== null && last !== this.step) find("h2").focus({ preventScroll: true });
    // The first of them comes last, and is in view for certain.
    if (last !== this.step) lit.reverse().forEach((each) => each.scrollIntoView({ block: "nearest" }));
  }

  /** Highlight what the step is about. @returns {HTMLElement[]} it, most important first */
  light() {
    document.querySelectorAll(".lit").forEach((each) => each.classList.remove("lit"));
    if (this.step === null) return [];
    const lit = this.texts.steps[this.step].light.split(", ").flatMap((name) => [...document.querySelectorAll(name)]);
    lit.forEach((each) => each.classList.add("lit"));
    return lit;
  }

  /** The user has done something; the step that asked for it is ticked off. */
  did(gesture) {
    if (this.step === null || this.texts.steps[this.step].gesture !== gesture) return;
    this.done.add(this.step);
    this.root.querySelector(".ask")?.classList.add("done");
    this.root.querySelectorAll(".dots i")[this.step]?.classList.add("done");
  }
}
