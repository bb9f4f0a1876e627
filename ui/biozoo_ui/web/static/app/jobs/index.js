// The list of what ran, runs and waits in this session, trainings too, the newest first, as it goes
// on.

import {
  badge,
  button,
  confirmed,
  empty,
  link,
  notice,
  seconds,
  waiting,
  when,
} from "../parts.js";
import { clear, el, loadStyle } from "../dom.js";
import { address } from "../router.js";
import { drawn } from "../workspace/drawn.js";
import { isActive as isLearning } from "../workspace/train_words.js";
import { ListRow } from "./list_row.js";
import { TrainingRow } from "./training_row.js";
import {
  choiceWords,
  isActive,
  objectWords,
  progressWords,
  resumeWords,
  stateWords,
  took,
} from "./words.js";

const BUSY = 1000; // milliseconds between looks while something runs
const QUIET = 4000; // while nothing does: another tab may have begun something

export default async function open(element, params, tools) {
  await loadStyle(import.meta.url, "./jobs.css");
  const list = new List(element, tools);
  list.look();
  return { close: () => list.close() };
}

class List {
  jobs = null;
  trainings = [];
  error = "";
  rows = new Map(); // id -> Row

  constructor(element, tools) {
    this.tools = tools;
    this.said = el("div", {});
    this.list = el("ul", { class: "jobs-list", "aria-label": "Runs, the newest first" });
    this.draw = drawn(this.said);
    const head = el(
      "div",
      { class: "jobs-head" },
      el("h1", {}, "Jobs"),
      el("p", {}, "All that ran here, retraining too. It goes on when you close this page."),
    );
    element.append(el("div", { class: "zoo-page jobs" }, head, this.said, this.list));
    this.draw([], () => [waiting("Looks for what ran...")]);
  }

  async look() {
    clearTimeout(this.timer);
    const mine = (this.number = (this.number ?? 0) + 1);
    try {
      const { api } = this.tools;
      const asked = ["api/jobs", "api/trainings"].map((path) => api.get(path));
      const [{ jobs }, { trainings }] = await Promise.all(asked);
      if (this.closed || mine !== this.number) return;
      Object.assign(this, { jobs, trainings });
      this.error = "";
    } catch (error) {
      if (this.closed || mine !== this.number) return;
      this.error = error.message;
    }
    this.sync();
    const busy = this.error || this.jobs?.some(isActive) || this.trainings.some(isLearning);
    this.timer = setTimeout(() => this.look(), busy ? BUSY : QUIET);
  }

  // What a person asked of a row; what the server refuses is said in it.
  async ask(row, verb) {
    const { path } = row;
    const { api, announce } = this.tools;
    try {
      await (verb === "delete" ? api.remove(path) : api.post(`${path}/${verb}`));
      row.refused = "";
      announce({ delete: "Deleted.", cancel: "Stops.", resume: "Goes on." }[verb]);
    } catch (error) {
      row.refused = error.message;
    }
    await this.look();
    row.sync(row.told);
  }

  sync() {
    const none = this.jobs && !this.jobs.length && !this.trainings.length;
    this.draw([this.error, none], () => {
      if (this.error) return [notice("no", this.error)];
      if (!none) return [];
      const go = link("Run a model on an image", address("run", {}), {
        primary: true,
        icon: "play",
      });
      return [
        empty(
          "Nothing has run yet",
          "What you run is listed here, with its results to look at and to download.",
          go,
        ),
      ];
    });
    if (!this.jobs) return;
    const all = [
      ...this.jobs.map((told) => ({ told, Kind: Row })),
      ...this.trainings.map((told) => ({ told, Kind: TrainingRow })),
    ].sort((a, b) => Date.parse(b.told.created) - Date.parse(a.told.created));
    const rows = all.map(({ told, Kind }) => {
      const row = this.rows.get(told.id) ?? new Kind(this);
      row.sync(told);
      return [told.id, row];
    });
    this.rows = new Map(rows);
    const elements = rows.map(([, row]) => row.element);
    const same =
      elements.length === this.list.children.length &&
      elements.every((one, i) => one === this.list.children[i]);
    if (!same) clear(this.list, elements);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
  }
}

class Row extends ListRow {
  get path() {
    return `api/jobs/${encodeURIComponent(this.told.id)}`;
  }

  sync(job) {
    this.told = job;
    const active = isActive(job);
    const [status, words] = stateWords(job);
    Object.assign(this.element.dataset, { job: job.id, state: job.state });
    this.draw.head([words, job.ended, job.started, job.objects], () => heading(job, status, words));
    if (active) this.bar.update({ ...job.tiles, words: progressWords(job) });
    this.draw.body([active, job.error, this.refused, job.state === "done"], () => [
      active ? this.bar : null,
      job.error
        ? el("p", { class: job.state === "failed" ? "jobs-failed" : "jobs-soft" }, job.error)
        : null,
      this.refused ? notice("no", this.refused) : null,
      job.state === "done" ? report(this.list.tools.api, job) : null,
    ]);
    this.draw.actions([active, job.stopping, job.state, resumeWords(job)], () =>
      this.buttons(job, active),
    );
  }

  buttons(job, active) {
    const name = `${job.model} on ${job.image.name}`;
    const ask = (verb) => () => this.list.ask(this, verb);
    const show = link("Open", address("run", { job: job.id }), {
      "aria-label": `Open ${name}`,
      "data-key": "open",
    });
    if (active) {
      const stop = button("Cancel", {
        disabled: job.stopping,
        icon: "stop",
        "data-key": "act",
        onClick: ask("cancel"),
      });
      return [show, stop];
    }
    const again = job.resumable
      ? button(resumeWords(job), { icon: "again", "data-key": "act", onClick: ask("resume") })
      : null;
    const remove = confirmed("Delete", "Delete it and its files", ask("delete"), {
      "aria-label": `Delete ${name}`,
      "data-key": "delete",
    });
    return [show, again, remove];
  }
}

function heading(job, status, words) {
  const time = took(job);
  const facts = [
    job.state === "done" && typeof job.objects === "number" ? objectWords(job.objects) : "",
    when(job.started ?? job.created),
    time === null ? "" : `took ${seconds(time)}`,
    choiceWords(job.choices),
  ].filter(Boolean);
  return [
    el(
      "div",
      { class: "jobs-title" },
      el("h2", {}, job.model, el("span", {}, ` on ${job.image.name}`)),
      badge(status, words),
    ),
    el("p", { class: "jobs-soft" }, facts.join(" · ")),
  ];
}

// Asked for when it is unfolded: a list of fifty needs none.
function report(api, job) {
  const text = el("pre", { class: "jobs-report" }, "Opening...");
  const details = el("details", { "data-key": "report" }, el("summary", {}, "Report"), text);
  const load = async () => {
    if (!details.open || details.loaded) return;
    details.loaded = true;
    try {
      const whole = await api.get(`api/jobs/${encodeURIComponent(job.id)}`);
      text.textContent = whole.report?.text ?? "There is none.";
    } catch (error) {
      text.textContent = error.message;
      details.loaded = false;
    }
  };
  details.addEventListener("toggle", load);
  return details;
}
