// The workspace: an image and a model, from opening to the result, beside the viewer.

import { el, loadStyle } from "../dom.js";
import { checkStep } from "./check_step.js";
import { correctStep } from "./correct.js";
import { begin } from "./correcting.js";
import { openOwnSample, run } from "./doing.js";
import { imageStep } from "./image_step.js";
import { Live } from "./live.js";
import { liveStep } from "./live_step.js";
import { modelStep } from "./model_step.js";
import { listenForDrops, opener } from "./opener.js";
import { resultStep } from "./result_step.js";
import { runStep } from "./run_step.js";
import { Space } from "./space.js";
import { stage } from "./stage.js";
import { Train } from "./train.js";
import { trainStep } from "./train_step.js";

export default async function open(element, params, tools) {
  await loadStyle(import.meta.url, "./workspace.css");
  const space = new Space(tools);
  const ways = opener(space);
  const shown = el("div", { class: "work-viewer", hidden: true });
  const nothing = el("div", { class: "work-nothing" });
  const scene = stage(shown, tools.api);
  const live = new Live(space, (layers) => scene.renew(layers));
  const train = new Train(space);
  scene.on("error", ({ status }) => status === 404 && space.doubt());
  space.takers.add((now, other) => {
    if (["model", "image", "channel", "scale"].some(other)) space.set({ liveError: "" });
    if (other("live")) live.find(now.live);
    if (other("training")) train.load(now.training);
  });
  const steps = [
    imageStep(space, ways.element),
    modelStep(space),
    checkStep(space),
    runStep(space, () => scene.visible()),
    resultStep(space, () => focus("check")),
    correctStep(space, scene),
    liveStep(space, live, () => scene.visible(), () => begin(space, "classes")),
    trainStep(space, train, () => scene.visible(), () => focus("live")),
  ];
  const side = el("div", { class: "work-side" }, ...steps.map((step) => step.element));
  const drop = el("p", { class: "work-dropping", "aria-hidden": "true" }, "Drop it to open it");
  const view = el(
    "div",
    { class: "work" },
    el("div", { class: "work-stage" }, shown, nothing),
    side,
    drop,
    ways.file,
  );
  element.append(el("h1", { class: "zoo-live" }, "Run a model on an image"), view);
  listenForDrops(view, space);

  const focus = (name) => {
    const step = side.querySelector(`[data-step="${name}"]`);
    step.scrollIntoView({ block: "start", behavior: "smooth" });
    step.querySelector("h2").focus({ preventScroll: true });
  };

  // A reload, or a link to a training, comes back to the step that one was at.
  let at = params.training ? "retrain" : params.live ? "live" : params.correct ? "correct" : "";
  const comeBack = ({ training, live, annotation, image }) => {
    const there = { retrain: training, live, correct: annotation }[at];
    if (!there || (!image && params.image)) return;
    side.querySelector(`[data-step=${at}]`).scrollIntoView({ block: "start" });
  };
  // Again with all that comes after it, until the reader does something.
  for (const event of ["pointerdown", "wheel", "keydown"])
    view.addEventListener(event, () => (at = ""), { once: true, passive: true, capture: true });

  let seen = "";
  space.listeners.add((state, now) => {
    ways.sync(state);
    for (const step of steps) step.sync(state, now);
    steps.filter((step) => !step.element.hidden).forEach((step, i) => step.number?.(i + 1));
    // Large while there is nothing else to do; later it lies in the first step.
    if (!state.image && ways.element.parentElement !== nothing) nothing.append(ways.element);
    nothing.hidden = Boolean(state.image);
    scene.show(state.image, shownLayers(state), state.annotation);
    scene.expect(Boolean(state.live));
    tools.title([state.model?.name, state.image?.name].filter(Boolean).join(" on ") || "Run");
    const stands = `${state.job?.id} ${state.job?.state}`;
    // Not on the way back: the run of before is no news, and two scrolls would race.
    if (!at && seen && stands !== seen && state.job?.state === "done") {
      side
        .querySelector("[data-step=result]")
        .scrollIntoView({ block: "nearest", behavior: "smooth" });
    }
    seen = stands;
    if (at) comeBack(state);
    tryOut();
  });

  // "Try on the sample" runs it as soon as it is known to fit.
  let trying = false;
  const trySample = async (asked) => {
    if (!asked.sample || !asked.model) return;
    trying = await openOwnSample(space, asked.model);
  };
  const tryOut = () => {
    const { check, checking, checkError, image, model } = space.state;
    if (!trying || checking || !image || !model || !(check || checkError)) return;
    trying = false;
    if (check?.ok) run(space);
  };

  space.start(params);
  trySample(params);
  return {
    update(next) {
      space.take(next);
      trySample(next);
    },
    close() {
      live.close();
      train.close();
      space.close();
      scene.close();
    },
  };
}

// What lies over the image: the newest that was asked for.
function shownLayers({ image, live, preview, training, trainLayers, layers }) {
  if (live) return live.layers;
  if (preview) return preview.layers;
  return trainLayers && training?.seen === image?.id ? trainLayers : layers;
}
