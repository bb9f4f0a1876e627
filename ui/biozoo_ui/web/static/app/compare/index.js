// Several models, or scales of one, on the same part of an image, in viewers that move together.

import { button, empty, link, notice, waiting } from "../parts.js";
import { el, loadStyle } from "../dom.js";
import { address } from "../router.js";
import { firstImage, request } from "../workspace/choices.js";
import { drawn } from "../workspace/drawn.js";
import { SAMPLES } from "../workspace/samples.js";
import { given, sizeWords } from "../workspace/words.js";
import { Column } from "./column.js";
import { columnsOf, columnsParams, MOST } from "./columns.js";

export default async function open(element, params, tools) {
  await loadStyle(import.meta.url, "./compare.css");
  const page = new Comparison(element, tools);
  page.start(params);
  return { update: (next) => page.take(next), close: () => page.close() };
}

class Comparison {
  columns = [];
  state = { models: null, images: [], image: null, error: "", busy: false };

  constructor(element, tools) {
    this.tools = tools;
    this.api = tools.api;
    this.bar = el("div", { class: "compare-bar" });
    this.row = el("div", { class: "compare-columns" });
    this.rest = el("div", { class: "compare-rest" });
    this.draw = { bar: drawn(this.bar), rest: drawn(this.rest) };
    this.view = el("div", { class: "compare", "data-home": "" }, this.bar, this.row, this.rest);
    element.append(this.view);
  }

  async start(params) {
    this.params = params;
    this.sync();
    const [models, images] = await Promise.allSettled([
      this.api.get("api/models"),
      this.api.get("api/images"),
    ]);
    if (this.closed) return;
    const runs = (models.value?.models ?? []).filter((one) => one.badge?.state === "runs");
    runs.sort((a, b) => (b.origin === "built-in") - (a.origin === "built-in"));
    this.state.models = runs;
    this.state.images = given(images.value ?? []);
    this.state.error = (models.reason ?? images.reason)?.message ?? "";
    await this.take(this.params);
  }

  async take(params) {
    const id = firstImage(params.image);
    const before = this.params;
    this.params = params;
    if (id && id !== this.state.image?.id) await this.load(id);
    if (!id) this.state.image = null;
    if (this.closed || this.params !== params) return;
    // `add`: whoever comes from a result wants another model beside it.
    if (this.state.image && this.state.models && (!params.models || params.add)) {
      const first = columnsOf(params);
      const others = await this.fitting(id, params.channel);
      if (this.closed || this.params !== params) return;
      const more = others.filter((model) => !first.some((one) => one.model === model));
      const all = [...first, ...more.map((model) => ({ model, scale: "" }))].slice(0, 2);
      this.params = { ...params, ...columnsParams(all), add: undefined };
      this.tools.replace(this.params);
    }
    this.arrange(before.channel !== params.channel);
    this.sync();
  }

  // Models to begin with, those first that run on this image as it is.
  async fitting(image, channel) {
    const some = this.state.models.slice(0, 4).map((one) => one.id);
    const checks = await Promise.allSettled(
      some.map((model) => this.api.post("api/checks", request({ model, image, channel }))),
    );
    const fit = some.filter((_, i) => checks[i].value?.ok);
    return [...fit, ...some.filter((model) => !fit.includes(model))];
  }

  async load(id) {
    try {
      this.state.image = await this.api.get(`api/images/${encodeURIComponent(id)}`);
      this.state.error = "";
    } catch (error) {
      this.state.image = null;
      this.state.error =
        error.status === 404 ? "This image is not open any more. Open it again." : error.message;
    }
  }

  // Columns as the address says; what stays the same keeps its viewer and what was found.
  arrange(again) {
    const { image } = this.state;
    const wanted = image ? columnsOf(this.params) : [];
    const before = [...this.columns];
    const same = ({ model, scale }, column) => column.model === model && column.scale === scale;
    const now = wanted.map((one) => {
      const at = before.findIndex((column) => same(one, column));
      return at < 0 ? null : before.splice(at, 1)[0];
    });
    for (const [i, one] of wanted.entries()) {
      if (now[i]) continue;
      const spare = before.length && wanted.length <= this.columns.length ? before.shift() : null;
      now[i] = spare ?? this.column(one.model, one.scale);
      if (spare) spare.become(one);
    }
    for (const column of before) column.close();
    this.columns = now;
    if (now.some((column, i) => this.row.children[i] !== column.element)) {
      this.row.replaceChildren(...now.map((column) => column.element));
    }
    this.row.dataset.count = now.length;
    for (const column of now) {
      if (column.on !== image.id || again) column.start();
      column.on = image.id;
      column.sync();
    }
  }

  column(model, scale) {
    return new Column(
      {
        api: this.api,
        models: () => this.state.models ?? [],
        image: () => this.state.image,
        channel: () => this.params.channel,
        alone: () => this.columns.length < 2,
        placed: (one) => this.placed(one),
        change: (one, patch) => this.change(one, patch),
        take: (one) => this.choose(this.columns.filter((other) => other !== one)),
        use: ({ model: used, scale: at }) => {
          const { image, channel } = this.params;
          this.tools.go("run", { model: used, image, channel, scale: at || undefined });
        },
      },
      { model, scale },
    );
  }

