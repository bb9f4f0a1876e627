// Step 8: the whole model learns from corrections, as a job; kept only where it is better.

import { button, confirmed, notice, progress, waiting, when } from "../parts.js";
import { el, loadStyle } from "../dom.js";
import { curves } from "./curves.js";
import { gate } from "./gate.js";
import { instead, trainForm } from "./train_setup.js";
import { barOf, isActive } from "./train_words.js";
import { folded, step } from "./step.js";
import { sentence } from "./words.js";

const LOST = "The server does not answer. This page asks again by itself.";
const MASK = "Or retrain again, and say among the choices that the labels are masks.";
const ABOUT =
  "The whole model learns from several images that you corrected; it takes minutes to hours. Some " +
  "of them are set aside as a test: the new model is offered to you only if it is better on these.";

// `train`: a Train; `visible()`: a promise of what is seen; `live()`: brings the reader there.
export function trainStep(space, train, visible, live) {
  loadStyle(import.meta.url, "./learn.css");
  const here = step(8, "Retrain");
  const setup = el("div", { class: "work-part" });
  const going = el("div", { class: "work-part", "data-training-said": "" });
  here.body.append(setup, going);
  const draw = { setup: here.part(setup), going: here.part(going) };
  const bar = progress();
  let opened = false; // whether the form is shown
  let asked = ""; // the model that it was asked for

  const open = () => {
    opened = true;
    asked = space.params.model;
    train.check();
    train.look();
    train.list();
    space.set({});
  };
  const start = async (wish) => {
    await train.start(wish, await visible());
    if (space.state.training) opened = false;
    space.set({});
  };

  const sync = (state, params) => {
    const { model, training, trainCheck: check, samples, trainError: error } = state;
    if (opened && model && params.model !== asked) open(); // another one was chosen
    const active = Boolean(training && isActive(training));
    here.state(active || opened ? "now" : training?.state === "done" ? "done" : "later");
    const form = opened && !training;
    const values = [Boolean(model), form, check, samples, error, state.trainStarting, state.me];
    draw.setup([...values, training?.id, state.trainings], () => {
      if (training) return error ? [notice("no", error)] : [];
      if (!model) return [el("p", { class: "work-soft" }, ABOUT)];
      const failed = error ? notice("no", error) : null;
      if (!form) {
        return [
          failed,
          el("p", { class: "work-soft" }, ABOUT),
          button("Retrain this model", { icon: "again", "data-key": "setup", onClick: open }),
        ];
      }
      if (!check) return [failed ?? waiting("Looks how the model learns...")];
      if (!check.possible) return [instead(check, live), earlier(space, state.trainings)];
      return [
        failed,
        trainForm({
          check,
          samples: samples ?? [],
          folders: Boolean(state.me?.image_folders),
          starting: state.trainStarting,
          start,
        }),
        earlier(space, state.trainings),
      ];
    });
    if (active) bar.update(barOf(training));
    draw.going([training && shownOf(training), state.trainLost], () =>
      training
        ? [
            state.trainLost ? notice("note", LOST) : null,
            ...told(space, train, training, bar, active),
          ]
        : [],
    );
  };
  return { element: here.element, number: here.number, sync };
}

// All of a training but its bar, which is drawn by itself.
function shownOf(training) {
  const { steps, loss, seconds_left: left, stage, ...rest } = training;
  return JSON.stringify(rest);
}

function told(space, train, training, bar, active) {
  const { epochs, state, samples, folders, choices } = training;
  const from = samples.length
    ? `${samples.length} image${samples.length === 1 ? "" : "s"}`
    : folders.join(", ");
  const ask = (verb) => train.ask(verb);
  const use = (model) => space.chooseKin(model);
  const head = el(
    "div",
    { class: "work-trained", "data-training": training.id, "data-state": state },
    el("p", { class: "work-name" }, choices.name || training.model),
    el("p", { class: "work-soft" }, `${training.model}, learning from ${from}`),
  );
  const notes = training.notes.map((words) => el("p", { class: "work-soft" }, sentence(words)));
  return [
    head,
    active ? el("div", { class: "work-training" }, bar, verbs(training, ask)) : null,
    epochs.length
      ? curves({ epochs, metric: training.metric, steps: training.steps.total })
      : null,
    active && training.preview.length
      ? el("p", { class: "work-soft" }, `Over the image: after round ${training.preview_epoch}.`)
      : null,
    active ? null : ended(training, ask),
    ...(state === "done" ? gate(training, { ask, use }) : []),
    notes.length ? folded("train-notes", "Notes", ...notes) : null,
    active
      ? null
      : el(
          "div",
          { class: "zoo-actions" },
          button("Retrain again", { "data-key": "again", onClick: () => train.forget() }),
          confirmed("Delete", "Delete this training", () => train.remove(), {
            "data-key": "delete-training",
          }),
        ),
  ].filter(Boolean);
}

function verbs({ state, stopping }, ask) {
  const paused = state === "paused";
  const pause = button(paused ? "Go on" : "Pause", {
    icon: paused ? "play" : "stop",
    disabled: stopping || state === "waiting",
    "data-key": "pause",
    onClick: () => ask(paused ? "resume" : "pause"),
  });
  const cancel = button(stopping ? "Stops..." : "Cancel", {
    disabled: stopping,
    "data-key": "cancel-training",
    onClick: () => ask("cancel"),
  });
  return el("div", { class: "zoo-actions" }, pause, cancel);
}

function ended({ state, error, resumable }, ask) {
  if (state === "done") return null;
  const again = resumable
    ? button("Go on with it", {
        primary: true,
        icon: "again",
        "data-key": "resume-training",
        onClick: () => ask("resume"),
      })
    : null;
  const mask = state === "failed" && /\bmask\b/.test(error) ? el("p", {}, MASK) : null;
  const said = notice(state === "failed" ? "no" : "note", error, mask, again);
  return el("div", { class: "work-ended" }, said);
}

// What was trained before, to be looked at again.
function earlier(space, trainings) {
  if (!trainings?.length) return null;
  const rows = trainings.slice(0, 6).map((one) =>
    el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: "work-open-image",
          "data-key": one.id,
          on: { click: () => space.choose({ training: one.id }) },
        },
        el("b", {}, one.choices.name || one.model),
        el("span", {}, [one.model, one.state, when(one.created)].join(" · ")),
      ),
    ),
  );
  return folded("earlier", "Earlier trainings", el("ul", { class: "work-suggestions" }, ...rows));
}
