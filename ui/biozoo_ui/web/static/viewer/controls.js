// The panel beside the image: layers with their channels, and the sliders of z and time.
// It is built once per set of layers; sync() then shows the state as it is.

import { HEAT_CSS } from "./colours.js";
import { icon, make, say } from "./dom.js";
import { contrastRange } from "./range.js";
import { number } from "./scale.js";

const MANY = 4; // channels from which only the visible ones show their contrast

/** `verbs`: changed() after a change of a layer, auto(layer, channel), hold(on). */
export function panel(layers, verbs) {
  const parts = layers.map((layer, i) => section(layer, i, verbs));
  const element = make("div", { class: "zv-layers" }, ...parts.map((part) => part.element));
  if (layers.length) element.append(facts(layers[0].description));
  return { element, sync: () => parts.forEach((part) => part.sync()) };
}

function section(layer, i, verbs) {
  const syncs = [];
  const title = make("span", { class: "zv-name", title: layer.name }, layer.name);
  const head = make("div", { class: "zv-head" }, title);
  const body = [head];
  if (i > 0) {
    const show = make("input", {
      type: "checkbox",
      "aria-label": `Show ${layer.name}`,
      onchange: () => verbs.changed(Object.assign(layer, { visible: show.checked })),
    });
    head.prepend(show);
    syncs.push(() => (show.checked = layer.visible));
    const slide = opacity(layer, verbs);
    body.push(slide.element);
    syncs.push(slide.sync);
  }
  if (layer.kind === "labels") {
    const choice = styles(layer, verbs);
    body.push(choice.element);
    syncs.push(choice.sync);
  } else {
    const shown = layer.rgb ? [allChannels(layer, verbs)] : channels(layer, verbs);
    body.push(...shown.map((one) => one.element));
    syncs.push(...shown.map((one) => one.sync));
  }
  if (layer.kind === "probability")
    body.push(
      make(
        "div",
        { class: "zv-legend" },
        make("span", {}, "low"),
        make("i", { style: `background:${HEAT_CSS}` }),
        make("span", {}, "high"),
      ),
    );
  const element = make("section", { class: "zv-layer", "aria-label": layer.name }, ...body);
  const sync = () => {
    element.classList.toggle("zv-off", !layer.visible);
    syncs.forEach((one) => one());
  };
  sync();
  return { element, sync };
}

function opacity(layer, verbs) {
  const output = make("output", {});
  const input = make("input", {
    type: "range",
    min: 0,
    max: 100,
    "aria-label": `Opacity of ${layer.name}`,
    oninput: () => verbs.changed(Object.assign(layer, { opacity: input.value / 100 })),
  });
  const element = make("label", { class: "zv-slider" }, make("span", {}, "Opacity"), input, output);
  const sync = () => {
    input.value = Math.round(100 * layer.opacity);
    say(output, `${input.value} %`);
    input.style.setProperty("--to", `${input.value}%`);
  };
  return { element, sync };
}

function styles(layer, verbs) {
  const buttons = ["outlines", "filled"].map((style) =>
    make(
      "button",
      {
        type: "button",
        "data-style": style,
        onclick: () => verbs.changed(Object.assign(layer, { style })),
      },
      style === "outlines" ? "Outlines" : "Filled",
    ),
  );
  const words = { class: "zv-choice", role: "group", "aria-label": `How to show ${layer.name}` };
  const element = make("div", words, ...buttons);
  const sync = () => {
    for (const button of buttons)
      button.setAttribute("aria-pressed", button.dataset.style === layer.style);
  };
  return { element, sync };
}