  // Moves with the others from now on. Not before: fitted into its frame it would move them.
  placed(column) {
    if (column.placed || column.closed) return;
    column.placed = true;
    for (const other of this.columns)
      if (other !== column && other.placed) other.viewer.link(column.viewer);
  }

  change(column, patch) {
    this.choose(
      this.columns.map((one) =>
        one === column ? { model: one.model, scale: one.scale, ...patch } : one,
      ),
    );
  }

  choose(columns) {
    this.params = { ...this.params, ...columnsParams(columns) };
    this.tools.replace(this.params);
    this.arrange(false);
    this.sync();
  }

  add() {
    const { models } = this.state;
    const used = new Set(this.columns.map((one) => one.model));
    const next = models.find((one) => !used.has(one.id)) ?? models[0];
    const scale = used.has(next.id) ? "auto" : "";
    this.choose([...this.columns, { model: next.id, scale }]);
  }

  // One after the other: at the same time they would share the processor, and no time were true.
  async look() {
    const mine = (this.looking = {});
    this.state.busy = true;
    this.sync();
    await this.columns[0].shown; // else nothing is seen yet
    if (mine !== this.looking || this.closed) return;
    const view = this.columns[0].viewer.visible();
    for (const column of [...this.columns]) {
      if (mine !== this.looking || this.closed) return;
      if (!column.closed) await column.look(view);
    }
    if (mine !== this.looking || this.closed) return;
    this.state.busy = false;
    this.sync();
    this.tools.announce("All have looked at it.");
  }

  sync() {
    if (this.closed) return;
    const { image, images, models, busy, error } = this.state;
    this.tools.title(image ? `Compare on ${image.name}` : "Compare");
    this.draw.bar([image, images, busy, models, this.columns.length], () => [
      el("h1", { tabindex: "-1" }, "Compare"),
      ...(image ? this.choices() : []),
    ]);
    this.draw.rest([image, images, models, error], () => {
      if (error) return [notice("no", error), ...(image ? [] : [this.nothing()])];
      if (image && models && !models.length)
        return [
          notice("no", "No model on this machine runs here. Add one from the list of models."),
        ];
      if (!models) return [waiting("Opening...")];
      return image ? [] : [this.nothing()];
    });
  }

  choices() {
    const { image, images, busy } = this.state;
    const known = images.some((one) => one.id === image.id) ? images : [image, ...images];
    const select = el(
      "select",
      {
        class: "zoo-field",
        "aria-label": "Image",
        "data-key": "image",
        on: { change: () => this.open(select.value) },
      },
      ...known.map((one) =>
        el("option", { value: one.id, selected: one.id === image.id }, one.name),
      ),
    );
    return [
      select,
      button(busy ? "Looks..." : "Compare what you see", {
        primary: true,
        icon: "eye",
        disabled: busy || !this.columns.length,
        "data-key": "look",
        onClick: () => this.look(),
      }),
      button("Add a column", {
        disabled: this.columns.length >= MOST || !this.state.models?.length,
        title: this.columns.length >= MOST ? `${MOST} are the most` : "",
        "data-key": "add",
        onClick: () => this.add(),
      }),
      el(
        "p",
        { class: "compare-hint" },
        "The views move together: zoom in on what matters, then compare.",
      ),
    ];
  }

  async open(id) {
    this.looking = null;
    this.state.busy = false;
    const params = { ...this.params, image: id, channel: undefined };
    this.tools.replace(params);
    await this.take(params);
  }

  nothing() {
    const samples = SAMPLES.map(([kind, words]) =>
      button(words, { "data-key": kind, onClick: () => this.sample(kind) }),
    );
    const images = this.state.images
      .slice(-4)
      .map((one) =>
        button(`${one.name}, ${sizeWords(one)}`, {
          "data-key": one.id,
          onClick: () => this.open(one.id),
        }),
      );
    const own = link("Open an image", address("run", {}), {
      primary: true,
      icon: "image",
      "data-key": "own",
    });
    const text = "Then up to four models look at the same part of it, side by side and timed.";
    return el(
      "div",
      { class: "compare-nothing" },
      empty("Which image shall they be compared on?", text, own),
      images.length
        ? el("div", { class: "zoo-actions" }, el("span", {}, "Open already:"), ...images)
        : null,
      el("div", { class: "zoo-actions" }, el("span", {}, "Or a sample:"), ...samples),
    );
  }

  async sample(kind) {
    try {
      const image = await this.api.post("api/images/samples", { kind });
      this.state.images = [...this.state.images, image];
      await this.open(image.id);
    } catch (error) {
      this.state.error = error.message;
      this.sync();
    }
  }

  close() {
    this.closed = true;
    for (const column of this.columns) column.close();
  }
}
