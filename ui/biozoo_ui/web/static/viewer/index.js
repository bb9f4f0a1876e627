// biozoo's microscopy viewer: one WebGL 2 canvas that shows an image of any size with its overlays.
//
//   import { createViewer } from "./viewer/index.js";
//   const viewer = createViewer(element, { layers: [{ url: "/api/images/ID" }] });
//
// Options: layers, theme ("auto", "light", "dark"), panel (true, false: open or closed at first).
// A layer: {url, kind ("image", "probability", "labels"), name, opacity, visible, style
// ("outlines", "filled"), at: {y, x, z, time}, scale: {y, x}}; layers.js tells of `at` and `scale`.
// `renewed`: it will get other versions, see renew(). `side`: "left" of the wipe line, where else the
// image stands alone; without the line it is not seen.

import { Camera } from "./camera.js";
import { watchCard, watchSize } from "./canvas.js";
import { panel, planes } from "./controls.js";
import { make } from "./dom.js";
import { Editor } from "./edit/index.js";
import { furniture } from "./furniture.js";
import { Graphics } from "./gl.js";
import { listen } from "./input.js";
import { openLayer, spoken } from "./layers.js";
import { probe } from "./probe.js";
import { request } from "./scene.js";
import { announce, empty, furnish, paint } from "./show.js";
import { follow, loadStyle } from "./theme.js";
import { Tiles } from "./tiles.js";
import { verbs } from "./verbs.js";

const SLOW = 40; // milliseconds of a frame
const LAZY = 1500; // that a stroke may stay a line over the image, where a frame takes long
// "edited", "tool", "unsaved" and "refused" while something is painted on, see edit().
const EVENTS = ["view", "pointer", "ready", "error", "edited", "tool", "unsaved", "refused"];

export function createViewer(element, options = {}) {
  return new Viewer(element, options);
}

class Viewer {
  layers = [];
  camera = new Camera();
  state = { z: 0, time: 0, wipe: null, held: false };
  editor = null;
  listeners = new Map(EVENTS.map((event) => [event, new Set()]));
  linked = new Set();
  point = null; // under the cursor, in image pixels
  probing = false; // whether the point has rested long enough to be fetched
  frame = 0;
  restTimer = 0;
  opening = null; // AbortController of setLayers
  error = null; // of opening the layers, or of the graphics card
  ready = false;
  stale = true; // whether the canvas shows something else than it should
  expecting = false; // see expect()
  lazy = false;
  seen = "";
  endings = [];

  constructor(element, { layers = [], theme = "auto", panel: open = true }) {
    this.verbs = verbs(this);
    this.parts = furniture(this.verbs);
    const { view, status, live, canvas } = this.parts;
    this.planes = planes({}, () => {});
    this.panel = { element: make("div"), sync: () => {} };
    this.side = make("aside", { class: "zv-panel", "aria-label": "Layers and contrast" });
    const main = make("div", { class: "zv-main" }, view, this.planes.element, status.element);
    const frame = make("div", { class: "zv-frame" }, main, this.side);
    this.root = make("div", { class: "zv" }, frame, live);
    this.open = open;
    element.append(this.root);
    loadStyle(this.root);
    this.endings.push(follow(this.root, theme, () => this.changed()));
    this.endings.push(listen(this.root, this.parts.stage, this.verbs));
    this.tiles = new Tiles(() => this.arrived(), (tile) => this.graphics?.release(tile));
    try {
      this.graphics = new Graphics(canvas);
    } catch (error) {
      this.fail(error);
    }
    watchCard(this, canvas);
    this.endings.push(watchSize(this, view));
    this.setLayers(layers);
  }

  // ------------------------------------------------------------------ for the page

  /**
   * Show other layers. An image that is shown already keeps place, plane and contrast. Resolves
   * when all are described; a refusal is shown in words and told as "error".
   */
  async setLayers(layers) {
    this.opening?.abort();
    const opening = (this.opening = new AbortController());
    this.asked = layers;
    this.setBusy(true);
    try {
      const opened = await Promise.all(layers.map((one) => openLayer(one, opening.signal)));
      if (opening.signal.aborted) return;
      this.error = this.graphics ? null : this.error;
      this.take(opened);
    } catch (error) {
      if (opening.signal.aborted) return;
      opening.abort(); // the other layers' answers are of no use
      this.fail(error);
    }
    this.changed();
  }

  fit() {
    this.camera.fit();
    this.moved();
  }

  /** Look at a point of the image; scale: CSS pixels per image pixel. What is left out stays. */
  zoomTo({ y, x, scale, z, time } = {}) {
    this.camera.set({ y, x, scale });
    this.setPlane({ z, time });
    this.moved();
  }

