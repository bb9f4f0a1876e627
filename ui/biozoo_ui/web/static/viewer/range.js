// Contrast by hand: a range with two handles, and the same two values as numbers.

import { make } from "./dom.js";
import { number } from "./scale.js";

const PARTS = 1000;

/**
 * `channel`: {name, low, high, range, color}; `changed(low, high)` is called while a handle moves.
 * Returns {element, sync}: sync() shows the channel's values as they are now.
 */
export function contrastRange(channel, whole, changed) {
  // The file's full range is often far wider than its values: the track reaches a little beyond
  // what is in use, and grows when a number beyond it is typed.
  let [from, to] = [0, 1];
  const tidy = (value) => (whole ? Math.round(value) : Number(value.toPrecision(5)));
  const gap = () => (whole ? 1 : (to - from) / PARTS || 1e-9);
  const handle = (which, word) =>
    make("input", {
      type: "range",
      min: 0,
      max: PARTS,
      class: `zv-handle zv-${which}`,
      "aria-label": `${channel.name}: ${word}`,
      oninput: () => slide(which),
    });
  const field = (which, word) =>
    make("input", {
      type: "number",
      step: whole ? 1 : "any",
      class: "zv-number",
      "aria-label": `${channel.name}: ${word} value`,
      onchange: () => type(which),
    });
  const low = [handle("low", "black from"), field("low", "black from")];
  const high = [handle("high", "brightest from"), field("high", "brightest from")];
  const track = make("span", { class: "zv-track" });
  const element = make(
    "div",
    { class: "zv-contrast" },
    make("div", { class: "zv-range" }, track, low[0], high[0]),
    low[1],
    high[1],
  );

  function slide(which) {
    const value = tidy(from + ((which === "low" ? low : high)[0].value / PARTS) * (to - from));
    apply(which, value);
  }

  function type(which) {
    const value = (which === "low" ? low : high)[1].valueAsNumber;
    if (Number.isFinite(value)) apply(which, whole ? Math.round(value) : value);
    else sync();
  }

  /** A handle pushes the other one along rather than crossing it. */
  function apply(which, value) {
    const [a, b] = [channel.low, channel.high];
    if (which === "low") changed(value, Math.max(b, value + gap()));
    else changed(Math.min(a, value - gap()), value);
    sync();
  }

  function sync() {
    const sliding = element.matches(":has(input[type=range]:active)");
    if (!sliding) {
      const roomy = Math.max(2 * channel.high - Math.min(0, channel.low), channel.high);
      from = Math.min(channel.range[0], channel.low);
      to = Math.max(channel.high, Math.min(channel.range[1], roomy));
    }
    const part = (value) => (PARTS * (value - from)) / (to - from || 1);
    for (const [[slider, input], value] of [[low, channel.low], [high, channel.high]]) {
      slider.value = Math.round(part(value));
      slider.setAttribute("aria-valuetext", number(value));
      if (input !== document.activeElement) input.value = Number(value.toPrecision(6));
    }
    const percent = (value) => `${Math.min(100, Math.max(0, part(value) / (PARTS / 100)))}%`;
    track.style.setProperty("--from", percent(channel.low));
    track.style.setProperty("--to", percent(channel.high));
    track.style.setProperty("--ink", channel.color);
    // Both handles at the upper end: the lower one must stay within reach.
    low[0].classList.toggle("zv-front", part(channel.low) > 0.9 * PARTS);
  }

  sync();
  return { element, sync };
}
