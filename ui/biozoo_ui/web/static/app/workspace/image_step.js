// Step 1: which image, what it is, and what of that is to be corrected.

import { button, notice } from "../parts.js";
import { el } from "../dom.js";
import { correction } from "./correction.js";
import { correct } from "./doing.js";
import { labelled, step } from "./step.js";
import { axesWords, LETTERS, pixelWords, sentence, sizeWords } from "./words.js";

// imageStep(space, opener) -> {element, sync}; the opener lies here while an image is shown.
export function imageStep(space, opener) {
  const here = step(1, "Image");
  let shown = ""; // "edit" or "open": what is unfolded below the facts
  let form = null;
  const show = (what) => {
    shown = shown === what ? "" : what;
    form = null;
    space.set({});
  };
  let of = null;
  const sync = (state) => {
    const { image, openError, opening } = state;
    if (image?.id !== of?.id) shown = ""; // another one is open now
    of = image;
    here.state(image ? "done" : "now");
    here.drawBeside([Boolean(image), shown], () =>
      image
        ? [
            small("Edit", shown === "edit", () => show("edit")),
            small("Open another", shown === "open", () => show("open")),
          ]
        : [],
    );
    if (shown === "edit") {
      form ??= correction(image, {
        save: (told) => correct(space, told),
        done: () => show("edit"),
      });
    }
    const ways = shown === "open" || Boolean(opening); // dropped: how far it is
    const error = image && shown !== "open" && !opening ? openError : "";
    here.draw([image, shown, ways, form, error], () => {
      if (!image) return [el("p", { class: "work-soft" }, "Open an image to begin.")];
      return [
        error ? notice("no", error) : null,
        facts(image),
        image.scenes?.length > 1 ? scenes(space, image) : null,
        image.axes_known || shown === "edit" ? null : guessed(space, image, () => show("edit")),
        ...image.notes.map((words) => el("p", { class: "work-soft" }, sentence(words))),
        shown === "edit" ? form : null,
        ways ? opener : null,
      ];
    });
  };
  return { element: here.element, number: here.number, sync };
}

// A file of several images: which one is looked at.
function scenes(space, image) {
  const select = el(
    "select",
    {
      class: "zoo-field",
      "data-key": "scene",
      on: { change: () => correct(space, { scene: Number(select.value) }) },
    },
    ...image.scenes.map((name, i) =>
      el("option", { value: i, selected: i === (image.scene ?? 0) }, name || `${i + 1}`),
    ),
  );
  return labelled(`This file holds ${image.scenes.length} images`, select);
}

const small = (words, pressed, onClick) =>
  button(words, { quiet: true, onClick, "aria-expanded": pressed, "data-key": words });

function facts(image) {
  const rows = [
    ["Size", sizeWords(image)],
    ["Axes", axesWords(image)],
    ["Channels", channels(image)],
    ["Pixel size", pixelWords(image)],
    ...(image.kind === "labels" ? [["Values", "numbers of objects"]] : []),
  ];
  return el(
    "div",
    { class: "work-facts", "data-image": image.id },
    el("p", { class: "work-name" }, image.name),
    el(
      "dl",
      {},
      ...rows.map(([name, told]) => el("div", {}, el("dt", {}, name), el("dd", {}, told))),
    ),
  );
}

function channels(image) {
  if (image.rgb) return "a colour picture";
  const [only] = image.channels;
  if (image.channels.length === 1 && /^\d*$/.test(only.name)) return "1";
  return image.channels.slice(0, 8).map((channel, i) => {
    const dot = el("i", { class: "work-dot" });
    dot.style.background = channel.color;
    return el("span", { class: "work-channel" }, dot, channel.name || `${i + 1}`);
  });
}

function guessed(space, image, onClick) {
  const taken = `They are taken for ${axesWords(image)}. Is that right?`;
  const axes = image.dims.map((axis) => LETTERS[axis]).join("");
  const actions = el(
    "div",
    { class: "zoo-actions" },
    button("That is right", { onClick: () => correct(space, { axes }), "data-key": "right" }),
    button("Correct it", { onClick, "data-key": "guess" }),
  );
  return notice("note", `The file does not say what its dimensions are. ${taken}`, actions);
}
