// A button for one file, by dialog, keyboard or drop. Files that are too large are not sent.

function render({ model, el }) {
  el.classList.add("blendmask-upload");
  const label = document.createElement("label");
  const input = document.createElement("input");
  const words = document.createElement("span");
  input.type = "file";
  label.append(input, words);
  el.append(label);

  const update = () => {
    words.textContent = model.get("label");
    input.accept = model.get("accept");
    input.setAttribute("aria-label", model.get("label"));
  };
  const take = async (file) => {
    if (!file) return;
    const content = { name: file.name, size: file.size };
    if (file.size > model.get("most_bytes")) model.send(content);
    else model.send(content, undefined, [await file.arrayBuffer()]);
  };
  input.addEventListener("change", async () => {
    await take(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
  label.addEventListener("dragover", (event) => {
    event.preventDefault();
    label.classList.add("is-over");
  });
  label.addEventListener("dragleave", () => label.classList.remove("is-over"));
  label.addEventListener("drop", (event) => {
    event.preventDefault();
    label.classList.remove("is-over");
    take(event.dataTransfer.files[0]);
  });
  model.on("change", update);
  update();
  return () => model.off("change", update);
}

export default { render };
