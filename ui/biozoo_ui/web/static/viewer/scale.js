// Lengths and numbers in words: the scale bar, zoom, values. Pure functions.

const METRES = { nm: 1e-9, µm: 1e-6, um: 1e-6, "μm": 1e-6, mm: 1e-3, cm: 1e-2, m: 1 };
const STEPS = [1, 2, 5];

/** A number for people: whole ones as they are, others with four significant digits. */
export function number(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "not a number" : String(value);
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e7) return value.toExponential(3);
  return String(Number(value.toPrecision(4)));
}

/** A length with the unit that keeps its number short: (0.4, "µm") -> "400 nm". */
export function length(value, unit) {
  const metres = METRES[unit];
  if (metres === undefined) return `${number(value)} ${unit}`;
  const inMetres = value * metres;
  const fitting = inMetres < 0.9995e-6 ? "nm" : inMetres < 0.9995e-3 ? "µm" : "mm";
  return `${number(Number((inMetres / METRES[fitting]).toPrecision(6)))} ${fitting}`;
}

/**
 * The longest round length (1, 2 or 5 times a power of ten) that is at most `most` CSS pixels long.
 * `perPixel`: length of one CSS pixel in `unit`. Without a unit the bar counts image pixels.
 */
export function scaleBar(perPixel, unit, most = 120) {
  const limit = perPixel * most;
  let power = 10 ** Math.floor(Math.log10(limit));
  if (!(power > 0)) power = Number.MIN_VALUE;
  let round = power;
  for (const step of STEPS) if (step * power <= limit * (1 + 1e-9)) round = step * power;
  return { pixels: round / perPixel, text: unit ? length(round, unit) : `${number(round)} px` };
}

/** Zoom in percent: 100 % is one image pixel on one CSS pixel. */
export function percent(scale) {
  const value = 100 * scale;
  return `${value >= 10 ? Math.round(value) : Number(value.toPrecision(2))} %`;
}
