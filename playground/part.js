// A part of the page alone, in a frame of another page: `?part=rows`, `bases` or `methods`.

const PARTS = ["rows", "bases", "methods"];
const THEMES = ["light", "dark"];

export class Part {
  /** @param {() => void} retheme  the page around has turned light or dark */
  constructor(retheme) {
    const asked = new URLSearchParams(location.search);
    this.name = PARTS.find((name) => name === asked.get("part")); // undefined: the whole page
    this.theme = null; // of the page around
    if (!this.name) return;
    const turn = (theme) => {
      if (THEMES.includes(theme)) this.theme = theme;
    };
    turn(asked.get("theme"));
    document.body.dataset.part = this.name;
    window.addEventListener("message", ({ source, data }) => {
      if (source !== window.parent) return;
      turn(data?.theme);
      retheme();
    });
  }

  /** Tell the page around how high the frame has to be, now and whenever that changes. */
  fit() {
    if (!this.name || this.fitting) return;
    this.fitting = new ResizeObserver(([{ target }]) => {
      window.parent.postMessage({ playgroundHeight: Math.ceil(target.getBoundingClientRect().height) }, "*");
    });
    this.fitting.observe(document.getElementById("scroller"));
  }
}
