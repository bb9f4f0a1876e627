// Step 2: which model, what it takes, and others where none is chosen.

import { badge, button, link, notice, waiting } from "../parts.js";
import { el } from "../dom.js";
import { address } from "../router.js";
import { assigned, imagesParam } from "./choices.js";
import { labelled, step } from "./step.js";
import { given } from "./words.js";

const MOST = 5; // suggestions

export function modelStep(space) {
  const here = step(2, "Model");
  const sync = (state, params) => {
    const { model, modelError, models, images } = state;
    here.state(model ? "done" : "now");
    const elsewhere = address("browse", { image: params.image });
    here.drawBeside([Boolean(params.model), elsewhere], () =>
      params.model ? [link("Change", elsewhere, { quiet: true, "data-key": "change" })] : [],
    );
    const several = model?.inputs?.length > 1;
    const values = [
      params.model,
      model,
      modelError,
      models,
      several && params.image,
      several && images,
    ];
    here.draw(values, () => {
      if (modelError) {
        const other = link("Choose another model", elsewhere, { "data-key": "other" });
        return [notice("no", modelError, other)];
      }
      if (model) return [card(model, space.api), several ? inputs(space, state, params) : null];
      if (params.model || !models) return [waiting("Looks for the model...")];
      return suggestions(space, models, elsewhere);
    });
  };
  return { element: here.element, number: here.number, sync };
}

function card(model, api) {
  const page = address("model", { id: model.id });
  return el(
    "div",
    { class: "work-model", "data-model": model.id },
    picture(model, api),
    el(
      "div",
      { class: "work-model-words" },
      el("a", { href: page, class: "work-name", "data-key": "page" }, model.name),
      el("p", { class: "work-soft" }, [model.task_label, model.takes].filter(Boolean).join(" · ")),
      badge(model.badge.state, model.badge.words, model.badge.why),
      model.badge.state === "runs" ? null : why(model, page),
    ),
  );
}

function why(model, page) {
  const add = model.origin === "collection";
  const words = add ? "It is not on this machine yet. Add it on its page." : model.badge.why;
  return el(
    "p",
    { class: "work-soft" },
    words,
    " ",
    add ? el("a", { href: page }, "Open its page") : null,
  );
}

function picture(model, api) {
  if (!model.cover) return null;
  return el("img", { class: "work-cover", src: api.url(model.cover), alt: "", loading: "lazy" });
}

function suggestions(space, models, elsewhere) {
  const { api } = space;
  const running = models.filter((one) => one.badge?.state === "runs");
  running.sort((a, b) => (b.origin === "built-in") - (a.origin === "built-in"));
  const rows = running.slice(0, MOST).map((model) =>
    el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: "work-suggested",
          "data-key": `model-${model.id}`,
          "data-suggested": model.id,
          on: { click: () => space.choose({ model: model.id }) },
        },
        picture(model, api),
        el(
          "span",
          {},
          el("b", {}, model.name),
          el("span", { class: "work-soft" }, model.task_label || model.takes),
        ),
      ),
    ),
  );
  return [
    rows.length
      ? el("ul", { class: "work-suggestions", "aria-label": "Models that run here" }, ...rows)
      : el("p", { class: "work-soft" }, "No model on this machine runs here."),
    link(`See all ${models.length} models`, elsewhere, {
      quiet: true,
      icon: "search",
      "data-key": "all",
    }),
  ];
}

// A model of several images: which of those that are open is which.
function inputs(space, state, params) {
  const now = assigned(params.image, state.model.inputs);
  const rows = state.model.inputs.map(({ id }) => {
    const options = given(state.images).map((image) =>
      el("option", { value: image.id, selected: now[id] === image.id }, image.name),
    );
    const select = el(
      "select",
      {
        class: "zoo-field",
        "data-input": id,
        "data-key": `input-${id}`,
        on: { change: () => space.choose({ image: imagesParam({ ...now, [id]: select.value }) }) },
      },
      el("option", { value: "", selected: !now[id] }, "Choose an open image"),
      ...options,
    );
    return labelled(id, select);
  });
  const words = `This model looks at ${rows.length} images. Open each, then say which is which.`;
  return el("div", { class: "work-fields" }, el("p", { class: "work-soft" }, words), ...rows);
}
