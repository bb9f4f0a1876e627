// Colours of labels and of maps, the same as in the pictures of a result (api/layers.py), once for
// the graphics card and once for the panel.

// Dark violet to pale yellow, rising evenly in lightness: readable without colour vision.
const HEAT = [
  [20, 11, 52],
  [114, 31, 129],
  [205, 64, 113],
  [253, 154, 106],
  [252, 253, 191],
];

export const HEAT_CSS = `linear-gradient(90deg, ${HEAT.map((rgb) => `rgb(${rgb})`).join(", ")})`;

const stop = (rgb) => `vec3(${rgb.map((part) => (part / 255).toFixed(5)).join(", ")})`;

export const HEAT_GLSL = `
vec3 heat(float t) {
  float at = clamp(t, 0.0, 1.0) * 4.0;
  if (at < 1.0) return mix(${stop(HEAT[0])}, ${stop(HEAT[1])}, at);
  if (at < 2.0) return mix(${stop(HEAT[1])}, ${stop(HEAT[2])}, at - 1.0);
  if (at < 3.0) return mix(${stop(HEAT[2])}, ${stop(HEAT[3])}, at - 2.0);
  return mix(${stop(HEAT[3])}, ${stop(HEAT[4])}, at - 3.0);
}`;

// Steps of the golden ratio: labels that follow each other get far hues.
export const LABEL_GLSL = `
vec3 labelColour(uint label) {
  uint i = (label - 1u) % 255u;
  float hue = fract(float(i) * 0.618034);
  float saturation = i % 3u == 0u ? 0.62 : (i % 3u == 1u ? 0.8 : 0.95);
  float value = i % 2u == 0u ? 1.0 : 0.92;
  vec3 k = abs(fract(hue + vec3(1.0, 2.0 / 3.0, 1.0 / 3.0)) * 6.0 - 3.0);
  return value * mix(vec3(1.0), clamp(k - 1.0, 0.0, 1.0), saturation);
}`;

export function labelColour(label) {
  const i = (label - 1) % 255;
  const hue = (i * 0.618034) % 1;
  const [saturation, value] = [[0.62, 0.8, 0.95][i % 3], [1, 0.92][i % 2]];
  const part = (shift) => {
    const k = Math.abs(((hue + shift) % 1) * 6 - 3);
    const pure = Math.min(1, Math.max(0, k - 1));
    return Math.round(255 * value * (1 - saturation + saturation * pure));
  };
  return `rgb(${part(1)}, ${part(2 / 3)}, ${part(1 / 3)})`;
}

/** "#4060ff" -> [0.25, 0.376, 1]; three digits too; what is no colour is white. */
export function rgb(hex) {
  let digits = /^#([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(hex)?.[1] ?? "ffffff";
  if (digits.length === 3) digits = [...digits].map((digit) => digit + digit).join("");
  return [0, 2, 4].map((i) => parseInt(digits.slice(i, i + 2), 16) / 255);
}
