// A figure as a picture with alternative text, or text instead of a figure.

function save({ download, kind }, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: kind }));
  link.download = download;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function render({ model, el }) {
  el.classList.add("blendmask-figure");
  const image = document.createElement("img");
  const words = document.createElement("p");
  words.setAttribute("role", "status");
  words.setAttribute("aria-live", "polite");
  const buttons = document.createElement("div");
  buttons.setAttribute("role", "group");
  buttons.setAttribute("aria-label", "save this figure");
  for (const kind of ["png", "svg", "pdf"]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = kind.toUpperCase();
    button.title = `save this figure as ${kind.toUpperCase()}`;
    button.addEventListener("click", () => model.send({ save: kind }));
    buttons.append(button);
  }
  el.append(image, words, buttons);
  let address = null;
  let shown = null;

  const drop = () => {
    if (address) URL.revokeObjectURL(address);
    address = null;
  };
  const update = () => {
    const png = model.get("png");
    const isThere = png.byteLength > 0;
    if (png !== shown) {
      const old = address;
      shown = png;
      address = isThere ? URL.createObjectURL(new Blob([png], { type: "image/png" })) : null;
      if (isThere) image.src = address;
      else image.removeAttribute("src");
      if (old) URL.revokeObjectURL(old);
    }
    image.hidden = buttons.hidden = !isThere;
    image.alt = model.get("text");
    words.textContent = isThere ? "" : model.get("text");
    words.hidden = words.textContent === "";
  };
  model.on("change", update);
  update();
  return () => {
    model.off("change", update);
    drop();
  };
}

export default () => ({
  initialize({ model }) {
    model.on("msg:custom", (message, buffers) => {
      if (message.download) save(message, buffers[0]);
    });
  },
  render,
});
