// Colours of maps: tables of 256 colours, and numbers turned into pixels by them.

// A base has one colour everywhere on the page; red and blue are the signs' of values.
export const BASES = ["#6b46b8", "#c9609f", "#d99a00", "#009e73", "#8a7a5c", "#4f9aa3"];
export const OBJECTS = ["#00b386", "#e6007e", "#3d7eff", "#ff8c1a", "#9a5cff", "#c2b100", "#00a5c8", "#e04f3f"];
const SIGNED = {
  light: ["#14418b", "#4393c3", "#b7d7ea", "#f7f7f7", "#f8c9ae", "#d6604d", "#8f1020"],
  dark: ["#a6d8ff", "#3f8fd4", "#1f4464", "#15181d", "#66281f", "#df6047", "#ffc7b2"],
};
const AGAINST = { light: "#8d96a0", dark: "#525a63" }; // an attention below zero
const EMPTY = { light: "#f4f5f6", dark: "#15181d" };

const channels = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
const packed = ([red, green, blue], alpha = 255) =>
  ((alpha << 24) | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red)) >>> 0;
const between = (a, b, share) => a.map((value, i) => value + (b[i] - value) * share);

/** 256 colours along some given ones. */
function ramp(colors) {
  const stops = colors.map(channels);
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (stops.length - 1);
    const first = Math.min(Math.floor(place), stops.length - 2);
    return packed(between(stops[first], stops[first + 1], place - first));
  });
}

/** A see-through table for maps over a picture: the farther from zero, the denser. */
function veil(colors) {
  const table = ramp(colors);
  return table.map((color, i) => {
    const far = Math.min(Math.abs(i - 127.5) / 90, 1);
    return ((color & 0xffffff) | (Math.round(215 * far ** 0.8) << 24)) >>> 0;
  });
}

/** All tables of a theme, "light" or "dark". */
export function tables(theme) {
  return {
    signed: ramp(SIGNED[theme]),
    veil: veil(SIGNED.light),
    base: BASES.map((color) => ramp([EMPTY[theme], color])),
    attention: BASES.map((color) => ramp([AGAINST[theme], EMPTY[theme], color])),
    mask: ramp([EMPTY[theme], OBJECTS[0]]),
  };
}

export const packedColor = (color, alpha) => packed(channels(color), alpha);

/**
 * Pixels of numbers: `low` and below has the table's first colour, `high` and above its last.
 * @param {Uint32Array} pixels  is filled from its start
 * @param {Float32Array} values
 * @param {number} from  first value that is drawn
 */
export function paint(pixels, values, from, low, high, table) {
  const scale = 255.999 / (high - low);
  for (let i = 0; i < pixels.length; i += 1) {
    const step = (values[from + i] - low) * scale;
    pixels[i] = table[step < 0 ? 0 : step > 255 ? 255 : step | 0];
  }
}
