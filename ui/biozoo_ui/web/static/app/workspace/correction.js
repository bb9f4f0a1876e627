// A form for what the reader knows better than the file: axes, pixel size, image or labels.

import { button, notice } from "../parts.js";
import { clear, el } from "../dom.js";
import { labelled } from "./step.js";
import { axisName, LETTERS } from "./words.js";

const AXES = ["time", "channel", "z", "y", "x"];

// correction(image, {save(told) -> what was refused, done()}) -> a form
export function correction(image, { save, done }) {
  const axes = image.dims.map((axis, i) => dimension(image, axis, i));
  const sizes = ["x", "y", "z"].map((axis) => size(image, axis));
  const kinds = kind(image);
  const refused = el("div", { class: "work-refused" });
  const saving = el("button", { type: "submit", class: "zoo-button primary" }, "Save");
  const submit = async (event) => {
    event.preventDefault();
    saving.disabled = true;
    clear(refused);
    const words = await save(told());
    saving.disabled = false;
    if (words) clear(refused, notice("no", words));
    else done();
  };
  const told = () => {
    const given = {};
    const order = axes.map((one) => LETTERS[one.select.value]).join("");
    if (order !== image.dims.map((axis) => LETTERS[axis]).join("") || !image.axes_known) {
      given.axes = order; // a guess that is saved is known from now on
    }
    const changed = sizes.some(({ input, before }) => input.value !== before);
    const known = sizes.filter(({ input }) => input.value !== "");
    if (changed)
      given.pixel_size = Object.fromEntries(
        known.map((one) => [one.axis, Number(one.input.value)]),
      );
    if (kinds.value() !== image.kind) given.kind = kinds.value();
    return given;
  };
  return el(
    "form",
    { class: "work-form", on: { submit } },
    group(
      "What its dimensions are",
      axes.map((one) => one.element),
    ),
    group(
      "Size of a pixel, in micrometres",
      sizes.map((one) => one.element),
    ),
    group("What its values are", kinds.elements),
    refused,
    el("div", { class: "zoo-actions" }, saving, button("Cancel", { onClick: done })),
  );
}

const group = (title, fields) =>
  el(
    "fieldset",
    { class: "work-group" },
    el("legend", {}, title),
    el("div", { class: "work-fields" }, ...fields),
  );

function dimension(image, axis, i) {
  const known = AXES.includes(axis) ? AXES : [axis, ...AXES];
  const options = known.map((one) =>
    el("option", { value: one, selected: one === axis }, axisName(one)),
  );
  const long = image.sizes[axis];
  const name = `Dimension ${i + 1}`;
  const select = el(
    "select",
    { class: "zoo-field", "data-dimension": i, "aria-label": name },
    ...options,
  );
  const words = long ? `${long} long` : name;
  return { select, element: labelled(words, select) };
}

function size(image, axis) {
  const before = image.pixel_size?.[axis] ? String(image.pixel_size[axis]) : "";
  const input = el("input", {
    class: "zoo-field",
    type: "number",
    min: "0",
    step: "any",
    placeholder: "unknown",
    "data-size": axis,
    value: before,
  });
  const hidden = axis === "z" && !image.dims.includes("z") && !before;
  return { axis, input, before, element: labelled(axis, input, { hidden }) };
}

function kind(image) {
  const choices = [
    ["image", "Brightness"],
    ["labels", "Numbers of objects"],
  ];
  const inputs = choices.map(([value]) =>
    el("input", { type: "radio", name: `kind-${image.id}`, value, checked: image.kind === value }),
  );
  return {
    elements: choices.map(([, words], i) => el("label", { class: "work-check" }, inputs[i], words)),
    value: () => inputs.find((one) => one.checked).value,
  };
}
