// The classes of scribbles: which one is painted, what they are called, their colours.

import { button } from "../parts.js";
import { el, icon } from "../dom.js";
import { setClasses } from "./correcting.js";

const COLORS = ["#3b82f6", "#f59e0b", "#e11d8f", "#22c55e", "#a78bfa", "#ef4444", "#14b8a6"];
const LEAST = 2; // background and one more

// `value`: that is painted now; `paint({value})` chooses.
export function classList(space, annotation, value, paint) {
  const { classes, counts } = annotation;
  const change = (one, patch) =>
    setClasses(
      space,
      classes.map((other) => (other.value === one.value ? { ...other, ...patch } : other)),
    );
  const rows = classes.map((one, i) => row(one, i));
  function row(one, i) {
    const name = el("input", {
      type: "text",
      class: "correct-name",
      value: one.name,
      maxlength: "100",
      "aria-label": `Name of class ${i + 1}`,
      "data-key": `name-${one.value}`,
      on: {
        focus: () => paint({ value: one.value }),
        change: async () => {
          const words = name.value.trim();
          if (!words || !(await change(one, { name: words }))) name.value = one.name;
        },
        keydown: (event) => event.key === "Enter" && name.blur(),
      },
    });
    const pick = el("input", {
      type: "radio",
      name: "correct-class",
      checked: one.value === value,
      "aria-label": `Paint ${one.name}`,
      "data-key": `class-${one.value}`,
      "data-class": one.value,
      on: { change: () => paint({ value: one.value }) },
    });
    const colour = el("input", {
      type: "color",
      class: "correct-colour",
      value: one.color,
      "aria-label": `Colour of ${one.name}`,
      "data-key": `colour-${one.value}`,
      on: { change: () => change(one, { color: colour.value }) },
    });
    const pixels = counts.pixels[one.value] ?? 0;
    const removable = !pixels && classes.length > LEAST && one.value > 1;
    const gone = () => {
      setClasses(
        space,
        classes.filter((other) => other !== one),
      );
      if (value === one.value) paint({ value: classes[1].value });
    };
    return el(
      "li",
      { class: one.value === value ? "chosen" : "" },
      el("label", { class: "correct-pick" }, pick),
      colour,
      name,
      el("kbd", { "aria-hidden": true }, i < 9 ? String(i + 1) : ""),
      removable
        ? el(
            "button",
            {
              type: "button",
              class: "correct-remove",
              "aria-label": `Remove the class ${one.name}`,
              on: { click: gone },
            },
            icon("no"),
          )
        : el("span", {}),
    );
  }
  const add = () => {
    const used = new Set(classes.map((one) => one.value));
    const free = Array.from({ length: 254 }, (_, i) => i + 2).find((n) => !used.has(n));
    const taken = classes.map((one) => one.color);
    const color = COLORS.find((one) => !taken.includes(one)) ?? "#84cc16";
    const names = classes.map((one) => one.name);
    let name = `Class ${free}`;
    while (names.includes(name)) name += "'";
    setClasses(space, [...classes, { value: free, name, color }]).then((done) => {
      if (done) paint({ value: free });
    });
  };
  return el(
    "div",
    { class: "correct-classes" },
    el("ul", { "aria-label": "Classes" }, ...rows),
    button("Add a class", { quiet: true, onClick: add, "data-key": "add-class" }),
  );
}
