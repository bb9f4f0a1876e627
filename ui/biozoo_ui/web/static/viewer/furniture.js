// What lies over and below the image: buttons, wipe line, scale bar, help, messages, status line.

import { EDIT_KEYS } from "./edit/tools.js";
import { icon, make, say } from "./dom.js";
import { KEYS } from "./input.js";
import { length, number, percent, scaleBar } from "./scale.js";

/** `verbs` as in input.js, and retry(), panel(), setWipe(part). Returns parts and their syncs. */
export function furniture(verbs) {
  const canvas = make("canvas", { class: "zv-canvas" });
  const stage = make("div", { class: "zv-stage", tabindex: 0, role: "application" }, canvas);
  const cross = make("span", { class: "zv-cross", hidden: true, "aria-hidden": "true" });
  const bar = make("div", { class: "zv-scale", role: "img" }, make("span", {}), make("i", {}));
  const live = make("p", { class: "zv-live", "aria-live": "polite" });
  const waiting = make("span", { class: "zv-waiting", hidden: true, "aria-hidden": "true" });
  const wipe = wipeLine(stage, verbs);
  const help = helpBox(verbs);
  const message = messageBox(verbs);
  const tools = toolBar(verbs);
  const status = statusLine();
  stage.append(cross, bar);
  const view = make(
    "div",
    { class: "zv-view" },
    stage, wipe.element, waiting, tools.element, message.element, help.element,
  );
  return { canvas, stage, view, cross, bar, live, waiting, wipe, help, message, tools, status };
}

export function syncScale(bar, layer, scale) {
  const size = layer.description.pixel_size?.x;
  const { pixels, text } = scaleBar((size || 1) / scale, size ? layer.description.unit : null);
  bar.lastChild.style.width = `${pixels}px`;
  bar.setAttribute("aria-label", `Scale bar: ${text}`);
  say(bar.firstChild, text);
}

function button(name, label, onclick, more = {}) {
  const words = { type: "button", title: label, "aria-label": label, onclick, ...more };
  return make("button", words, icon(name));
}

function toolBar(verbs) {
  const wipe = button("wipe", "Wipe between the image alone and with overlays (w)", verbs.wipe);
  // Held like the key, so that a finger can do it too.
  const hold = button("eye", "Hold to see the image alone (h)", null, { class: "zv-hold" });
  const set = (on) => (event) => {
    event.preventDefault();
    verbs.hold(on);
  };
  hold.addEventListener("pointerdown", (event) => {
    hold.setPointerCapture(event.pointerId);
    set(true)(event);
  });
  for (const end of ["pointerup", "pointercancel"]) hold.addEventListener(end, set(false));
  hold.addEventListener("contextmenu", (event) => event.preventDefault());
  const pressing = (event) => event.key === " " || event.key === "Enter";
  hold.addEventListener("keydown", (event) => pressing(event) && set(true)(event));
  hold.addEventListener("keyup", (event) => pressing(event) && set(false)(event));
  const compare = make("div", { class: "zv-group" }, wipe, hold);
  const panel = button("panel", "Layers and contrast", verbs.panel);
  const element = make(
    "div",
    { class: "zv-tools", role: "toolbar", "aria-label": "View" },
    make(
      "div",
      { class: "zv-group" },
      button("plus", "Zoom in (+)", () => verbs.zoom(1.6)),
      button("minus", "Zoom out (−)", () => verbs.zoom(1 / 1.6)),
      button("fit", "Fit the image into the view (0)", verbs.fit),
    ),
    compare,
    make("div", { class: "zv-group" }, panel, button("help", "Keys (?)", () => verbs.help())),
  );
  const sync = ({ overlays, wiping, open }) => {
    compare.hidden = !overlays;
    wipe.setAttribute("aria-pressed", wiping);
    panel.setAttribute("aria-expanded", open);
  };
  return { element, sync };
}

