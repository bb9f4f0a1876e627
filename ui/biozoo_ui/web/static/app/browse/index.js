// Browse: every model as a card, with search and filters that stand in the address.

import { clear, el, loadStyle } from "../dom.js";
import { button, empty, notice, waiting } from "../parts.js";
import { filterBar } from "./bar.js";
import { modelCard } from "./card.js";
import { anyWish, fitting, last, wishes } from "./filters.js";
import { grid } from "./grid.js";
import { choosing, hero } from "./hero.js";

const AGAIN = 1500; // milliseconds until a collection that is being fetched is asked for again
const STALE = 5000; // the same of a list, when the reader comes back to the window
const QUIET = 700; // after the last key, until the count is read aloud

let left = { key: "", count: 0 }; // how far down a reader was, for the way back

export default async function open(element, params, tools) {
  await loadStyle(import.meta.url, "./browse.css");
  const view = new Browse(element, params, tools);
  await view.load();
  return view;
}

class Browse {
  data = null;
  text = ""; // the list as it was sent, to see whether it is another one
  asked = 0;
  closed = false;

  constructor(element, params, tools) {
    Object.assign(this, { params, tools });
    this.image = params.image;
    this.head = el("div");
    this.bar = filterBar({
      onType: (text) => this.wish({ q: text }, true),
      onChoose: (key, value) => this.wish({ [key]: value }, false),
      onClear: () => this.reset(),
    });
    this.bar.element.hidden = true;
    this.found = el("p", { class: "browse-found" });
    this.told = el("div", { class: "browse-told" });
    this.cards = grid((model) => modelCard(model, this.image));
    this.none = el("div");
    this.page = el(
      "div",
      { class: "zoo-page browse-page" },
      this.head,
      this.bar.element,
      el("div", { class: "browse-state" }, this.found, this.told),
      this.cards.element,
      this.none,
    );
    element.append(this.page);
    this.back = () => Date.now() - this.asked > STALE && this.load();
    addEventListener("focus", this.back);
  }

  close() {
    this.closed = true;
    last.params = this.params;
    left = { key: JSON.stringify(this.params), count: this.cards.count() };
    clearTimeout(this.timer);
    clearTimeout(this.reader);
    removeEventListener("focus", this.back);
    this.cards.close();
  }

  update(params) {
    this.params = params;
    if (params.image !== this.image) {
      this.image = params.image;
      this.cards.forget();
      this.top();
    }
    this.show();
  }

  async load() {
    this.asked = Date.now();
    clearTimeout(this.timer);
    if (!this.data) clear(this.none, waiting("Looking at the models..."));
    try {
      const data = await this.tools.api.get("api/models");
      if (this.closed) return;
      const text = JSON.stringify(data);
      if (text !== this.text) {
        const first = !this.data;
        Object.assign(this, { data, text });
        this.cards.forget();
        this.top();
        this.show(first && left.key === JSON.stringify(this.params) ? left.count : 0);
      }
      if (data.collection.state === "loading") this.timer = setTimeout(() => this.load(), AGAIN);
    } catch (error) {
      if (this.closed) return;
      const again = button("Try again", { icon: "again", onClick: () => this.load() });
      clear(this.none, notice("no", error.message, again));
    }
  }

  top() {
    clear(this.head, this.image ? choosing(this.image) : hero(this.data.models));
  }

  // A wish that is typed changes the address in place; a chosen one is a step to go back from.
  wish(change, typed) {
    const params = { ...this.params, ...change };
    for (const [key, value] of Object.entries(params)) if (!value) delete params[key];
    if (!typed) return this.tools.go("browse", params);
    this.params = params;
    this.show();
    this.tools.replace(params);
  }

  reset() {
    this.tools.go("browse", this.image ? { image: this.image } : {});
    this.bar.focus();
  }

  show(least = 0) {
    if (!this.data) return;
    const wish = wishes(this.params);
    const { found, counts } = fitting(this.data.models, wish);
    this.bar.element.hidden = false;
    this.bar.show(this.data.facets, counts, wish);
    this.cards.show(found, least);
    this.count(found.length);
    this.collection();
    clear(this.none, found.length ? [] : this.nothing());
  }

  count(number) {
    const all = this.data.models.length;
    const words = anyWish(this.params)
      ? `${number.toLocaleString()} of ${all.toLocaleString()} models`
      : `${all.toLocaleString()} models`;
    this.found.textContent = words;
    clearTimeout(this.reader);
    if (anyWish(this.params)) this.reader = setTimeout(() => this.tools.announce(words), QUIET);
  }

  collection() {
    const { state, note } = this.data.collection;
    const key = `${state} ${note}`;
    if (this.told.dataset.key === key) return;
    this.told.dataset.key = key;
    const busy = { loading: () => waiting(note), unavailable: () => notice("note", note) };
    clear(this.told, (busy[state] ?? (() => el("p", {}, note)))());
  }

  nothing() {
    const clearing = button("Clear filters", { primary: true, onClick: () => this.reset() });
    return empty(
      "No model fits",
      "Try other or fewer words, or take a filter away.",
      clearing,
    );
  }
}
