// Step 7: the model learns from scribbles while they are painted.

import { button, measured, notice, waiting } from "../parts.js";
import { el, loadStyle } from "../dom.js";
import { objectWords } from "../jobs/words.js";
import { folded, labelled, step } from "./step.js";
import { sentence } from "./words.js";

// `live`: a Live; `visible()`: a promise of what is seen; `paint()`: begins scribbles.
export function liveStep(space, live, visible, paint) {
  loadStyle(import.meta.url, "./learn.css");
  const here = step(7, "Live");
  const begin = el("div", { class: "work-part" });
  const now = el("div", { class: "work-part", "data-live-said": "" });
  const keep = el("div", { class: "work-part" });
  here.body.append(begin, now, keep);
  const draw = { begin: here.part(begin), now: here.part(now), keep: here.part(keep) };

  const sync = (state) => {
    const { image, model, check, live: session, liveBusy, liveError } = state;
    const possible = Boolean(image && model);
    const asks = Boolean(check && !check.ok); // which channel, say
    here.state(!possible ? "later" : session ? "now" : "later");
    here.element.toggleAttribute("data-on", Boolean(session));
    const kind = space.annotation.current()?.kind;
    draw.begin([possible, asks, Boolean(session), liveBusy, kind, liveError], () => {
      if (!possible) return [soft("Paint a few scribbles, and watch the model learn from them.")];
      const error = liveError ? notice("no", liveError) : null;
      if (liveBusy) return [waiting(liveBusy)];
      if (!session) {
        const start = button("Start live mode", {
          icon: "play",
          disabled: asks,
          "data-key": "live",
          onClick: async () => {
            if (kind !== "classes") await paint();
            await live.start(await visible());
          },
        });
        return [error, soft(ABOUT), asks ? notice("note", CHECK) : null, start];
      }
      const ready = kind === "classes" ? null : notice("note", PAINT, scribble(paint));
      return [error, ready, el("div", { class: "zoo-actions" }, ...actions(live, visible))];
    });
    draw.now([session, state.refitting], () => (session ? [told(session, state.refitting)] : []));
    // Not with each refit: a name may be half written.
    const fitted = Boolean(session && Object.keys(session.pixels).length);
    draw.keep([fitted, session?.keeping, session?.model], () =>
      fitted ? keeping(space, live, session) : [],
    );
  };
  return { element: here.element, number: here.number, sync };
}

const ABOUT =
  "The model learns from each of your strokes at once, on the part of the image that you see. A " +
  "few short ones are enough: some on what it missed, some on background that it took for an object.";
const PAINT = "Live mode learns from scribbles.";
const CHECK = "The model cannot look at this image yet: see the step Check.";

const soft = (words) => el("p", { class: "work-soft" }, words);
const scribble = (paint) => button("Paint scribbles", { onClick: paint, "data-key": "scribble" });

const actions = (live, visible) => [
  button("Use what I see now", {
    icon: "eye",
    "data-key": "here",
    onClick: async () => live.move(await visible()),
  }),
  button("Stop", { quiet: true, "data-key": "end", onClick: () => live.end() }),
];

// How many objects, and how long it took: `data-refit` counts what is shown.
function told(session, refitting) {
  const { objects, pixels, seconds, notes } = session;
  const painted = Object.entries(pixels);
  const count = objects === null ? "The overlay follows" : objectWords(objects);
  const spent = Object.values(seconds).reduce((sum, one) => sum + one, 0);
  const facts = painted.length
    ? `Learned in ${measured(spent)}.`
    : "As the model is. Paint, and it follows.";
  return el(
    "div",
    {
      class: "work-live",
      "data-refit": session.refit,
      "data-version": session.version,
      "data-spent": spent.toFixed(3),
      "data-busy": refitting ? "" : null,
    },
    el("div", { class: "work-line" }, el("b", {}, count), refitting ? el("i", {}, "…") : null),
    el("p", { class: "work-soft" }, facts),
    painted.length
      ? el("p", { class: "work-soft" }, painted.map(pixelWords).join(", "), " painted.")
      : null,
    notes.length
      ? folded("live-notes", "Notes", ...notes.map((words) => soft(sentence(words))))
      : null,
  );
}

const pixelWords = ([name, count]) =>
  `${count.toLocaleString("en")} pixel${count === 1 ? "" : "s"} of ${name.toLowerCase()}`;

function keeping(space, live, { keeping: kept, model }) {
  if (kept?.state === "running") return [waiting(kept.words)];
  if (kept?.state === "done") {
    const use = button("Use the new model", {
      primary: true,
      "data-key": "use",
      onClick: () => {
        live.end();
        space.chooseKin(kept.model);
      },
    });
    const undo = button("Undo", {
      quiet: true,
      "data-key": "undo-keep",
      onClick: () => live.undo(),
    });
    const words = `Kept in your zoo as ${kept.model}.`;
    const done = notice("yes", words, el("div", { class: "zoo-actions" }, use, undo));
    done.dataset.kept = kept.model;
    return [done];
  }
  const name = el("input", {
    class: "zoo-field",
    type: "text",
    maxlength: "100",
    placeholder: `${model}, refitted`,
    "data-key": "live-name",
  });
  const submit = (event) => {
    event.preventDefault();
    live.keep(name.value.trim());
  };
  return [
    kept?.state === "failed" ? notice("no", kept.error) : null,
    el(
      "form",
      { class: "work-path", on: { submit } },
      labelled("Keep it as a model of its own", name),
      el("button", { class: "zoo-button", type: "submit", "data-key": "keep-live" }, "Keep"),
    ),
  ];
}
