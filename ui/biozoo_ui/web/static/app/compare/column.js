// One column: a model and a scale, whether they fit, a viewer, and what a look at it gave.

import { button, measured, notice, waiting } from "../parts.js";
import { clear, el } from "../dom.js";
import { objectWords } from "../jobs/words.js";
import { request, scaleOf, scaleParam } from "../workspace/choices.js";
import { drawn } from "../workspace/drawn.js";
import { overlays } from "../workspace/stage.js";
import { folded } from "../workspace/step.js";
import { capital, sentence } from "../workspace/words.js";
import { createViewer } from "../../viewer/index.js";

export class Column {
  state = { check: null, checkError: "", busy: false, answer: null, error: "" };
  number = 0; // of what the column is about; answers about something before are dropped
  looks = 0; // likewise of the newest look
  before = "";
  shown = null; // resolves when the image has its place

  // `page`: {api, models(), image(), channel(), placed(column), change(column, patch),
  // take(column), use(column)}
  constructor(page, { model, scale }) {
    Object.assign(this, { page, model, scale });
    this.head = el("div", { class: "compare-head" });
    this.place = el("div", { class: "compare-viewer" });
    this.said = el("div", { class: "compare-said" });
    this.element = el(
      "section",
      { class: "compare-column", "data-home": "", "data-column": model },
      this.head,
      this.place,
      this.said,
    );
    this.draw = { head: drawn(this.head), said: drawn(this.said) };
    this.viewer = createViewer(this.place, { panel: false });
  }

  get asked() {
    const { model, scale, page } = this;
    return request({ model, scale, image: page.image()?.id, channel: page.channel() });
  }

  // Another model or scale in the same place: the view stays where it is.
  become({ model, scale }) {
    Object.assign(this, { model, scale });
    this.element.dataset.column = model;
    this.start();
  }

  // The image as it is, and whether the model fits it.
  async start() {
    const mine = ++this.number;
    this.set({ check: null, checkError: "", answer: null, error: "", busy: false });
    this.show();
    const asked = this.asked;
    if (!asked) return;
    const got = await answered(this.page.api.post("api/checks", asked));
    if (mine !== this.number) return;
    this.set({ check: got.answer ?? null, checkError: got.error?.message ?? "" });
  }

  // A preview of what is seen; resolves when it is there or refused.
  async look(view) {
    const mine = this.number;
    const look = ++this.looks;
    const asked = this.asked;
    if (!asked || this.state.check?.ok === false) return;
    this.set({ busy: true, error: "" });
    const got = await answered(this.page.api.post("api/previews", { ...asked, view }));
    if (mine !== this.number || look !== this.looks) return;
    this.set({ busy: false, answer: got.answer ?? null, error: got.error?.message ?? "" });
    this.show();
  }

  set(patch) {
    Object.assign(this.state, patch);
    this.sync();
  }

  show() {
    const image = this.page.image();
    if (!image || this.closed) return;
    const { api } = this.page;
    const layers = overlays(this.state.answer?.layers ?? [], api);
    const first = { url: api.url(`api/images/${image.id}`), name: image.name };
    const now = JSON.stringify([image.v, first, layers]);
    if (now === this.before) return;
    this.before = now;
    this.shown = this.viewer.setLayers([first, ...layers]).then(() => this.page.placed(this));
  }

  sync() {
    const { page, model, scale, state } = this;
    const entry = page.models().find((one) => one.id === model);
    const alone = page.alone();
    this.draw.head([model, scale, entry, page.models(), state.check, alone], () =>
      this.controls(entry, alone),
    );
    this.draw.said([state.check, state.checkError, state.busy, state.answer, state.error], () =>
      this.words(),
    );
  }

  controls(entry, alone) {
    const { page, model } = this;
    const known = entry ? page.models() : [{ id: model, name: model }, ...page.models()];
    const models = el(
      "select",
      {
        class: "zoo-field compare-model",
        "aria-label": "Model of this column",
        "data-key": "model",
        on: { change: () => page.change(this, { model: models.value, scale: "" }) },
      },
      ...known.map((one) => el("option", { value: one.id, selected: one.id === model }, one.name)),
    );
    const choices = this.state.check?.scale?.choices ?? [
      {
        value: scaleOf(this.scale) ?? null,
        label: this.scale ? `Scale ${this.scale}` : "As it is",
      },
    ];
    const now = choices.findIndex((one) => (scaleParam(one.value) ?? "") === this.scale);
    const scales = el(
      "select",
      {
        class: "zoo-field",
        "aria-label": "Scale of this column",
        "data-key": "scale",
        disabled: choices.length < 2,
        on: {
          change: () => page.change(this, { scale: scaleParam(choices[scales.value].value) ?? "" }),
        },
      },
      ...choices.map((one, i) =>
        el("option", { value: i, selected: i === now }, capital(one.label)),
      ),
    );
    const remove = button("Remove", {
      quiet: true,
      "data-key": "remove",
      "aria-label": `Remove ${entry?.name ?? model}`,
      onClick: () => page.take(this),
    });
    return [models, el("div", { class: "compare-choices" }, scales, alone ? null : remove)];
  }

  words() {
    const { check, checkError, busy, answer, error } = this.state;
    const use = button("Use this model", {
      icon: "next",
      "data-key": "use",
      onClick: () => this.page.use(this),
    });
    if (busy) return [waiting("Runs on what you see...")];
    const refused = error || checkError || (check && !check.ok ? unfit(check) : "");
    if (refused) return [notice(error || checkError ? "no" : check.verdict.status, refused), use];
    if (!answer)
      return check
        ? [el("p", { class: "compare-soft" }, check.verdict.text), use]
        : [waiting("Checks...")];
    const { objects, seconds, notes } = answer;
    const counted = objects === null || objects === undefined ? "Done" : objectWords(objects);
    return [
      el(
        "p",
        { class: "compare-count", "data-objects": objects ?? "" },
        counted,
        el("span", {}, ` in ${measured(seconds)}`),
      ),
      use,
      notes.length
        ? folded(
            "notes",
            "Notes",
            ...notes.map((words) => el("p", { class: "compare-soft" }, sentence(words))),
          )
        : null,
    ];
  }

  close() {
    this.closed = true;
    this.number++;
    this.viewer.destroy();
    clear(this.element);
    this.element.remove();
  }
}

// Why a model does not fit, where its verdict alone does not say so.
function unfit({ verdict, items }) {
  const reasons = items
    .filter((one) => one.status === "no")
    .map((one) => `${sentence(one.what)} ${one.todo ?? ""}`);
  return [verdict.text, ...reasons].join("\n").trim();
}

const answered = (promise) =>
  promise.then(
    (answer) => ({ answer }),
    (error) => ({ error }),
  );
