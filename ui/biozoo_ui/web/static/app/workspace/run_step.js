// Step 4: a look at what is on the screen first, then the whole image as a job.

import { button, link, measured, notice, progress, waiting } from "../parts.js";
import { el } from "../dom.js";
import { address } from "../router.js";
import { isActive, objectWords, progressWords, resumeWords } from "../jobs/words.js";
import { cancel, preview, resume, run, stopPreview } from "./doing.js";
import { folded, step } from "./step.js";
import { sentence } from "./words.js";

const LOST =
  "The server does not answer. What is done so far is kept; this page asks again by itself.";

// `visible()`: a promise of the part of the image that is on the screen.
export function runStep(space, visible) {
  const here = step(4, "Run");
  const buttons = el("div", { class: "work-run" });
  const looked = el("div", { class: "work-part", "data-preview-said": "" });
  const going = el("div", { class: "work-part", "data-job-said": "" });
  here.body.append(buttons, looked, going);
  const draw = {
    buttons: here.part(buttons),
    looked: here.part(looked),
    going: here.part(going),
  };
  const bar = progress();

  const sync = (state) => {
    const { image, model, check, checkError, checking, job, lost, starting } = state;
    const possible = Boolean(image && model && (check?.ok || checkError) && !(checking && !check));
    const active = Boolean(job && isActive(job));
    here.state(active ? "now" : job?.state === "done" ? "done" : possible ? "now" : "later");
    const busy = Boolean(state.previewing);
    draw.buttons([possible, busy, active, starting], () => [
      button(busy ? "Preview again" : "Preview what you see", {
        icon: "eye",
        disabled: !possible,
        "data-key": "preview",
        onClick: async () => preview(space, await visible()),
      }),
      active
        ? null
        : button(starting ? "Starts..." : "Run on the whole image", {
            primary: true,
            icon: "play",
            disabled: !possible || starting,
            "data-key": "run",
            onClick: () => run(space),
          }),
    ]);
    draw.looked([busy, state.preview, state.previewError], () => {
      if (busy) {
        const stop = button("Stop", {
          quiet: true,
          onClick: () => stopPreview(space),
          "data-key": "stop",
        });
        return [el("div", { class: "work-line" }, waiting("Previews what you see..."), stop)];
      }
      if (state.previewError) return [notice("no", state.previewError)];
      return state.preview ? [previewed(space, state.preview, image)] : [];
    });
    if (active) bar.update({ ...state.job.tiles, words: progressWords(job) });
    const kind = !job ? "" : active ? `active ${job.stopping}` : `${job.state} ${job.error}`;
    draw.going([kind, lost, state.jobError, state.away, job?.tiles.done && !active], () => [
      state.away ? elsewhere(state.away) : null,
      lost ? el("div", { "data-lost": "" }, notice("note", LOST)) : null,
      state.jobError ? notice("no", state.jobError) : null,
      active ? running(space, job, bar) : job ? stopped(space, job) : null,
    ]);
  };
  return { element: here.element, number: here.number, sync };
}

function running(space, job, bar) {
  const stop = button(job.stopping ? "Stops..." : "Cancel", {
    icon: "stop",
    disabled: job.stopping,
    "data-key": "cancel",
    onClick: () => cancel(space),
  });
  return el("div", { class: "work-running", "data-running": job.id }, bar, stop);
}

// How a run ended that did not end well, and the way on.
function stopped(space, job) {
  if (job.state === "done") return null;
  const again = job.resumable
    ? button(resumeWords(job), {
        primary: true,
        icon: "again",
        "data-key": "resume",
        onClick: () => resume(space),
      })
    : null;
  const words =
    job.error ||
    (job.state === "cancelled" ? "The run was cancelled." : "The run was interrupted.");
  const status = job.state === "failed" ? "no" : "note";
  return el("div", { "data-ended": job.state }, notice(status, words, again));
}

function elsewhere(job) {
  const words = `${job.model} still runs on ${job.image.name}.`;
  const show = link("Show that run", address("run", { job: job.id }), { "data-key": "away" });
  return notice("busy", words, show);
}

function previewed(space, { seconds, load_seconds: loading, objects, region, notes }, image) {
  const facts = [measured(seconds)];
  if (loading > 0.05) facts.push(`${measured(loading)} to load the model`);
  const count =
    objects === null || objects === undefined
      ? "Preview"
      : `${objectWords(objects)} in the preview`;
  const hide = button("Hide", {
    quiet: true,
    "data-key": "hide",
    onClick: () => space.forgetPreview(),
  });
  return el(
    "div",
    { class: "work-previewed", "data-preview": objects ?? "" },
    el("div", { class: "work-line" }, el("b", {}, count), hide),
    el("p", { class: "work-soft" }, `${facts.join(", ")}. ${regionWords(region, image)}`),
    notes.length
      ? folded(
          "notes",
          "Notes",
          ...notes.map((words) => el("p", { class: "work-soft" }, sentence(words))),
        )
      : null,
  );
}

function regionWords({ y, x, z }, image) {
  const sizes = image?.sizes ?? {};
  const [tall, wide] = [y[1] - y[0], x[1] - x[0]];
  const whole = tall === sizes.y && wide === sizes.x;
  const part = whole
    ? "The whole image was looked at"
    : `Looked at: ${wide} × ${tall} pixels from x ${x[0]}, y ${y[0]}`;
  if (!(sizes.z > 1) || !z) return `${part}.`;
  return z[1] - z[0] === 1
    ? `${part}, plane ${z[0] + 1}.`
    : `${part}, planes ${z[0] + 1} to ${z[1]}.`;
}
