// A model's page: what can be done with it, and below its card.

import { url } from "../api.js";
import { clear, el, icon, loadStyle } from "../dom.js";
import { badge, button, copyable, empty, link, notice, waiting } from "../parts.js";
import { address } from "../router.js";
import { last } from "../browse/filters.js";
import { actions } from "./actions.js";

const ORIGINS = {
  "built-in": "comes with biozoo",
  installed: "in my zoo",
  collection: "in the collection",
};
const THERE = "the computer on which biozoo runs";
const STALE = 3000; // milliseconds, after which a reader who comes back sees the state anew

export default async function open(element, params, tools) {
  await loadStyle(import.meta.url, "./model.css");
  const view = new ModelPage(element, params, tools);
  await view.load();
  return view;
}

class ModelPage {
  model = null;
  closed = false;
  asked = 0;

  constructor(element, params, tools) {
    Object.assign(this, { params, tools, id: params.id });
    this.path = `api/models/${encodeURIComponent(this.id)}`;
    this.head = el("div", { class: "model-head" });
    this.todo = el("div", { class: "model-todo" });
    this.card = el("div", { class: "model-card" });
    this.page = el("div", { class: "zoo-page model-page" }, this.head, this.todo, this.card);
    element.append(this.page);
    this.back = () => Date.now() - this.asked > STALE && this.load();
    addEventListener("focus", this.back);
  }

  close() {
    this.closed = true;
    removeEventListener("focus", this.back);
    this.actions?.close();
  }

  // The state anew: it may have been added, removed or trusted meanwhile, also elsewhere.
  async load() {
    this.asked = Date.now();
    try {
      const model = await this.tools.api.get(this.path);
      if (this.closed) return;
      const before = this.model;
      this.model = model;
      const same = before && JSON.stringify(before) === JSON.stringify(model);
      if (!same) this.show();
      const other = before?.origin !== model.origin || before?.version !== model.version;
      if (!before || other) this.describe();
    } catch (error) {
      if (!this.closed && !this.model) this.missing(error);
    }
  }

  missing(error) {
    const all = link("All models", address("browse"), { primary: true });
    const again = button("Try again", { icon: "again", onClick: () => this.load() });
    const shown =
      error.status === 404
        ? empty("No such model", error.message, all)
        : notice("no", error.message, again);
    clear(this.head, shown);
  }

  show() {
    const { model } = this;
    this.tools.title(model.name);
    const facts = [
      model.task_label,
      model.takes,
      model.size_text,
      model.license,
      ORIGINS[model.origin],
    ];
    const { state, words, why } = model.badge;
    const typed = document.activeElement && this.head.contains(document.activeElement);
    const image = this.params.image;
    this.actions?.close();
    const load = () => this.load();
    this.actions = actions(model, { ...this.tools, image, path: this.path, load });
    clear(
      this.head,
      el(
        "p",
        { class: "model-back" },
        el("a", { href: address("browse", { ...last.params, image }) }, icon("back"), "All models"),
      ),
      el(
        "div",
        { class: "model-title" },
        el(
          "div",
          { class: "model-words" },
          el("h1", { tabindex: "-1" }, model.name),
          el("p", { class: "model-id" }, [model.id, model.version].filter(Boolean).join(" · ")),
          el("p", { class: "model-lead" }, model.description),
          el(
            "p",
            { class: "model-chips" },
            badge(state, words),
            ...facts.filter(Boolean).map((text) => el("span", { class: "zoo-chip" }, text)),
          ),
          el("p", { class: "model-why" }, why),
          this.actions.element,
        ),
        this.cover(),
      ),
    );
    clear(this.todo, this.needed());
    if (typed) this.head.querySelector("h1").focus({ preventScroll: true });
  }

  cover() {
    const { cover } = this.model;
    if (!cover) return null;
    const image = el("img", {
      class: "model-cover",
      src: url(cover),
      alt: "",
      on: { error: () => image.remove() },
    });
    return image;
  }

  // What has to be typed somewhere before it runs.
  needed() {
    const { badge: judged, origin } = this.model;
    if (!judged.todo || judged.state === "runs") return [];
    const again = button("Look again", { icon: "again", onClick: () => this.load() });
    const first = origin === "collection" ? "After adding it, type" : "Type";
    const words = {
      trust: `${first} this in a terminal of ${THERE}, read the code, and allow it or not:`,
      needs: `Type this in a terminal of ${THERE}, then start biozoo again:`,
    };
    return el(
      "section",
      { class: "model-needed", "aria-label": judged.words },
      el("p", {}, words[judged.state] ?? words.needs),
      copyable(judged.todo),
      again,
    );
  }

  async describe() {
    clear(this.card, waiting("Opening its card..."));
    try {
      const card = await this.tools.api.get(`${this.path}/card`);
      if (this.closed) return;
      const holder = el("div");
      holder.innerHTML = card; // made by the server, every word of the package escaped
      clear(this.card, holder, this.files());
      if (this.model.size === null) this.load(); // the card made its size known
    } catch (error) {
      if (this.closed) return;
      const again = button("Try again", { icon: "again", onClick: () => this.describe() });
      clear(this.card, notice("note", error.message, again));
    }
  }

  files() {
    const { commands } = this.model;
    const other = { target: "_blank", rel: "noopener" };
    const whole = [
      ["One page", "html", other],
      ["Markdown", "md", { download: `${this.id}.md` }],
      ["JSON", "json", { download: `${this.id}.json` }],
    ];
    const links = whole.map(([text, kind, how]) =>
      el("a", { href: url(`${this.path}/card.${kind}`), ...how }, text),
    );
    const lines = [
      commands.shell ? [el("h3", {}, "On the command line"), copyable(commands.shell)] : null,
      commands.python ? [el("h3", {}, "In Python"), copyable(commands.python)] : null,
    ];
    return el(
      "footer",
      { class: "model-files" },
      lines.some(Boolean)
        ? el("details", {}, el("summary", {}, "Without this page"), ...lines.filter(Boolean).flat())
        : null,
      el("p", {}, "The whole card, to keep or to send: ", ...links),
    );
  }
}
