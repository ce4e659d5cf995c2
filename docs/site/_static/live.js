// Live parts of the playground in place of pictures, which stay until the part has run: always in
// files, from which browsers load no modules, and in a copy of the site without the playground.

const root = document.documentElement;
const frames = [];
const tellTheme = (frame) => frame.contentWindow.postMessage({ theme: root.dataset.theme }, location.origin);

if (location.protocol !== "file:") {
  for (const link of document.querySelectorAll(".live a[data-part]")) {
    const address = new URL(link.href);
    address.search = new URLSearchParams({ part: link.dataset.part, theme: root.dataset.theme });
    address.hash = link.dataset.view;
    const frame = document.createElement("iframe");
    Object.assign(frame, { title: "A part of the playground", loading: "lazy", src: address });
    link.closest(".live").prepend(frame);
    frames.push(frame);
  }
  new MutationObserver(() => frames.forEach(tellTheme)).observe(root, { attributeFilter: ["data-theme"] });
}

window.addEventListener("message", ({ source, data }) => {
  const frame = frames.find(({ contentWindow }) => contentWindow === source);
  if (!frame || !data.playgroundHeight) return;
  frame.style.height = `${data.playgroundHeight + 2}px`; // and its border
  tellTheme(frame); // it may have changed while the part was loading
  frame.closest(".live").classList.add("running");
});
