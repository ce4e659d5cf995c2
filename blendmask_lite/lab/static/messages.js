// The message line: a live region whose text screen readers announce.

function render({ model, el }) {
  el.classList.add("blendmask-lab-message");
  const line = document.createElement("div");
  line.setAttribute("role", "status");
  line.setAttribute("aria-live", "polite");
  const more = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = "details";
  const place = document.createElement("pre");
  more.append(summary, place);
  el.append(line, more);

  const update = () => {
    line.textContent = model.get("text");
    place.textContent = model.get("details");
    more.hidden = model.get("details") === "";
    el.dataset.kind = model.get("text") === "" ? "none" : model.get("kind");
  };
  const names = "change:text change:kind change:details";
  model.on(names, update);
  update();
  return () => model.off(names, update);
}

export default { render };
