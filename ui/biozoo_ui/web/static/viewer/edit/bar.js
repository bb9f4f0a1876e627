// The tools as buttons over the image: a column beside it, a row below where it is narrow.

import { drawing, make, say } from "../dom.js";
import { ORDER, TOOLS } from "./tools.js";

const ICONS = {
  move: "M8 12V6.5a1.5 1.5 0 0 1 3 0V11V4.8a1.5 1.5 0 0 1 3 0V11V6a1.5 1.5 0 0 1 3 0v8.5" +
    "c0 3.5-2 5.5-5 5.5c-2.6 0-4-1-5.3-3.2L4.9 13.6a1.5 1.5 0 0 1 2.5-1.6L8 12.8",
  brush: "M19.5 4.5L11 13M14 10l-3.5-1M4.5 19.5c3 0 6 0 6.5-3.5a3 3 0 0 0-5-2.2c-1.5 1.4-.5 3.7-1.5 5.7",
  erase: "M9 19.5h10.5M13.5 5l5.5 5.5l-8.5 8.5H8L4.5 15.5zM9.5 9l5.5 5.5",
  fill: "M11 4l7.5 7.5l-6.5 6.5a2 2 0 0 1-2.8 0L4.5 13.3a2 2 0 0 1 0-2.8zM4.5 12H18M20 15.5c1 1.5" +
    " 1.5 2.3 1.5 3a1.5 1.5 0 0 1-3 0c0-.7.5-1.5 1.5-3",
  outline: "M6 8c2-4 9-5 12-1.5s2.5 9-1 11s-9 1-11-2M5.5 12v.1",
  add: "M5 9c1.5-4 8-5.5 11.5-3s3.5 8 1 11M12 20c-4 0-7-2.5-7.5-6M12.5 9v7M9 12.5h7",
  split: "M12 3v18M8.5 6.5C5 7 3.5 9.5 3.5 12s1.5 5 5 5.5M15.5 6.5c3.5.5 5 3 5 5.5s-1.5 5-5 5.5",
  merge: "M10 7a5 5 0 1 0 0 10M14 7a5 5 0 1 1 0 10M7.5 12h9M13.5 9.5L16.5 12l-3 2.5",
  delete: "M5 7h14M9.5 7V4.5h5V7M7 7l1 12.5h8L17 7",
  pick: "M14.5 5.5l4 4M12 8l4 4M13.5 9.5L6 17l-1.5 2.5L7 18l7.5-7.5M16.5 7.5l1.5-1.5a1.4 1.4 0 0 1 2 2L18.5 9.5",
  undo: "M8.5 5L4.5 9l4 4M5 9h8.5a5 5 0 0 1 0 10H9",
  redo: "M15.5 5l4 4l-4 4M19 9h-8.5a5 5 0 0 0 0 10H15",
};

/** `verbs`: tool(name), radius(pixels), undo(), redo(). Returns {element, sync}. */
export function bar(kind, verbs) {
  const button = (name, words, onclick) =>
    make(
      "button",
      { type: "button", title: words, "aria-label": words, "data-tool": name, onclick },
      drawing(ICONS[name]),
    );
  const tools = ORDER[kind].map((name) => {
    const { words, key } = TOOLS[name];
    return button(name, `${words} (${key})`, () => verbs.tool(name));
  });
  const undo = button("undo", "Undo (Ctrl+Z)", () => verbs.undo());
  const redo = button("redo", "Redo (Ctrl+Shift+Z)", () => verbs.redo());
  const output = make("output", {});
  const size = make("input", {
    type: "range",
    min: 0,
    max: 100,
    "aria-label": "Size of brush and eraser, pixels across",
    oninput: () => verbs.radius(radiusOf(size.valueAsNumber)),
  });
  const sizes = make("label", { class: "zv-size" }, size, output);
  const element = make(
    "div",
    { class: "zv-edit", role: "toolbar", "aria-label": "Tools to paint with" },
    make("div", { class: "zv-group" }, ...tools),
    make("div", { class: "zv-group" }, undo, redo),
    sizes,
  );
  // A pointer that chooses a tool must not draw on what lies below.
  for (const event of ["pointerdown", "dblclick"])
    element.addEventListener(event, (one) => one.stopPropagation());
  const sync = ({ tool, radius, undo: back, redo: on }) => {
    for (const one of tools) one.setAttribute("aria-pressed", one.dataset.tool === tool);
    undo.disabled = !back;
    redo.disabled = !on;
    // Its place stays: the image would move each time that a tool is chosen.
    sizes.style.visibility = TOOLS[tool].gesture === "line" ? "" : "hidden";
    const across = Math.round(2 * radius);
    if (Math.round(2 * radiusOf(size.valueAsNumber)) !== across) size.value = partOf(radius);
    size.setAttribute("aria-valuetext", `${across} pixels`);
    say(output, `${across}`);
  };
  return { element, sync };
}

// Small sizes want finer steps: 1 to 201 pixels across, by squares.
const radiusOf = (part) => 0.5 + 100 * (part / 100) ** 2;
const partOf = (radius) => 100 * Math.sqrt(Math.max(0, radius - 0.5) / 100);
