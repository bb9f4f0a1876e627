// All ways to an image: dropped, chosen, by its path, a sample, or one that is open already.

import { button, notice, progress } from "../parts.js";
import { el, icon } from "../dom.js";
import { drawn } from "./drawn.js";
import { openFile, openOwnSample, openPath, openSample } from "./doing.js";
import { SAMPLES } from "./samples.js";
import { labelled } from "./step.js";
import { given, sizeWords } from "./words.js";

const TAKEN = "TIFF, OME-TIFF, zipped OME-Zarr, PNG, JPEG, npy, CZI, LIF, ND2";

// opener(space) -> {element, file, sync(state)}
export function opener(space) {
  const file = el("input", {
    type: "file",
    class: "work-file",
    "aria-label": "Choose an image file",
    tabindex: "-1",
    on: {
      change: () => {
        if (file.files[0]) openFile(space, file.files[0]);
        file.value = ""; // so that the same one can be chosen again
      },
    },
  });
  const holder = el("div", { class: "work-ways" });
  const draw = drawn(holder);
  const element = el("div", { class: "work-opener" }, holder);
  const sync = (state) => {
    const open = given(state.images).filter((one) => one.id !== state.image?.id);
    const shown = open.slice(-6).reverse();
    const { opening } = state;
    if (opening && bar.isConnected && opening.stop === stopped) {
      bar.update(barOf(opening));
      return;
    }
    stopped = opening?.stop;
    const folders = Boolean(state.me?.image_folders);
    const values = [opening, state.openError, folders, state.model, ...shown.map((one) => one.id)];
    draw(values, () => {
      if (opening) return [busy(opening)];
      return [
        state.openError ? notice("no", state.openError) : null,
        drop(file),
        folders ? byPath(space) : null,
        samples(space, state.model),
        shown.length ? already(space, shown) : null,
      ];
    });
  };
  let stopped;
  let bar = progress();
  const busy = (opening) => {
    bar = progress(barOf(opening));
    const stop = opening.stop
      ? button("Cancel", { icon: "stop", onClick: opening.stop, "data-key": "stop" })
      : null;
    return el("div", { class: "work-opening" }, bar, stop);
  };
  return { element, file, sync };
}

function barOf({ words, fraction }) {
  if (fraction === null || fraction >= 1) return { words: `${words}...` };
  return { done: fraction, total: 1, words: `${words}, ${Math.round(100 * fraction)} %` };
}

function drop(file) {
  return el(
    "div",
    { class: "work-drop" },
    icon("image"),
    el("h2", {}, "Drop a microscopy image here"),
    el("p", {}, `${TAKEN}. It stays on the computer that biozoo runs on.`),
    button("Choose a file", {
      primary: true,
      icon: "upload",
      onClick: () => file.click(),
      "data-key": "choose",
    }),
  );
}

function byPath(space) {
  const path = el("input", {
    class: "zoo-field",
    type: "text",
    name: "path",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "/data/cells.ome.tif",
    "data-key": "path",
  });
  const label = labelled("Or its path on the computer that runs biozoo", path);
  const submit = (event) => {
    event.preventDefault();
    if (path.value.trim()) openPath(space, path.value.trim());
  };
  return el(
    "form",
    { class: "work-path", on: { submit } },
    label,
    el("button", { class: "zoo-button", type: "submit" }, "Open"),
  );
}

function samples(space, model) {
  const buttons = SAMPLES.map(([kind, words, more]) =>
    el(
      "button",
      {
        type: "button",
        class: "work-sample",
        "data-key": kind,
        on: { click: () => openSample(space, kind) },
      },
      el("b", {}, words),
      el("span", {}, more),
    ),
  );
  const own = model?.sample
    ? button(`The sample of ${model.name}`, {
        icon: "play",
        onClick: () => openOwnSample(space, model.id),
        "data-key": "own",
      })
    : null;
  return el(
    "div",
    { class: "work-way" },
    el("h3", {}, "Or look around with a sample"),
    own,
    el("div", { class: "work-samples" }, ...buttons),
  );
}

function already(space, images) {
  const rows = images.map((image) =>
    el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: "work-open-image",
          "data-key": image.id,
          on: { click: () => space.choose({ image: image.id }) },
        },
        el("b", {}, image.name),
        el("span", {}, sizeWords(image)),
      ),
    ),
  );
  return el("div", { class: "work-way" }, el("h3", {}, "Open already"), el("ul", {}, ...rows));
}

// Files dropped anywhere on `element`; `data-dropping` is set while one is held over it.
export function listenForDrops(element, space) {
  let depth = 0;
  const holds = (event) => event.dataTransfer?.types.includes("Files");
  const set = (count) => {
    depth = Math.max(0, count);
    element.toggleAttribute("data-dropping", depth > 0);
  };
  element.addEventListener("dragenter", (event) => holds(event) && set(depth + 1));
  element.addEventListener("dragleave", (event) => holds(event) && set(depth - 1));
  element.addEventListener("dragover", (event) => holds(event) && event.preventDefault());
  element.addEventListener("drop", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    set(0);
    const entry = event.dataTransfer.items[0]?.webkitGetAsEntry?.();
    const [file] = event.dataTransfer.files;
    if (entry?.isDirectory) {
      const words = `'${entry.name}' is a folder, and a browser sends files only.`;
      space.set({
        openError: `${words} Drop a file, or ask for the folder to be opened by its path.`,
      });
    } else if (file) openFile(space, file);
  });
}
