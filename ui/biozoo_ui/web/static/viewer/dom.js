// Small helpers for building the page's parts.

/** An element: make("button", {class: "x", onclick: f, "aria-label": "..."}, child, "text"). */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const ICONS = {
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  wipe: "M12 3v18M8 8l-4 4 4 4M16 8l4 4-4 4",
  help: "M9.2 9a3 3 0 1 1 4.2 2.9c-.9.5-1.4 1-1.4 2.1M12 17.6v.1",
  panel: "M4 6h9M17 6h3M4 12h3M11 12h9M4 18h9M17 18h3M15 4v4M9 10v4M15 16v4",
  eye:
    "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12Z" +
    "M12 9.3a2.7 2.7 0 1 1 0 5.4 2.7 2.7 0 0 1 0-5.4Z",
  close: "M6 6l12 12M18 6L6 18",
};

export const icon = (name) => drawing(ICONS[name]);

/** A line drawing on a field of 24 x 24. */
export function drawing(lines) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", lines);
  svg.append(path);
  return svg;
}

/** Write only what changed: a screen reader speaks, and the browser lays out, each writing. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
