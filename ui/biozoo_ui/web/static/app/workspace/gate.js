// The verdict on a retrained model: its scores beside its parent's, and what may be done with it.

import { button, confirmed, notice, waiting } from "../parts.js";
import { el } from "../dom.js";
import { scoreWords } from "./curves.js";
import { folded } from "./step.js";
import { sentence } from "./words.js";

// gate(training, {ask(verb), use(model)}) -> elements
export function gate(training, { ask, use }) {
  const { gate: told, child, decision, kept } = training;
  if (!told) return [];
  const parts = [verdict(told), scores(told), forgotten(told)];
  if (decision === "kept") {
    const done = notice(
      "yes",
      `Kept in your zoo as ${kept}.`,
      el(
        "div",
        { class: "zoo-actions" },
        button("Use the new model", { primary: true, "data-key": "use", onClick: () => use(kept) }),
        button("Undo", { quiet: true, "data-key": "undo-keep", onClick: () => ask("undo") }),
      ),
    );
    done.dataset.kept = kept;
    parts.push(done);
  } else if (decision === "discarded") {
    parts.push(notice("note", `The new model was discarded. ${training.model} is as it was.`));
  } else if (child) {
    const keep = button("Keep the new model", {
      primary: true,
      icon: "yes",
      "data-key": "keep",
      onClick: (event) => {
        const holder = event.currentTarget.closest("[data-decide]");
        holder.replaceChildren(waiting("Adds it to your zoo..."));
        ask("keep");
      },
    });
    const discard = confirmed("Discard", "Discard the new model", () => ask("discard"), {
      "data-key": "discard",
    });
    parts.push(
      training.after.length ? el("p", { class: "work-soft" }, WIPE) : null,
      el("div", { class: "zoo-actions", "data-decide": "" }, keep, discard),
    );
  }
  return parts.filter(Boolean);
}

const WIPE =
  "Move the line over the image: left of it is what the model found before, right of it what the " +
  "new one finds.";

function verdict(told) {
  const words = told.passed ? told.why : `${told.why} It was not kept: your model is as it was.`;
  const shown = notice(told.passed ? "yes" : "no", words);
  shown.dataset.gate = told.passed ? "passed" : "refused";
  return shown;
}

// The main score of both as bars, further ones in a line.
function scores(told) {
  const { parent, child, rule } = told;
  if (!parent || !child) return null;
  const metric = rule?.metric ?? child.metric;
  const most = Math.max(1, parent.mean ?? 0, child.mean ?? 0);
  const row = (words, mean) => {
    const bar = el("i", {});
    bar.style.width = `${(100 * Math.max(0, mean ?? 0)) / most}%`;
    return el(
      "div",
      { class: "work-score" },
      el("span", {}, words),
      el("span", { class: "work-bar" }, bar),
      el("b", {}, mean === null ? "–" : mean.toFixed(3)),
    );
  };
  const count = child.values?.length ?? 0;
  const images = `${count} image${count === 1 ? "" : "s"} that it never learned from`;
  return el(
    "div",
    { class: "work-scores", "data-before": parent.mean, "data-after": child.mean },
    el("p", { class: "work-soft" }, `${scoreWords(metric)} on ${images}`),
    row("Before", parent.mean),
    row("Now", child.mean),
  );
}

function forgotten(told) {
  const lines = (told.forgetting ?? []).map((one) => {
    const pair = [one.parent, one.child].map((n) => (n === null ? "–" : n.toFixed(3)));
    const words = `On ${one.on}: ${scoreWords(one.metric)} ${pair[1]}, before ${pair[0]}`;
    return one.beyond
      ? notice("note", `${words}. It forgot more than it should. Use the old model there.`)
      : el("p", { class: "work-soft" }, `${words}.`);
  });
  const notes = (told.notes ?? []).map((words) => el("p", { class: "work-soft" }, sentence(words)));
  if (!lines.length && !notes.length) return null;
  return el(
    "div",
    { class: "work-part" },
    ...lines,
    notes.length ? folded("gate-notes", "Notes on the verdict", ...notes) : null,
  );
}
