// The tools: what they are called, by which key and gesture they work, and what they send.
//
// Gestures: "line" follows the pointer with a width; "loop" is closed when it ends; "cut" is a line
// from one place to another; "place" is a click; null moves the image.

export const TOOLS = {
  move: { words: "Move the image", key: "v", gesture: null },
  brush: { words: "Brush", key: "b", gesture: "line" },
  erase: { words: "Eraser", key: "e", gesture: "line" },
  fill: { words: "Fill", key: "f", gesture: "place" },
  outline: { words: "Outline", key: "o", gesture: "loop" },
  add: { words: "Add an object: draw around it", key: "a", gesture: "loop" },
  split: { words: "Split: draw a line across an object", key: "s", gesture: "cut" },
  merge: { words: "Merge: draw a line from one object to another", key: "m", gesture: "cut" },
  delete: { words: "Delete what is clicked", key: "d", gesture: "place" },
  pick: { words: "Pick a label from the image", key: "p", gesture: "place" },
};

const HOW = {
  move: "Drag the image; the wheel zooms.",
  brush: "Drag to paint.",
  erase: "Drag over what is to go.",
  fill: "Click: all that hangs together there is filled.",
  outline: "Draw around it, or click corner by corner.",
  add: "Draw around a new object, or click corner by corner.",
  split: "Draw a line right across an object.",
  merge: "Draw a line from one object to another.",
  delete: "Click on what is to go.",
  pick: "Click on what you want to paint more of.",
};
const HOW_OBJECTS = {
  brush: "Drag. A stroke that begins on an object adds to it, elsewhere it makes a new one.",
  fill: "Click into a hole of an object.",
  pick: "Click on the object that you want to paint more of.",
};

/** A tool in words: [what it is called, what to do with it]. */
export function told(tool, kind) {
  const how = (kind === "instances" && HOW_OBJECTS[tool]) || HOW[tool];
  return [TOOLS[tool].words.split(/[ :]/)[0], how];
}

export const ORDER = {
  classes: ["move", "brush", "erase", "fill", "outline", "delete", "pick"],
  instances: ["move", "brush", "erase", "fill", "add", "split", "merge", "delete", "pick"],
};

/** What a key chooses among the tools of a kind; "o" and "a" are both outlines. */
export function toolOf(key, kind) {
  const names = ORDER[kind];
  const found = names.find((name) => TOOLS[name].key === key);
  if (found) return found;
  if (key === "o") return names.find((name) => TOOLS[name].gesture === "loop");
  if (key === "a" && kind === "classes") return "outline";
  return undefined;
}

/** The keys of the help, as input.js has them. */
export const EDIT_KEYS = [
  ["b  e  f", "brush, eraser, fill"],
  ["o  a", "outline; of objects: add one"],
  ["s  m  d", "split, merge and delete objects"],
  ["p", "pick a label; Alt and a click do too"],
  ["v", "move the image; hold Space, or use the middle button or two fingers"],
  ["[  ]", "smaller and larger brush"],
  ["1 to 9", "choose a class"],
  ["Ctrl+Z", "undo; Ctrl+Shift+Z or Ctrl+Y: redo"],
  ["Enter", "use the tool in the middle of the view, or end an outline"],
  ["Escape", "give up what is being drawn"],
];
