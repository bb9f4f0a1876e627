// The page: a header with the ways through it, and one view at a time below.
//
//   import("./static/app/index.js").then((app) => app.start(element));
//
// A view is a module whose default export `open(element, params, tools)` fills the element and
// returns {close(), update?(params)}. What it needs to know again after a reload is in `params`.

import * as api from "./api.js";
import { clear, el, loadStyle } from "./dom.js";
import { button, notice, waiting } from "./parts.js";
import { address, parse } from "./router.js";

const MODULES = {
  browse: "./browse/index.js",
  model: "./model/index.js",
  run: "./workspace/index.js",
  compare: "./compare/index.js",
  jobs: "./jobs/index.js",
};
const TITLES = { browse: "Models", model: "Model", run: "Run", compare: "Compare", jobs: "Jobs" };
const SLOW = 150; // milliseconds, after which it is said that something is being opened

export function start(element) {
  element.dataset.started = "";
  return new Page(element);
}

class Page {
  shown = null; // {view, params, handle}
  opening = 0;
  scrolled = new Map(); // address -> where it was left

  constructor(element) {
    loadStyle(import.meta.url, "./app.css");
    this.main = element.querySelector("[data-view]");
    this.live = element.querySelector("[data-live]");
    this.links = [...element.querySelectorAll("[data-nav]")];
    history.scrollRestoration = "manual";
    addEventListener("hashchange", () => this.route());
    this.user(element.querySelector("[data-user]"));
    this.route();
  }

  route() {
    const { view, params } = parse(location.hash);
    const shown = this.shown;
    if (shown?.view === view && shown.handle?.update) {
      shown.params = params;
      shown.handle.update(params);
    } else this.show(view, params);
  }

  async show(view, params) {
    const mine = ++this.opening;
    const first = this.shown === null;
    const here = location.hash;
    if (this.shown) this.scrolled.set(this.shown.hash, scrollY);
    close(this.shown);
    this.shown = { view, params, handle: null, hash: here };
    const section = el("section", { class: `zoo-view zoo-${view}`, tabindex: "-1" });
    for (const one of this.links) {
      const current = one.dataset.nav === view || (one.dataset.nav === "browse" && view === "model");
      if (current) one.setAttribute("aria-current", "page");
      else one.removeAttribute("aria-current");
    }
    const slow = setTimeout(() => clear(this.main, waiting("Opening...")), SLOW);
    this.title(TITLES[view]);
    try {
      const module = await import(MODULES[view]);
      if (mine !== this.opening) return;
      clearTimeout(slow); // from here on the view says itself what it waits for
      clear(this.main, section);
      const handle = await module.default(section, params, this.tools(mine));
      if (mine !== this.opening) handle?.close?.();
      else this.shown.handle = handle ?? {};
    } catch (error) {
      if (mine !== this.opening) return;
      console.error(error);
      const again = button("Load the page again", { onClick: () => location.reload() });
      clear(this.main, notice("no", `This part of the page could not be opened: ${error.message}`, again));
    } finally {
      clearTimeout(slow);
    }
    if (mine !== this.opening) return;
    scrollTo(0, this.scrolled.get(here) ?? 0);
    if (!first && !section.contains(document.activeElement)) section.focus({ preventScroll: true });
  }

  // What a view may ask of the page; nothing once another view is there.
  tools(mine) {
    const here = (f) => (...values) => (mine === this.opening ? f(...values) : undefined);
    return {
      api,
      go: here((view, params) => (location.hash = address(view, params))),
      replace: here((params) => {
        this.shown.params = params;
        history.replaceState(null, "", address(this.shown.view, params));
        this.shown.hash = location.hash;
      }),
      title: here((text) => this.title(text)),
      announce: here((text) => (this.live.textContent = text)),
    };
  }

  title(text) {
    document.title = `${text} · biozoo`;
  }

  async user(holder) {
    try {
      const me = await api.get("api/me");
      if (!me.name || !me.users) return;
      const out = button("Log out", {
        quiet: true,
        onClick: async () => {
          await api.post("logout");
          location.assign(api.url("login"));
        },
      });
      clear(holder, el("span", {}, me.name), out);
      holder.hidden = false;
    } catch {
      // whoever cannot be asked for is not shown
    }
  }
}

function close(shown) {
  try {
    shown?.handle?.close?.();
  } catch (error) {
    console.error(error);
  }
}

export { address };
