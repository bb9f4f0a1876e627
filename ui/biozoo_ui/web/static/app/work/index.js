// The workspace: an image and a model, from opening to the result, beside the viewer.

import { el, loadStyle } from "../dom.js";
import { checkStep } from "./check_step.js";
import { openOwnSample, run } from "./doing.js";
import { imageStep } from "./image_step.js";
import { modelStep } from "./model_step.js";
import { listenForDrops, opener } from "./opener.js";
import { resultStep } from "./result_step.js";
import { runStep } from "./run_step.js";
import { Space } from "./space.js";
import { stage } from "./stage.js";

export default async function open(element, params, tools) {
  await loadStyle(import.meta.url, "./work.css");
  const space = new Space(tools);
  const ways = opener(space);
  const shown = el("div", { class: "work-viewer", hidden: true });
  const nothing = el("div", { class: "work-nothing" });
  const scene = stage(shown, tools.api);
  const steps = [
    imageStep(space, ways.element),
    modelStep(space),
    checkStep(space),
    runStep(space, () => scene.visible()),
    resultStep(space, () => focus("check")),
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

  let seen = "";
  space.listeners.add((state, now) => {
    ways.sync(state);
    for (const step of steps) step.sync(state, now);
    // Large while there is nothing else to do; later it lies in the first step.
    if (!state.image && ways.element.parentElement !== nothing) nothing.append(ways.element);
    nothing.hidden = Boolean(state.image);
    scene.show(state.image, state.preview?.layers ?? state.layers);
    tools.title([state.model?.name, state.image?.name].filter(Boolean).join(" on ") || "Run");
    const stands = `${state.job?.id} ${state.job?.state}`;
    if (seen && stands !== seen && state.job?.state === "done") {
      side
        .querySelector("[data-step=result]")
        .scrollIntoView({ block: "nearest", behavior: "smooth" });
    }
    seen = stands;
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
      space.close();
      scene.close();
    },
  };
}
