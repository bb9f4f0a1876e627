// Painting on a layer of labels. A stroke is drawn at once as a line over the image, sent to the
// server when it ends, and goes when the tiles that hold it have come.
//
// The layer is an annotation of the server: its description has `annotation` ("classes" or
// "instances"), `classes`, `version`, `undo`, `redo` and `next`.

import { underTools } from "../canvas.js";
import { labelColour } from "../colours.js";
import { say } from "../dom.js";
import { place as placeOf } from "../probe.js";
import { bar } from "./bar.js";
import { Gesture } from "./gesture.js";
import { Ink } from "./ink.js";
import { listenForKeys } from "./keys.js";
import { Sender } from "./sender.js";
import { listenForTabs } from "./tabs.js";
import { TOOLS } from "./tools.js";

const OPACITY = 0.55;
const ERASER = "#e5e7eb";
const SIZES = [0.5, 100]; // radius in pixels of the image
const FINE = 100; // parts of a pixel that are sent

export class Editor {
  state = { tool: "brush", value: null, radius: 6, over: null };
  stands = { undo: 0, redo: 0, next: 1, version: 0 };
  news = 0; // the newest version that another tab knows
  strokes = []; // sent or waiting to be, not in the tiles that are shown
  gesture = null;
  hover = null; // under the pointer
  pointing = ""; // its type
  penned = false; // a pen was used: fingers move the image
  keyed = false; // corners are set by the keyboard
  spaced = false; // Space is held: the pointer moves the image
  frame = 0;

  constructor(viewer, url) {
    this.viewer = viewer;
    this.url = url;
    this.ink = new Ink();
    viewer.parts.stage.append(this.ink.canvas);
    this.sender = new Sender({
      done: (task, answer) => this.#done(task, answer),
      refused: (task, error) => this.#refused(task, error),
      changed: () => this.#told(),
    });
    this.endings = [listenForKeys(this), listenForTabs(this)];
  }

  close() {
    this.sender.close();
    cancelAnimationFrame(this.frame);
    for (const end of this.endings.splice(0)) end();
    this.ink.canvas.remove();
    this.bar?.element.remove();
    this.bar = null;
    this.viewer.parts.stage.classList.remove("zv-drawing");
    delete this.viewer.root.dataset.tool;
    this.#room();
  }