function wipeLine(stage, verbs) {
  const element = make(
    "div",
    {
      class: "zv-wipe",
      role: "slider",
      tabindex: 0,
      hidden: true,
      "aria-label": "Wipe: the image alone is left of the line",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    },
    make("b", {}, icon("wipe")),
  );
  let part = 0.5;
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    verbs.setWipe((event.clientX - box.left) / box.width);
  };
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    element.focus({ preventScroll: true });
    event.preventDefault();
  });
  element.addEventListener("pointermove", (event) => {
    if (element.hasPointerCapture(event.pointerId)) follow(event);
  });
  element.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02, ArrowDown: -0.02, ArrowUp: 0.02 }[event.key];
    const end = { Home: 0, End: 1 }[event.key];
    if (step === undefined && end === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    verbs.setWipe(end ?? part + step);
  });
  const sync = (now) => {
    element.hidden = now === null;
    if (now === null) return;
    part = now;
    element.style.left = `${100 * now}%`;
    element.setAttribute("aria-valuenow", Math.round(100 * now));
  };
  return { element, sync };
}

function helpBox(verbs) {
  const close = button("close", "Close", () => verbs.help(false), { class: "zv-close" });
  const rows = (keys) =>
    keys.map(([key, words]) => make("div", {}, make("dt", {}, key), make("dd", {}, words)));
  const element = make(
    "div",
    { class: "zv-help", role: "dialog", "aria-label": "Keys", hidden: true },
    make("h3", {}, "Keys"),
    close,
    make("dl", {}, ...rows(KEYS)),
    make("h3", { class: "zv-painting" }, "While painting"),
    make("dl", { class: "zv-painting" }, ...rows(EDIT_KEYS)),
    make(
      "p",
      {},
      "Mouse: drag to move, wheel to zoom, Shift and wheel for z, double click to zoom in. " +
        "Touch: one finger moves, two zoom.",
    ),
  );
  return { element, close };
}

function messageBox(verbs) {
  const words = make("p", {});
  const retry = make("button", { type: "button", onclick: verbs.retry }, "Try again");
  const element = make("div", { class: "zv-message", role: "alert", hidden: true }, words, retry);
  /** `whole`: there is nothing else to see; else a strip over the image. */
  const sync = (text, { whole = false, again = true } = {}) => {
    element.hidden = !text;
    element.classList.toggle("zv-whole", whole);
    retry.hidden = !again;
    say(words, text ?? "");
  };
  return { element, sync };
}

function statusLine() {
  const place = make("span", { class: "zv-place" });
  const pixel = make("span", {});
  const inUnits = make("span", { class: "zv-units" });
  const values = make("span", { class: "zv-values" });
  const zoom = make("span", { class: "zv-zoom" });
  const element = make("div", { class: "zv-status" }, place, values, zoom);
  /** `pointer`: {y, x, inside, values}, or null where nothing is pointed at. */
  const sync = (pointer, first, scale) => {
    say(zoom, percent(scale));
    const hint = first ? "Point at the image to read its values" : "";
    if (!pointer?.inside) {
      say(place, hint);
      values.replaceChildren();
      return;
    }
    const { pixel_size: size, unit } = first.description;
    const [y, x] = [Math.floor(pointer.y), Math.floor(pointer.x)];
    const real = size?.x && size?.y && unit
      ? ` (${length((x + 0.5) * size.x, unit)}, ${length((y + 0.5) * size.y, unit)})`
      : "";
    say(pixel, `x ${x}, y ${y}`);
    say(inUnits, real);
    if (!pixel.parentElement) place.replaceChildren(pixel, inUnits);
    values.replaceChildren(...pointer.values.map(value));
  };
  return { element, sync };
}

function value({ layer, channel, value: found }) {
  const labels = layer.kind === "labels";
  const own = layer.channels[channel];
  const name = layer.kind === "image" ? own.name : layer.name;
  let text = found === undefined ? "…" : number(found);
  if (labels && found !== undefined) text = found ? layer.labelName(found) : "none";
  const dot = make("i", {});
  const element = make("span", { class: "zv-value" }, dot, `${name} `, make("b", {}, text));
  if (labels && found) dot.style.background = layer.labelColour(found);
  else if (layer.kind === "image") dot.style.background = own.color;
  else dot.remove();
  return element;
}
