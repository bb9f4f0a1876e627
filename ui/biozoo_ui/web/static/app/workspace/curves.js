// Two small curves of a training: the loss, which falls, and the score, which rises.

const SVG = "http://www.w3.org/2000/svg";
const [WIDE, TALL] = [320, 76];
const EDGE = { left: 4, right: 4, top: 8, bottom: 6 };

// curves({epochs: [{number, step, loss, score}], metric, steps}) -> an element
export function curves({ epochs, metric, steps }) {
  const figure = document.createElement("div");
  figure.className = "work-curves";
  figure.append(curve("Error while it learns", epochs, (one) => one.loss, steps));
  if (epochs.some((one) => one.score !== null)) {
    const name = `${scoreWords(metric)} while it learns`;
    figure.append(curve(name, epochs, (one) => one.score, steps, [0, 1]));
  }
  return figure;
}

// One line, with its last value in words; `bounds`: the least range of its axis.
function curve(name, epochs, value, steps, bounds) {
  const points = epochs
    .map((one) => ({ x: one.step, y: value(one) }))
    .filter(({ y }) => typeof y === "number");
  const last = points.at(-1);
  const figure = document.createElement("figure");
  const words = document.createElement("figcaption");
  const told = last ? number(last.y) : "…";
  const label = document.createElement("span");
  label.textContent = name;
  const shown = document.createElement("b");
  shown.textContent = told;
  words.append(label, shown);
  const svg = make("svg", {
    viewBox: `0 0 ${WIDE} ${TALL}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": last
      ? `${name}: ${told} after ${last.x} steps, ${number(points[0].y)} after ${points[0].x}`
      : `${name}: nothing yet`,
  });
  svg.dataset.curve = name;
  svg.dataset.points = points.length;
  const ys = points.map(({ y }) => y);
  const [low, high] = range(ys, bounds);
  const across = (x) => EDGE.left + (x / Math.max(1, steps)) * (WIDE - EDGE.left - EDGE.right);
  const down = (y) =>
    EDGE.top + (1 - (y - low) / (high - low)) * (TALL - EDGE.top - EDGE.bottom);
  for (const part of [0, 0.5, 1]) {
    const y = EDGE.top + part * (TALL - EDGE.top - EDGE.bottom);
    svg.append(make("line", { x1: 0, x2: WIDE, y1: y, y2: y, class: "work-grid" }));
  }
  if (points.length) {
    const line = points.map(({ x, y }) => `${across(x).toFixed(1)},${down(y).toFixed(1)}`);
    svg.append(make("polyline", { points: line.join(" "), class: "work-line-of" }));
    for (const { x, y } of points.slice(-1)) {
      svg.append(make("circle", { cx: across(x), cy: down(y), r: 3, class: "work-now" }));
    }
  }
  figure.append(words, svg);
  return figure;
}

// A score in words, with its name in the literature.
const SCORES = { AP50: "Objects found right", "AP50:90": "Objects outlined right" };
export const scoreWords = (metric) =>
  SCORES[metric] ? `${SCORES[metric]} (${metric})` : metric;

function range(values, bounds) {
  if (!values.length) return bounds ?? [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (bounds) return [Math.min(low, bounds[0]), Math.max(high, bounds[1])];
  const room = (high - low) * 0.1 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

const number = (value) => (Math.abs(value) < 10 ? value.toFixed(3) : value.toFixed(1));

function make(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