  // The buttons take room of the view; a fitted image lies beside them.
  #room() {
    const { camera, parts } = this.viewer;
    const { height, width } = camera.view;
    const tall = this.bar?.element.offsetHeight ?? 0;
    this.viewer.root.style.setProperty("--zv-bar", `${tall}px`);
    camera.resize(height, width, underTools(parts.view));
    this.viewer.changed();
  }

  /** The layer, once it is there. */
  get layer() {
    return this.viewer.layers.find((layer) => layer.url === this.url && layer.stamps) ?? null;
  }

  get kind() {
    return this.layer?.description.annotation ?? "classes";
  }

  /** {tool, value, radius, over}; what is left out stays. */
  set(patch) {
    const before = this.state;
    const next = { ...before, ...patch };
    next.radius = Math.min(SIZES[1], Math.max(SIZES[0], next.radius));
    if (next.tool !== before.tool) this.cancel();
    this.state = next;
    this.sync();
    const same = ["tool", "value", "radius"].every((name) => before[name] === next[name]);
    if (!same) this.viewer.emit("tool", { ...next });
  }

  /** The layer of before or another one has been described: its buttons, and where it stands. */
  opened() {
    const { layer } = this;
    if (!layer) return;
    const { version, undo, redo, next, annotation } = layer.description;
    if (version >= this.stands.version) this.stands = { version, undo, redo, next };
    if (!this.bar || this.bar.kind !== annotation) {
      this.bar?.element.remove();
      this.bar = { kind: annotation, ...bar(annotation, this) };
      this.viewer.parts.view.append(this.bar.element);
      this.sync();
      this.#room();
    } else this.sync();
  }

  sync() {
    const { tool } = this.state;
    this.viewer.root.dataset.tool = tool;
    this.viewer.parts.stage.classList.toggle("zv-drawing", TOOLS[tool].gesture !== null);
    this.bar?.sync({ ...this.state, undo: this.stands.undo > 0, redo: this.stands.redo > 0 });
    this.later();
  }

  // ------------------------------------------------------------------ verbs of the bar and keys

  tool(name) {
    this.set({ tool: name });
    say(this.viewer.parts.live, TOOLS[name].words);
  }

  radius(radius) {
    this.set({ radius });
  }

  undo() {
    this.#step("undo");
  }

  redo() {
    this.#step("redo");
  }

  #step(name) {
    const since = () => this.layer?.stamps.version ?? this.stands.version;
    this.sender.send({ step: name, url: () => `${this.url}/${name}?since=${since()}` });
  }

  /** Give up what is being drawn; whether there was something. */
  cancel() {
    const was = Boolean(this.gesture);
    this.gesture = null;
    this.later();
    return was;
  }

  /** Enter: the tool in the middle of the view; a second time there ends an outline. */
  enter() {
    if (!TOOLS[this.state.tool].gesture) return;
    const { y, x } = this.viewer.camera;
    const { gesture } = this;
    const last = gesture?.corners ? gesture.points.at(-1) : null;
    const again = last && (!this.keyed || (last.y === y && last.x === x));
    if (again && gesture.finish()) {
      gesture.free = null;
      this.gesture = null;
      this.#commit(gesture);
    } else if (!again) {
      this.keyed = true;
      this.#begin({ y, x });
      this.#end({ y, x });
    }
  }

  // ------------------------------------------------------------------ the pointer, from input.js

  /** Whether a pointer that goes down draws; else it moves the image. */
  takes(event) {
    if (event.pointerType === "pen") this.penned = true;
    const finger = event.pointerType === "touch" && this.penned;
    const draws = TOOLS[this.state.tool].gesture !== null && event.button === 0;
    return draws && !this.spaced && !finger && Boolean(this.layer);
  }

  down(event, place) {
    this.picking = event.altKey;
    this.keyed = false;
    this.pointing = event.pointerType;
    this.#begin(place);
  }

  /** `places`: all since the last time, in order. */
  move(places) {
    for (const place of places) this.gesture?.move(place, this.viewer.camera.scale);
    this.hover = places.at(-1);
    this.later();
  }

  up(place) {
    if (this.pointing !== "mouse") this.hover = null;
    this.#end(place);
  }

  /** The pointer moves without being down, or has left (null). */
  over(place) {
    this.hover = place;
    if (place) this.gesture?.move(place, this.viewer.camera.scale);
    this.later();
  }

  #begin(place) {
    const kind = this.picking ? "place" : TOOLS[this.state.tool].gesture;
    if (!this.gesture?.corners) this.gesture = new Gesture(kind);
    this.gesture.begin(place);
    this.gesture.color ??= this.#color(place);
    this.later();
  }

  #end(place) {
    const { gesture } = this;
    if (!gesture) return;
    const picking = this.picking;
    this.picking = false;
    const complete = gesture.end(place, this.viewer.camera.scale);
    if (complete || !gesture.corners) this.gesture = null;
    if (complete && (picking || this.state.tool === "pick")) this.#pick(place);
    else if (complete) this.#commit(gesture);
    this.later();
  }

  // ------------------------------------------------------------------ to the server and back

  #commit(gesture) {
    const { layer, viewer } = this;
    const plane = layer?.plane(viewer.state);
    if (!plane) return;
    const { tool, value, radius, over } = this.state;
    const classes = this.kind === "classes";
    const body = {
      // With a picked object an outline adds to it.
      tool: tool === "add" && value !== null ? "outline" : tool,
      plane: { z: plane.z, time: plane.time },
      points: thinned(gesture.points).map(({ y, x }) => [tidy(y), tidy(x)]),
      radius,
      value: tool === "erase" ? null : (value ?? (classes ? 2 : null)),
      over: over ?? classes,
      key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`,
    };
    const stroke = {
      gesture: gesture.kind,
      points: gesture.points,
      radius,
      color: gesture.color,
      opacity: OPACITY,
      plane,
      version: null,
    };
    this.strokes.push(stroke);
    this.sender.send({
      stroke,
      url: () => `${this.url}/edits`,
      body: () => ({ ...body, since: this.layer?.stamps.version ?? this.stands.version }),
    });
  }

  /** See what was painted elsewhere, in another tab say. */
  look() {
    const { layer } = this;
    if (!layer || this.sender.unsaved) return;
    const since = layer.stamps.version;
    fetch(`${this.url}/changes?since=${since}`, { credentials: "same-origin" })
      .then((answer) => (answer.ok ? answer.json() : null))
      .then((answer) => answer && answer.version > since && this.#take(answer))
      .catch(() => {}); // it is only a look
  }

  /** An answer of the server that the page itself has asked for, of an import say. */
  take(answer) {
    this.#take(answer);
  }

  #done({ stroke }, answer) {
    if (stroke && answer.changes.length) stroke.version = answer.version;
    else if (stroke) this.strokes = this.strokes.filter((one) => one !== stroke);
    this.#take(answer);
  }

  #take(answer) {
    const { version, undo, redo, next } = answer;
    this.stands = { version, undo, redo, next };
    for (const layer of this.viewer.layers)
      if (layer.url === this.url) layer.stamps?.add(answer.changes, version);
    this.sync();
    this.viewer.renewed(true);
    this.viewer.emit("edited", answer);
  }

  #refused({ stroke, step }, error) {
    this.strokes = this.strokes.filter((one) => one !== stroke);
    this.later();
    if (error.name === "AbortError") return;
    // Steps may be gone by another tab's doing; that is no mistake of the reader.
    if (step && error.status === 409) this.look();
    else this.viewer.emit("refused", { message: error.message, status: error.status ?? 0 });
    say(this.viewer.parts.live, error.message);
  }

  #told() {
    const { unsaved, trouble } = this.sender;
    this.viewer.emit("unsaved", { count: unsaved, message: trouble?.message ?? "" });
    if (this.news > this.stands.version) this.look(); // told of while a stroke was on its way
  }

  // ------------------------------------------------------------------ labels under the pointer

  /** The number under a point; undefined where its tile is not here. */
  #at(point) {
    const { layer, viewer } = this;
    const found = layer && placeOf(layer, viewer.view(), point);
    return found ? layer.here(viewer.tiles, found.piece)?.pixels[found.index] : 0;
  }

  #pick(point) {
    const found = this.#at(point);
    const words = found ? this.layer.labelName(found) : "nothing";
    say(this.viewer.parts.live, `Picked: ${words}`);
    if (found === undefined || (!found && this.kind === "classes")) return;
    const tool = this.state.tool === "pick" ? "brush" : this.state.tool;
    this.set({ value: found || null, tool });
  }

  #color(point) {
    const { tool, value } = this.state;
    if (tool === "erase") return ERASER;
    if (tool === "split" || tool === "delete") return "#f87171";
    const { layer } = this;
    if (this.kind === "classes") return layer.labelColour(value ?? 2);
    const begun = tool === "brush" || tool === "merge" ? this.#at(point) : 0;
    return labelColour(value ?? (begun || this.stands.next));
  }

  // ------------------------------------------------------------------ drawn

  /** A frame of the image is shown; `whole`: all tiles of it are those that were wanted. */
  shown(whole) {
    if (whole) this.strokes = this.strokes.filter(({ version }) => version === null);
    this.draw();
  }

  later() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { layer, viewer, gesture } = this;
    const { tool, radius } = this.state;
    const plane = layer?.plane(viewer.state);
    const here = this.strokes.filter(
      (one) => plane && one.plane.z === plane.z && one.plane.time === plane.time,
    );
    const shown = viewer.state.held || !layer?.visible ? [] : here;
    if (gesture)
      shown.push({
        gesture: gesture.kind,
        points: gesture.points,
        radius,
        color: gesture.color,
        opacity: OPACITY,
        free: gesture.corners && !gesture.begun ? gesture.free : null,
      });
    const rings = TOOLS[tool].gesture === "line" && !this.spaced;
    const ring = rings && this.hover ? { ...this.hover, radius, dashed: tool === "erase" } : null;
    this.ink.draw(viewer.camera, shown, ring);
  }
}

const tidy = (value) => Math.round(value * FINE) / FINE;

const MOST = 10_000; // points of a stroke

/** At most so many points; of a longer line every second, and so on. */
function thinned(points) {
  let kept = points;
  while (kept.length > MOST) kept = kept.filter((_, i) => i % 2 === 0 || i === kept.length - 1);
  return kept;
}