  /** The part of the image that is seen, in its pixels, whole and within the image. */
  visible() {
    const { box, z, time } = this.view();
    const { image } = this.camera;
    const within = (from, to, size) => [
      Math.min(size, Math.max(0, Math.floor(from))),
      Math.max(0, Math.min(size, Math.ceil(to))),
    ];
    return { y: within(box.y0, box.y1, image.y), x: within(box.x0, box.x1, image.x), z, time };
  }

  /** Where one looks: the middle of the view and the zoom, as zoomTo() takes them. */
  look() {
    const { y, x, scale } = this.camera;
    return { y, x, scale };
  }

  /** `layer`: its place in the list, or its name. */
  setOpacity(layer, opacity) {
    const found = this.layers[layer] ?? this.layers.find((one) => one.name === layer);
    if (!found) return;
    found.opacity = Math.min(1, Math.max(0, Number(opacity) || 0));
    this.changed();
  }

  /** A line at this part of the width, 0 to 1: left of it the first layer stands alone. Or null. */
  setWipe(part) {
    this.state.wipe = part === null ? null : Math.min(1, Math.max(0, part));
    this.changed();
  }

  /**
   * Paint on a layer, an annotation of the server: {url, tool, value, radius, over}. What is left
   * out stays; null ends it. `tool`: see edit/tools.js. `value`: the number to paint, null: as the
   * server chooses. `radius`: in pixels of the image. `over`: whether other numbers are painted
   * over. Told as "edited" (the server's answer), "tool" (chosen by key or pick), "unsaved"
   * {count, message}, "refused" {message}.
   */
  edit(asked) {
    const url = asked?.url?.replace(/\/+$/, "");
    if (!asked || (url && url !== this.editor?.url)) {
      this.editor?.close();
      this.editor = null;
    }
    if (!asked) return;
    const { url: _, ...patch } = asked;
    if (url && !this.editor) {
      this.editor = new Editor(this, url);
      this.editor.set(patch);
      this.editor.opened();
    } else this.editor?.set(patch);
  }

  /**
   * All pixels of layers that were opened as `renewed` have another version: [{url, version}]. What
   * is shown stays until the new ones have come.
   */
  renew(versions) {
    for (const { url, version } of versions) {
      const found = this.layers.find((one) => one.url === url.replace(/\/+$/, ""));
      found?.stamps?.renew(version);
    }
    this.renewed();
  }

  /**
   * After each stroke a layer will be renewed: on a machine that draws slowly the stroke itself is
   * drawn with it, not in a frame of its own before.
   */
  expect(on) {
    this.expecting = on;
  }

  /** Move together from now on; returns a function that ends it. */
  link(other) {
    if (other === this) return () => {};
    this.linked.add(other);
    other.linked.add(this);
    other.follow(this);
    return () => {
      this.linked.delete(other);
      other.linked.delete(this);
    };
  }

