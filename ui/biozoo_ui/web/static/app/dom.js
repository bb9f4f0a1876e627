// Elements, icons and style sheets. Text is always text: most words come from strangers' packages.

const SVG = "http://www.w3.org/2000/svg";

// el("button", {class: "x", on: {click: f}, "aria-pressed": true}, "Text", node, null)
// `true` and `false` are written out for aria-*; elsewhere they set or leave out an attribute.
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined) return;
  if (name === "on") {
    for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
  } else if (name === "text") element.textContent = value;
  else if (name === "value") element.value = value;
  else if (name.startsWith("aria-")) element.setAttribute(name, String(value));
  else if (typeof value === "boolean") element.toggleAttribute(name, value);
  else element.setAttribute(name, value);
}

export function clear(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null));
  return element;
}

// Line drawings on a field of 24 x 24: no font of symbols is needed.
const ICONS = {
  yes: "M5 12.5l4.5 4.5L19 7.5",
  no: "M6.5 6.5l11 11M17.5 6.5l-11 11",
  note: "M12 3.5a8.5 8.5 0 1 1 0 17a8.5 8.5 0 0 1 0-17M12 8v.1M12 11.8v4.4",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  search: "M10.5 4a6.5 6.5 0 1 1 0 13a6.5 6.5 0 0 1 0-13M15.4 15.4L20 20",
  download: "M12 4v11M7.5 11l4.5 4.5L16.5 11M5 19.5h14",
  upload: "M12 15.5V4.5M7.5 8.5L12 4l4.5 4.5M5 19.5h14",
  image: "M4 5h16v14H4zM4 16l4.5-5l4 4.5l2.5-2.5l5 5M15.5 9.2v.1",
  folder: "M4 18.5V6h5.5l2 2.5H20v10z",
  play: "M8 5.5v13l10.5-6.5z",
  stop: "M7 7h10v10H7z",
  again: "M19 12a7 7 0 1 1-2-5M19 4v4h-4",
  compare: "M4 5h7v14H4zM13 5h7v14h-7z",
  eye: "M3 12c3-5 6-7 9-7s6 2 9 7c-3 5-6 7-9 7s-6-2-9-7M12 9.5a2.5 2.5 0 1 1 0 5a2.5 2.5 0 0 1 0-5",
  list: "M9 6.5h11M9 12h11M9 17.5h11M4.5 6.5h.1M4.5 12h.1M4.5 17.5h.1",
  back: "M14.5 5.5L8 12l6.5 6.5",
  next: "M9.5 5.5L16 12l-6.5 6.5",
  remove: "M5 7h14M9.5 7V4.5h5V7M7 7l1 12.5h8L17 7",
  ruler: "M3.5 15.5l12-12l5 5l-12 12zM7.5 11.5l2 2M10.5 8.5l2 2M13.5 5.5l2 2",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  for (const [key, value] of [
    ["class", "icon"],
    ["viewBox", "0 0 24 24"],
    ["aria-hidden", "true"],
    ["focusable", "false"],
  ]) {
    svg.setAttribute(key, value);
  }
  path.setAttribute("d", ICONS[name] ?? ICONS.note);
  svg.append(path);
  return svg;
}

const styles = new Map();

// loadStyle(import.meta.url, "./browse.css"): once per page; resolves when it is there, so that
// a view is never seen without its look.
export function loadStyle(from, path) {
  const href = new URL(path, from).href;
  if (!styles.has(href)) {
    const link = el("link", { rel: "stylesheet", href });
    styles.set(href, new Promise((done) => (link.onload = link.onerror = done)));
    document.head.append(link);
  }
  return styles.get(href);
}