function channels(layer, verbs) {
  return layer.channels.map((channel, c) => {
    const toggle = make(
      "button",
      {
        type: "button",
        class: "zv-toggle",
        "aria-label": `Channel ${channel.name}`,
        onclick: () => verbs.toggleChannel(layer, c),
      },
      icon("eye"),
    );
    const colour = make("input", {
      type: "color",
      class: "zv-colour",
      "aria-label": `Colour of ${channel.name}`,
      oninput: () => verbs.changed(Object.assign(channel, { color: colour.value })),
    });
    const mapped = layer.kind === "probability";
    // A map that is the only one needs no row of its own to be switched.
    const alone = layer.channels.length === 1;
    const words = alone && mapped ? "Range of values" : channel.name;
    const name = make("span", { class: "zv-name", title: words }, words);
    const range = contrastRange(channel, layer.pixels !== "float32", (low, high) =>
      verbs.changed(Object.assign(channel, { low, high })),
    );
    const row = make(
      "div",
      { class: "zv-row" },
      alone && mapped ? null : toggle,
      mapped ? null : colour,
      name,
      buttons(layer, [c], verbs),
    );
    const element = make("div", { class: "zv-channel" }, row, range.element);
    const sync = () => {
      toggle.setAttribute("aria-pressed", channel.visible);
      colour.value = channel.color;
      range.element.hidden = !channel.visible && layer.channels.length >= MANY;
      element.classList.toggle("zv-off", !channel.visible);
      range.sync();
    };
    return { element, sync };
  });
}

/** A colour picture is looked at as one: its three channels share their contrast. */
function allChannels(layer, verbs) {
  const one = { ...layer.channels[0], name: "Colour picture", color: "#94a3b8" };
  const range = contrastRange(one, layer.pixels !== "float32", (low, high) => {
    for (const channel of [one, ...layer.channels]) Object.assign(channel, { low, high });
    verbs.changed();
  });
  const row = make(
    "div",
    { class: "zv-row" },
    make("span", { class: "zv-name" }, "Contrast"),
    buttons(layer, [0, 1, 2], verbs),
  );
  const sync = () => {
    const { low, high } = layer.channels[0];
    Object.assign(one, { low, high });
    range.sync();
  };
  return { element: make("div", { class: "zv-channel" }, row, range.element), sync };
}

function buttons(layer, which, verbs) {
  const names = which.map((c) => layer.channels[c].name).join(", ");
  const full = () => {
    for (const c of which) {
      const channel = layer.channels[c];
      [channel.low, channel.high] = channel.range;
    }
    verbs.changed();
  };
  const button = (word, label, onclick) =>
    make(
      "button",
      {
        type: "button",
        class: "zv-small",
        title: label,
        "aria-label": `${word}: ${names}`,
        onclick,
      },
      word,
    );
  return make(
    "span",
    { class: "zv-buttons" },
    button("Auto", "Contrast from what is in view", () => verbs.auto(layer, which)),
    button("Full", "Contrast over the whole range of the file", full),
  );
}

function facts({ sizes, dtype, pixel_size: size, unit, axes_known: known }) {
  const words = [`${sizes.x} × ${sizes.y} px`];
  if (sizes.z > 1) words.push(`${sizes.z} planes`);
  if (sizes.time > 1) words.push(`${sizes.time} time points`);
  words.push(dtype);
  if (size?.x) words.push(`${number(size.x)} ${unit ?? "px"} per pixel`);
  const guessed = known === false ? " Which axis is which was guessed: check it." : "";
  return make("p", { class: "zv-facts" }, words.join(" · "), guessed);
}

/** Sliders of z and time, where there is more than one. `set(axis, index)`. */
export function planes(sizes, set) {
  const rows = [["z", "z", "Plane"], ["time", "t", "Time point"]]
    .filter(([axis]) => sizes[axis] > 1)
    .map(([axis, letter, words]) => {
      const output = make("output", {});
      const input = make("input", {
        type: "range",
        min: 0,
        max: sizes[axis] - 1,
        "data-axis": axis,
        "aria-label": `${words} (${letter})`,
        oninput: () => set(axis, input.valueAsNumber),
      });
      const letters = make("span", { class: "zv-axis" }, letter);
      const element = make("label", { class: "zv-slider" }, letters, input, output);
      const sync = (view) => {
        input.value = view[axis];
        input.setAttribute("aria-valuetext", `${view[axis] + 1} of ${sizes[axis]}`);
        input.style.setProperty("--to", `${(100 * view[axis]) / (sizes[axis] - 1)}%`);
        say(output, `${view[axis] + 1} / ${sizes[axis]}`);
      };
      return { element, sync };
    });
  const element = make("div", { class: "zv-planes" }, ...rows.map((row) => row.element));
  element.hidden = !rows.length;
  return { element, sync: (view) => rows.forEach((row) => row.sync(view)) };
}