  on(event, listener) {
    const listeners = this.listeners.get(event);
    if (!listeners) throw new Error(`No event "${event}"; there are ${EVENTS.join(", ")}.`);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  destroy() {
    if (!this.root.isConnected && !this.endings.length) return;
    this.opening?.abort();
    this.edit(null);
    cancelAnimationFrame(this.frame);
    for (const timer of [this.restTimer, this.arrivalTimer, this.quickTimer, this.busyTimer])
      clearTimeout(timer);
    for (const end of this.endings.splice(0)) end();
    for (const other of this.linked) other.linked.delete(this);
    this.linked.clear();
    this.tiles.close();
    this.graphics?.gl.getExtension("WEBGL_lose_context")?.loseContext();
    this.root.remove();
    this.destroyed = true;
  }

  // ------------------------------------------------------------------ state to screen

  take(opened) {
    const former = new Map(this.layers.map((layer) => [layer.url, layer]));
    const [first] = opened;
    const same = first && this.layers[0]?.url === first.url
      && this.layers[0].description.v === first.description.v;
    for (const layer of opened) {
      layer.placeOn(first);
      const before = former.get(layer.url);
      const same = before?.description.v === layer.description.v;
      if (before && (same || before.stamps)) layer.resume(before);
    }
    this.layers = opened;
    this.editor?.opened();
    this.ready = false;
    if (first && !same) {
      this.camera.setImage(first.levels[0].y, first.levels[0].x);
      Object.assign(this.state, { z: Math.floor(first.sizes.z / 2), time: 0 });
      this.point = null;
    }
    if (opened.length < 2) this.state.wipe = null;
    const rows = planes(first?.sizes ?? {}, (axis, index) => this.verbs.setPlane(axis, index));
    this.planes.element.replaceWith(rows.element);
    this.planes = rows;
    this.panel = panel(opened, this.verbs);
    this.side.replaceChildren(this.panel.element);
    this.parts.stage.setAttribute("aria-label", first ? spoken(first) : "No image yet");
    this.moved();
  }

  view() {
    const { z, time } = this.state;
    const camera = this.camera;
    const ratio = this.parts.canvas.width / camera.view.width || 1;
    return { box: camera.box(), scale: camera.scale, ratio, z, time, quick: this.quick };
  }

  /** The view changed: linked viewers follow, the page is told. */
  moved() {
    this.hurry();
    if (!this.following) {
      for (const other of this.linked) other.follow(this);
    }
    this.changed();
  }

  /** While the view moves on a machine that draws slowly, pixels are not mixed. */
  hurry() {
    if (!(this.graphics?.cost > SLOW)) return;
    this.quick = true;
    clearTimeout(this.quickTimer);
    this.quickTimer = setTimeout(() => {
      this.quick = false;
      this.changed();
    }, 200);
  }

  following = false;

  follow(other) {
    if (!other.layers.length) return;
    this.following = true;
    const { y, x, scale, fitted } = other.camera;
    if (fitted) this.camera.fit(); // each in its own frame
    else this.camera.set({ y, x, scale });
    this.setPlane(other.state);
    this.hurry();
    this.following = false;
    this.changed();
  }

  /** Why something that is to be seen is missing, else null; what is fetched ahead is not. */
  get trouble() {
    return this.error ?? (this.loading === "whole" ? null : this.tiles.failure);
  }

  /** The plane of the first layer; what it does not have becomes the nearest. */
  setPlane({ z, time }) {
    const sizes = this.layers[0]?.sizes ?? { z: 1, time: 1 };
    for (const [axis, index] of [["z", z], ["time", time]])
      if (index !== undefined)
        this.state[axis] = Math.min(sizes[axis] - 1, Math.max(0, Math.round(index)));
  }

  /**
   * Something is to be shown anew: once per frame of the screen, however often it is called.
   * `paint`: whether it is on the canvas, which a machine without a graphics card draws slowly.
   */
  changed(paint = true) {
    this.stale ||= paint;
    if (this.frame || this.destroyed) return;
    clearTimeout(this.arrivalTimer);
    this.arrivalTimer = 0;
    const next = () => {
      if (this.graphics?.busy) {
        this.frame = requestAnimationFrame(next);
        return;
      }
      this.frame = 0;
      this.show();
      requestAnimationFrame(() => this.graphics?.busy); // takes the time of this frame
    };
    this.frame = requestAnimationFrame(next);
  }

  /**
   * Something that is seen has other pixels. They are asked for now and drawn when they are here:
   * until then nothing on the canvas is new. `inked`: a line over the image shows it already.
   */
  renewed(inked = false) {
    if (this.destroyed) return;
    this.lazy = inked && this.expecting && this.graphics?.cost > SLOW;
    if (this.layers.length) this.loading = request(this.layers, this.view(), this.tiles);
    if (this.loading === "whole") this.changed();
    else if (!this.lazy) this.setBusy(true);
  }

  /** Tiles came: shown at once where drawing is quick, else several at a time. */
  arrived() {
    if (this.loading === "whole") return; // fetched ahead
    if (this.lazy) {
      this.arrivalTimer ||= setTimeout(() => this.changed(), LAZY);
      return;
    }
    const pause = this.graphics?.cost > SLOW ? 3 * this.graphics.cost : 0;
    if (pause === 0 || this.tiles.idle) this.changed();
    else this.arrivalTimer ||= setTimeout(() => this.changed(), pause);
  }

  show() {
    const { parts } = this;
    const view = this.view();
    const [first] = this.layers;
    this.loading = "whole";
    let values = [];
    if (this.graphics && !this.lost && first) {
      const asked = this.probing && this.point ? this.point : null;
      const under = this.point ? probe(this.layers, view, this.point, this.tiles) : null;
      this.loading = request(this.layers, view, this.tiles, asked ? under.pieces : []);
      values = under?.values ?? [];
      if (this.stale) paint(this, view);
    } else if (this.graphics && !this.lost) this.graphics.begin(empty(this));
    this.editor?.shown(this.loading === "whole");
    furnish(this, view, first, values);
    this.stale = this.lazy = false;
    const complete = this.loading !== "waiting";
    this.setBusy(!complete || (!first && !this.error && this.asked?.length > 0));
    announce(this, first, values, complete);
  }

  setBusy(busy) {
    this.root.setAttribute("aria-busy", busy);
    clearTimeout(this.busyTimer);
    if (!busy) this.parts.waiting.hidden = true;
    // What comes at once needs no sign of waiting.
    else this.busyTimer = setTimeout(() => (this.parts.waiting.hidden = false), 250);
  }

  emit(event, detail) {
    for (const listener of [...this.listeners.get(event)]) {
      try {
        listener(detail);
      } catch (error) {
        reportError(error); // a listener's mistake is not the viewer's
      }
    }
  }

  fail(error) {
    this.error = error;
    error.again = Boolean(this.graphics);
    this.changed();
  }
}

