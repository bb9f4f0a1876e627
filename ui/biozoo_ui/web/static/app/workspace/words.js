// What is said of an image. Pure functions; the comparison uses them too.

const TYPES = { uint8: "8 bit", uint16: "16 bit", uint32: "32 bit", bool: "yes or no" };
const AXES = { batch: "items", time: "time", channel: "channels", z: "z", y: "y", x: "x" };
export const LETTERS = { batch: "b", time: "t", channel: "c", z: "z", y: "y", x: "x" };

// "1024 × 768 pixels, 5 planes, 16 bit"
export function sizeWords({ sizes, dtype }) {
  const parts = [`${sizes.x} × ${sizes.y} pixels`];
  if (sizes.z > 1) parts.push(`${sizes.z} planes`);
  if (sizes.time > 1) parts.push(`${sizes.time} time points`);
  parts.push(TYPES[dtype] ?? dtype);
  return parts.join(", ");
}

// "z, y, x": the order in the file.
export function axesWords({ dims }) {
  return dims.map((axis) => AXES[axis] ?? axis).join(", ");
}

export const axisName = (axis) => AXES[axis] ?? axis;

// "0.5 µm per pixel, 2 µm between planes"
export function pixelWords({ pixel_size: size, sizes, unit = "µm" }) {
  const near = (a, b) => Math.abs(a - b) < 1e-6 * Math.max(a, b);
  const parts = [];
  const { z, y, x } = size ?? {};
  if (y && x && near(y, x)) parts.push(`${short(x)} ${unit} per pixel`);
  else if (y && x) parts.push(`${short(x)} × ${short(y)} ${unit} per pixel (x, y)`);
  else if (y ?? x) parts.push(`${short(y ?? x)} ${unit} per pixel along ${y ? "y" : "x"}`);
  if (z && sizes.z > 1) parts.push(`${short(z)} ${unit} between planes`);
  return parts.join(", ") || "not known";
}

const short = (value) => String(Number(value.toPrecision(4)));

// Those that are offered to run on: not what a run or a preview made.
export const given = (images) => images.filter((image) => !image.result);

// Notes of the library as sentences: "padded along x" -> "Padded along x."
export function sentence(words) {
  const whole = /[.!?]$/.test(words) ? words : `${words}.`;
  return capital(whole);
}

export const capital = (words) => words.charAt(0).toUpperCase() + words.slice(1);
