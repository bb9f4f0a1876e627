// One step of the way: a number that becomes a tick, a heading, and what is to be done.

import { clear, el, icon } from "../dom.js";
import { drawn } from "./drawn.js";

// step(2, "Model") -> {element, body, draw(values, children), state("now"), number(3)}
export function step(number, title) {
  const id = `work-step-${number}`;
  const mark = el("span", { class: "work-mark", "aria-hidden": "true" }, String(number));
  const heading = el("h2", { id, tabindex: "-1" }, title);
  const beside = el("div", { class: "work-beside" });
  const body = el("div", { class: "work-body" });
  const element = el(
    "section",
    {
      class: "work-step",
      "aria-labelledby": id,
      "data-home": "",
      "data-step": title.toLowerCase(),
    },
    el("div", { class: "work-head" }, mark, heading, beside),
    body,
  );
  let now = "";
  const marked = () => clear(mark, now === "done" ? icon("yes") : String(number));
  return {
    element,
    body,
    draw: drawn(body),
    drawBeside: drawn(beside),
    part: drawn, // for a step of several parts
    // "later" is not possible yet, "now" waits for the reader, "done" is as it is to be
    state(next) {
      if (next === now) return;
      now = next;
      element.dataset.state = next;
      marked();
    },
    // which one it is of those that are shown
    number(next) {
      if (next === number) return;
      number = next;
      marked();
    },
  };
}

// What is not of interest at first.
export function folded(key, title, ...children) {
  return el(
    "details",
    { class: "work-folded", "data-key": key },
    el("summary", {}, title),
    ...children,
  );
}

// A field with words above it.
export function labelled(words, field, more = {}) {
  return el("label", { class: "work-label", ...more }, el("span", {}, words), field);
}
