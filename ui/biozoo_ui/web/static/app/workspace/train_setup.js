// The form of a training: from which images it learns, and how.

import { button, copyable, notice } from "../parts.js";
import { el } from "../dom.js";
import { folded, labelled } from "./step.js";
import { sentence } from "./words.js";

const SUPPLIES = {
  instances:
    "It learns from whole objects. Correct all objects of at least two images; twenty are better.",
  classes: "It learns from what is painted, on at least two images; twenty are better.",
  image: "It learns from pairs of images: as they are, and as they should be.",
  nothing: "It learns from images alone.",
};

// trainForm({check, samples, folders, error, starting, start(asked)}) -> elements
export function trainForm({ check, samples, folders, starting, start }) {
  const rows = samples.map((sample) => row(sample, check.supplies));
  const paths = folders ? byFolder() : null;
  const name = field("text", "train-name", { maxlength: "100" });
  const steps = field("number", "train-steps", { min: "1", placeholder: String(check.steps) });
  const rate = field("number", "train-rate", {
    min: "0",
    max: "1",
    step: "any",
    placeholder: String(check.learning_rate),
  });
  const split = el("input", { type: "checkbox", "data-key": "train-split" });
  const said = el("div", { class: "work-refused" });
  const submit = (event) => {
    event.preventDefault();
    const chosen = rows.map((one) => one.value()).filter(Boolean);
    const asked = { name: name.value.trim(), split_masks: split.checked };
    if (steps.value) asked.steps = Number(steps.value);
    if (rate.value) asked.learning_rate = Number(rate.value);
    const given = paths?.value();
    if (given) asked.folders = given;
    else if (chosen.length) asked.samples = chosen;
    else {
      said.replaceChildren(notice("no", "Choose at least one image with something painted on it."));
      return;
    }
    said.replaceChildren();
    start(asked);
  };
  const none = "Open an image and correct what the model found on it, then come back here.";
  return el(
    "form",
    { class: "work-form", "data-train-form": "", on: { submit } },
    el("p", { class: "work-soft" }, SUPPLIES[check.supplies] ?? ""),
    rows.length
      ? el("div", { class: "work-samples-of" }, ...rows.map((one) => one.element))
      : folders ? null : el("p", { class: "work-soft" }, none),
    paths?.element ?? null,
    labelled("Name of the new model", name),
    folded(
      "train-more",
      "For experts",
      el(
        "div",
        { class: "work-fields" },
        labelled("Learning steps", steps),
        labelled("Learning rate", rate),
      ),
      el("label", { class: "work-check" }, split, "Labels are masks: number their separate parts"),
    ),
    recipe(check),
    said,
    el(
      "button",
      { type: "submit", class: "zoo-button primary", disabled: starting, "data-key": "train" },
      starting ? "Starts..." : "Retrain",
    ),
  );
}

// How it is going to be trained: to be looked at before, where the package does not say it itself.
function recipe({ declared, reasons, recipe: told }) {
  const lines = reasons.map((words) => el("li", {}, sentence(words)));
  const target = told.target?.kind;
  const title = declared ? "How it learns, as its author says" : "How it learns, as it was worked out";
  return folded(
    "train-recipe",
    title,
    target ? el("p", { class: "work-soft" }, `Target: ${target}.`) : null,
    el("ul", { class: "work-reasons" }, ...lines),
  );
}

// One image, and which of its labels are learned from.
function row({ image, choices }, supplies) {
  const first = choices.find((one) => one.key.startsWith("a:") || one.alike);
  const options = [
    ...(supplies === "nothing" ? [{ key: "use", words: "learn from it", asked: {} }] : choices),
  ];
  const select = el(
    "select",
    { class: "zoo-field", "data-key": `sample-${image.id}`, "data-sample": image.id },
    el("option", { value: "" }, options.length ? "leave it out" : "nothing is painted yet"),
    ...options.map((one) => el("option", { value: one.key }, one.words)),
  );
  select.value = (supplies === "nothing" ? options[0] : first)?.key ?? "";
  return {
    element: labelled(image.name, select),
    value() {
      const found = options.find((one) => one.key === select.value);
      return found ? { image: image.id, ...found.asked } : null;
    },
  };
}

function byFolder() {
  const images = field("text", "train-images", { placeholder: "/data/images" });
  const labels = field("text", "train-labels", { placeholder: "/data/labels" });
  return {
    element: folded(
      "train-folders",
      "From folders of the computer that runs biozoo",
      el("div", { class: "work-fields" }, labelled("Images", images), labelled("Labels", labels)),
      el("p", { class: "work-soft" }, "Files of the same name belong together."),
    ),
    value() {
      const [first, second] = [images, labels].map((one) => one.value.trim());
      return first ? { images: first, labels: second || null } : null;
    },
  };
}

const field = (type, key, more) =>
  el("input", { class: "zoo-field", type, "data-key": key, ...more });

// What can be done where a model cannot be retrained, with the line that installs what is missing.
export function instead({ why, install }, live) {
  const go = button("Go to live mode", { "data-key": "to-live", onClick: live });
  if (!install) return notice("note", why, go);
  return notice(
    "note",
    why,
    el("p", {}, WHERE),
    copyable(install),
    el("p", {}, AFTER),
    go,
  );
}

const WHERE =
  "To install it, once, open a terminal on the computer that runs biozoo, type this line and " +
  "press Enter. It downloads about 3 GB:";
const AFTER =
  "Then end biozoo (Ctrl-C in the terminal where it runs), start it again, and reload this page. " +
  "What you painted is kept.";
