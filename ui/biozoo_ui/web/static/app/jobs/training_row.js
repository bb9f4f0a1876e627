// One training in the list: what learned from what, how far it is, what became of it.

import { badge, button, confirmed, link, notice, when } from "../parts.js";
import { el } from "../dom.js";
import { address } from "../router.js";
import { barOf, isActive } from "../workspace/train_words.js";
import { channelParam } from "../workspace/choices.js";
import { ListRow } from "./list_row.js";
import { stateWords } from "./words.js";

export class TrainingRow extends ListRow {
  get path() {
    return `api/trainings/${encodeURIComponent(this.told.id)}`;
  }

  sync(training) {
    this.told = training;
    const active = isActive(training);
    const { state, error, gate, decision, stopping } = training;
    Object.assign(this.element.dataset, { training: training.id, state });
    const [status, words] = stateWords(training);
    this.draw.head([words, training.started], () => heading(training, status, words));
    if (active) this.bar.update(barOf(training));
    this.draw.body([active, error, this.refused, gate?.why, decision], () => [
      active ? this.bar : null,
      error
        ? el("p", { class: state === "failed" ? "jobs-failed" : "jobs-soft" }, error)
        : null,
      this.refused ? notice("no", this.refused) : null,
      state === "done" ? el("p", { class: "jobs-soft" }, outcome(training)) : null,
    ]);
    this.draw.actions([active, stopping, state, training.resumable], () => this.buttons(active));
  }

  buttons(active) {
    const { id, model, seen, choices, stopping, resumable } = this.told;
    const name = `the retraining of ${model}`;
    const ask = (verb) => () => this.list.ask(this, verb);
    const channel = channelParam(choices.channel);
    const show = link("Open", address("run", { model, image: seen, channel, training: id }), {
      "aria-label": `Open ${name}`,
      "data-key": "open",
    });
    if (active) {
      const stop = button("Cancel", {
        disabled: stopping,
        icon: "stop",
        "data-key": "act",
        onClick: ask("cancel"),
      });
      return [show, stop];
    }
    const again = resumable
      ? button("Go on with it", { icon: "again", "data-key": "act", onClick: ask("resume") })
      : null;
    const remove = confirmed("Delete", "Delete it and its files", ask("delete"), {
      "aria-label": `Delete ${name}`,
      "data-key": "delete",
    });
    return [show, again, remove];
  }
}

function heading({ model, samples, folders, choices, started, created }, status, words) {
  const count = samples.length;
  const from = count ? `${count} image${count === 1 ? "" : "s"}` : "folders";
  const facts = [choices.name, folders.join(", "), when(started ?? created)].filter(Boolean);
  return [
    el(
      "div",
      { class: "jobs-title" },
      el("h2", {}, model, el("span", {}, ` retrained on ${from}`)),
      badge(status, words),
    ),
    el("p", { class: "jobs-soft" }, facts.join(" · ")),
  ];
}

function outcome({ gate, decision, kept, child }) {
  const why = gate?.why ?? "";
  if (decision === "kept") return `${why} Kept in your zoo as ${kept}.`;
  if (decision === "discarded") return `${why} The new model was discarded.`;
  return child && gate?.passed ? `${why} Open it to keep the new model or not.` : why;
}
