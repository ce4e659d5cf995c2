// What leaves the page when the user asks for it: a link, and a picture.

import { BASES, OBJECTS } from "./colors.js";
import { METHOD_TEXTS } from "./panels.js";

/** Copy a text; false where the browser does not allow it. */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

const TILE = 132, GAP = 26, EDGE = 28, TOP = 74;

/**
 * The picture, the rows of equations 1 to 4 and the mask, as a PNG on white.
 * @param {import("./stage.js").Stage} stage @param {import("./board.js").Board} board
 * @returns {Promise<Blob>}
 */
export function asPng(stage, board, state, title) {
  const K = board.rows.length;
  const { W, H } = stage.seen;
  const height = Math.max(K * (TILE + 14), 2 * TILE + 120);
  const photoWidth = Math.min(height * (W / H), 560);
  const canvas = document.createElement("canvas");
  canvas.width = 2 * (2 * EDGE + photoWidth + 6 * (TILE + GAP) + 24);
  canvas.height = 2 * (TOP + height + EDGE);
  const context = canvas.getContext("2d");
  const color = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
  context.scale(2, 2);
  context.fillStyle = color("--page");
  context.fillRect(0, 0, canvas.width, canvas.height);
  const write = (text, x, y, size = 15, weight = 400, align = "left", ink = color("--ink")) => {
    context.font = `${weight} ${size}px system-ui, sans-serif`;
    context.textAlign = align;
    context.fillStyle = ink;
    context.fillText(text, x, y);
  };
  write(title, EDGE, 34, 20, 650);
  write(`${METHOD_TEXTS[state.method][0]}, equations 1 to 4`, EDGE, 56, 13, 400, "left", color("--faint"));
  const photoHeight = photoWidth * (H / W);
  const layers = [stage.photo, stage.over, stage.chosen];
  layers.forEach((layer, i) => {
    context.imageSmoothingEnabled = i === 0;
    context.filter = i === 0 && stage.stage.classList.contains("grey") ? "grayscale(1)" : "none";
    context.drawImage(layer, EDGE, TOP, photoWidth, photoHeight);
  });
  context.filter = "none";
  context.strokeStyle = OBJECTS[0];
  context.lineWidth = 2;
  const [x0, y0, x1, y1] = Array.from(stage.now, (side) => (side / W) * photoWidth);
  context.strokeRect(EDGE + x0, TOP + y0, x1 - x0, y1 - y0);
  context.imageSmoothingEnabled = false;
  const kinds = ["base", "crop", "attention", "score", "product"];
  const signs = ["", "›", "× (", "→", ") ="];
  const left = EDGE + photoWidth + 34;
  kinds.forEach((kind, column) => {
    const x = left + column * (TILE + GAP);
    write(kind, x + TILE / 2, TOP - 10, 13, 600, "center");
    board.rows.forEach(({ tiles }, k) => {
      const y = TOP + k * (TILE + 14);
      const face = tiles[kind].canvas;
      const scale = TILE / Math.max(face.width, face.height);
      const [w, h] = [face.width * scale, face.height * scale];
      context.drawImage(face, x + (TILE - w) / 2, y + (TILE - h) / 2, w, h);
      if (column === 0) {
        context.fillStyle = BASES[k % BASES.length];
        context.fillRect(x - 10, y, 5, TILE);
      }
      if (signs[column]) write(signs[column], x - GAP / 2, y + TILE / 2 + 6, 20, 500, "center");
    });
  });
  const x = left + 5 * (TILE + GAP) + 12;
  write("sum", x + TILE / 2, TOP - 10, 13, 600, "center");
  write("Σ", x - GAP / 2 - 4, TOP + TILE / 2 + 8, 22, 500, "center");
  context.drawImage(board.logits.canvas, x, TOP, TILE, TILE);
  write("σ  mask", x + TILE / 2, TOP + TILE + 34, 13, 600, "center");
  context.drawImage(board.mask.canvas, x, TOP + TILE + 46, TILE, TILE);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Let the browser save a file. */
export function saved(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
