// The keys of painting. They work wherever the keyboard is on the page, except where one types.

import { toolOf } from "./tools.js";

const STEP = 1.25; // of the brush per key

/** Returns the ending. */
export function listenForKeys(editor) {
  const ending = new AbortController();
  const options = { signal: ending.signal, capture: true };
  const typing = (target) =>
    target.matches?.("textarea, select, [contenteditable], input:not([type=range], [type=checkbox], [type=radio])");
  const elsewhere = ({ target }) =>
    typing(target) || Boolean(target.closest?.("dialog, [role=dialog]"));

  const pressed = (event) => {
    if (event.defaultPrevented || elsewhere(event)) return;
    if (handled(event)) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  };

  function handled(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const { stage } = editor.viewer.parts;
    if ((event.ctrlKey || event.metaKey) && !event.altKey) {
      if (key === "z") return editor[event.shiftKey ? "redo" : "undo"](), true;
      if (key === "y") return editor.redo(), true;
      return false;
    }
    if (event.ctrlKey || event.metaKey || (event.altKey && !event.getModifierState("AltGraph")))
      return false;
    if (key === "Escape") return editor.cancel();
    if (key === "Enter" && event.target === stage) return editor.enter(), true;
    if (key === " " && event.target === stage) return hold(true), true;
    if (editor.state.tool === "brush" || editor.state.tool === "erase") {
      const { radius } = editor.state;
      if (key === "[") return editor.radius(Math.min(radius - 0.5, radius / STEP)), true;
      if (key === "]") return editor.radius(Math.max(radius + 0.5, radius * STEP)), true;
    }
    if (/^[1-9]$/.test(key) && editor.kind === "classes") {
      const found = editor.layer?.description.classes[Number(key) - 1];
      if (found) editor.set({ value: found.value });
      return Boolean(found);
    }
    const tool = event.repeat ? undefined : toolOf(key, editor.kind);
    if (tool && editor.layer) return editor.tool(tool), true;
    return false;
  }

  function hold(on) {
    if (editor.spaced === on) return;
    editor.spaced = on;
    editor.viewer.parts.stage.classList.toggle("zv-grab", on);
    editor.later();
  }

  document.addEventListener("keydown", pressed, options);
  document.addEventListener("keyup", (event) => event.key === " " && hold(false), options);
  addEventListener("blur", () => hold(false), options);
  // Whoever comes back to this tab sees what was painted in another one.
  const back = () => document.visibilityState === "visible" && editor.look();
  document.addEventListener("visibilitychange", back, options);
  // Only the window's own: each button that is chosen has one, too.
  addEventListener("focus", ({ target }) => target === window && back(), options);
  // One stroke on its way arrives although the page is left; what waits behind it does not.
  const leaving = (event) => {
    const { unsaved, trouble } = editor.sender;
    if (unsaved > 1 || trouble) event.preventDefault();
  };
  addEventListener("beforeunload", leaving, options);
  return () => ending.abort();
}
