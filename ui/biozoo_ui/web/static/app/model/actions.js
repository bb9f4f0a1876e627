// What can be done with a model: try, use, add, download, remove. Adding goes on on the server; a
// page that is opened meanwhile finds it again.

import { url } from "../api.js";
import { clear, el } from "../dom.js";
import { button, bytes, confirmed, link, notice, progress } from "../parts.js";
import { address } from "../router.js";

// `tools`: those of the view, `image` that is to be used, `path` of the model's routes, and
// `load()`, which asks for the model's state anew.
export function actions(model, tools) {
  return new Actions(model, tools);
}

class Actions {
  stop = () => {}; // listening to an addition

  constructor(model, tools) {
    Object.assign(this, { model, tools });
    this.row = el("div", { class: "zoo-actions" });
    this.below = el("div", { class: "model-below", "aria-live": "polite" });
    this.element = el("div", { class: "model-actions" }, this.row, this.below);
    if (model.addition) this.watch(model.addition);
    else this.offer();
  }

  close() {
    this.stop();
  }

  offer() {
    const { model, tools } = this;
    const { id, origin, version } = model;
    const here = origin !== "collection";
    const runs = here && model.badge.state === "runs";
    const image = tools.image;
    const use = (primary) => {
      const words = image ? "Use on the open image" : "Use on my image";
      return link(words, address("run", { model: id, image }), { primary, icon: "image" });
    };
    const choices = [];
    if (runs && image) choices.push(use(true));
    if (runs && model.sample) {
      const href = address("run", { model: id, sample: 1 });
      choices.push(link("Try on the sample", href, { primary: !image, icon: "play" }));
    }
    if (runs && !image) choices.push(use(!model.sample));
    if (!here) choices.push(this.adding());
    if (here) {
      const name = `${id}${version ? `-${version}` : ""}.zip`;
      const href = url(`${tools.path}/package`);
      const how = { quiet: true, icon: "download", download: name };
      choices.push(link("Download package", href, how));
    }
    if (origin === "installed") {
      choices.push(
        confirmed("Remove from my zoo", "Remove it", () => this.remove(), { icon: "remove" }),
      );
    }
    clear(this.row, choices);
  }

  adding(text = "Add to my zoo") {
    const { size } = this.model;
    const words = size ? `${text} (${bytes(size)})` : text;
    return button(words, { primary: true, icon: "download", onClick: () => this.add() });
  }

  async add() {
    clear(this.below);
    this.row.querySelector("button").disabled = true;
    try {
      this.watch(await this.tools.api.post(`${this.tools.path}/add`));
    } catch (error) {
      this.failed(error.message);
    }
  }

  // Shows an addition until it has ended.
  watch(addition) {
    const path = `api/additions/${addition.id}`;
    const bar = progress();
    const cancel = button("Cancel", {
      icon: "stop",
      onClick: async () => {
        cancel.disabled = true;
        try {
          await this.tools.api.post(`${path}/cancel`);
        } catch (error) {
          this.failed(error.message);
        }
      },
    });
    clear(this.row, cancel);
    clear(this.below, bar);
    cancel.focus({ preventScroll: true });
    const told = (now) => {
      const of = now.total ? `${bytes(now.done)} of ${bytes(now.total)}` : bytes(now.done);
      const words = now.done ? `${now.words} ${of}` : now.words;
      bar.update({ done: now.done, total: now.total, words });
      if (now.stopping) cancel.disabled = true;
      if (now.state === "running") return;
      this.stop();
      if (now.state === "done") this.added();
      else if (now.state === "cancelled") this.stopped();
      else this.failed(now.error);
    };
    told(addition);
    if (addition.state !== "running") return;
    this.stop = this.tools.api.events(
      `${path}/events`,
      { addition: told },
      { onEnd: () => this.lost(path, told) },
    );
  }

  // The stream is gone for good: ask once what became of it.
  async lost(path, told) {
    this.stop();
    try {
      told(await this.tools.api.get(path));
    } catch (error) {
      this.failed(error.message);
    }
  }

  added() {
    this.tools.announce(`${this.model.name} is in your zoo.`);
    this.tools.load();
  }

  stopped() {
    clear(this.row, this.adding());
    clear(this.below, el("p", {}, "Stopped. Nothing was left behind."));
    this.row.querySelector("button").focus();
  }

  failed(why) {
    clear(this.row, this.adding("Try again"));
    clear(this.below, notice("no", why));
  }

  async remove() {
    try {
      await this.tools.api.remove(this.tools.path);
      this.tools.announce(`${this.model.name} was removed.`);
    } catch (error) {
      this.offer();
      clear(this.below, notice("no", error.message));
      return;
    }
    try {
      await this.tools.api.get(this.tools.path); // one of the collection can be added again
      this.tools.load();
    } catch {
      this.tools.go("browse", {});
    }
  }
}
