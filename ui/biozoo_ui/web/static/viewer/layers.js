// One layer: what the server says about an image, where it lies, and how it is to be shown.

import { labelColour, rgb } from "./colours.js";
import { Stamps } from "./edit/stamps.js";

const ARRAYS = {
  uint8: Uint8Array,
  uint16: Uint16Array,
  float32: Float32Array,
  uint32: Uint32Array,
};
const RGB = ["#ff0000", "#00ff00", "#0000ff"];
const OPACITY = { image: 1, probability: 0.7, labels: 0.9 };

/** What the server refused, in words that a reader can act on. */
export class ServerError extends Error {
  constructor(status, words) {
    super(words);
    this.status = status; // 0: no answer at all
  }

  /** Whether asking again may help. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** fetch() whose every failure is a ServerError, except that an abort stays an AbortError. */
export async function ask(url, signal) {
  let answer;
  try {
    answer = await fetch(url, { signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The server does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  let said = "";
  try {
    said = (await answer.json()).error ?? "";
  } catch {
    // No JSON: the status alone must do.
  }
  const known = {
    401: "This server asks for its token: open its address with ?token=TOKEN.",
    403: "You may not see this image.",
    404: "The server does not have this image any more. Open it again.",
  };
  const words = said || known[answer.status] || `The server answered with error ${answer.status}.`;
  throw new ServerError(answer.status, words);
}

/** Ask the server for a layer's description: {url, kind?, name?, at?, scale?, opacity?, ...}. */
export async function openLayer(option, signal) {
  const url = option.url.replace(/\/+$/, "");
  const description = await (await ask(url, signal)).json();
  if (!ARRAYS[description.pixels] || !description.levels?.length)
    throw new ServerError(200, `The answer of ${url} does not describe an image.`);
  return new Layer({ ...option, url }, description);
}

export class Layer {
  /**
   * `at` {time, z, y, x}: where the layer begins in the first layer, in its pixels; for the result
   * of a part of it. `scale` {y, x}: how many of the first layer's pixels one of its own covers.
   * Without `at` and `scale` the layer is stretched over the first one.
   */
  constructor(option, description) {
    this.url = option.url;
    this.description = description;
    this.kind = description.kind === "labels" ? "labels" : (option.kind ?? "image");
    if (this.kind === "labels" && description.pixels === "float32") this.kind = "image";
    this.name = option.name ?? description.name;
    this.option = option;
    this.at = { y: 0, x: 0, ...option.at };
    this.scale = { y: 1, x: 1, ...option.scale };
    this.visible = option.visible ?? true;
    this.opacity = option.opacity ?? OPACITY[this.kind] ?? 1;
    this.style = option.style ?? "outlines";
    this.shown = null; // the plane that is on the screen: the wanted one comes when it is there
    this.channels = description.channels.map((channel, i) => this.#channel(channel, i));
    const { tile, levels, sizes, pixels } = description;
    Object.assign(this, { tile, levels, sizes, pixels, rgb: Boolean(description.rgb) });
    this.Array = ARRAYS[pixels];
    this.last = levels.length - 1;
    this.classes = new Map((description.classes ?? []).map((one) => [one.value, one]));
    this.palette = paletteOf(this.classes);
    // Of a layer that is painted on, or renewed: which version of each tile is wanted.
    this.stamps = null;
    if (description.annotation) this.stamps = new Stamps(description.version);
    else if (option.renewed) this.stamps = new Stamps(description.v);
    this.side = option.side ?? null; // of the wipe line
  }

  #channel(channel, i) {
    const { rgb, pixels } = this.description;
    const alone = this.description.channels.length === 1;
    const range = channel.range ?? (pixels === "float32" ? [0, 1] : [0, 255]);
    let window = channel.contrast ?? range;
    if (rgb) window = range;
    if (this.kind === "probability") window = pixels === "float32" ? [0, 1] : range;
    return {
      name: channelName(channel.name, i, alone),
      color: rgb ? RGB[i] : (channel.color ?? "#ffffff"),
      range,
      low: window[0],
      high: Math.max(window[1], window[0] + (pixels === "float32" ? 1e-9 : 1)),
      visible: this.kind === "image" || i === 0, // maps lie over each other: one at a time
    };
  }

  /** Lay it over the first layer where its place is not given. */
  placeOn(first) {
    if (this === first || this.option.at || this.option.scale) return;
    const [own, its] = [this.levels[0], first.levels[0]];
    this.scale = { y: its.y / own.y, x: its.x / own.x };
  }

  /** Take over how the reader had set the same image before. */
  resume(former) {
    const { visible, opacity, style } = former;
    Object.assign(this, { visible, opacity, style, shown: former.shown });
    if (former.channels.length === this.channels.length) this.channels = former.channels;
    if (!this.stamps || !former.stamps) return;
    former.stamps.renew(this.stamps.version); // painted on elsewhere meanwhile
    this.stamps = former.stamps;
  }

  /** What a label is called and looks like. */
  labelName(label) {
    return this.classes.get(label)?.name ?? String(label);
  }

  labelColour(label) {
    return this.classes.get(label)?.color ?? labelColour(label);
  }

  /** The layer's own plane where the viewer is at z and time; null where it has none. */
  plane({ z, time }) {
    const own = {};
    for (const [axis, value] of [["z", z], ["time", time]]) {
      const index = value - (this.at[axis] ?? 0);
      const everywhere = this.sizes[axis] === 1 && this.at[axis] === undefined;
      if (!everywhere && (index < 0 || index >= this.sizes[axis])) return null;
      own[axis] = everywhere ? 0 : index;
    }
    return own;
  }

  get shownChannels() {
    return this.channels.flatMap((channel, i) => (channel.visible ? [i] : []));
  }

  /** One tile: its address, which is also its key, and its size; `formers` may stand in for it. */
  piece(level, plane, channel, row, column) {
    const { tile, description, stamps } = this;
    const place = `${level}/${plane.time}/${channel}/${plane.z}/${row}/${column}`;
    const versions = stamps?.of(tile * 2 ** level, plane, row, column) ?? [description.v];
    const [url, ...formers] = versions.map((v) => {
      const version = v === undefined ? "" : `?v=${encodeURIComponent(v)}`;
      return `${this.url}/tiles/${place}${version}`;
    });
    return {
      url,
      formers,
      width: Math.min(tile, this.levels[level].x - column * tile),
      height: Math.min(tile, this.levels[level].y - row * tile),
      Array: this.Array,
    };
  }

  /** The tile of a piece, else the newest of before that is here. */
  here(tiles, { url, formers }) {
    let found = tiles.get(url);
    for (let i = 0; !found && i < formers.length; i++) found = tiles.get(formers[i]);
    return found;
  }
}

// Where the file names none, the server numbers them.
function channelName(name, i, alone) {
  if (alone && /^0?$/.test(name ?? "")) return "Brightness";
  return /^\d*$/.test(name ?? "") ? `Channel ${name || i + 1}` : name;
}

const NAMED = 32; // classes with a colour of their own, as the graphics card is told

/** Red, green and blue of the first labels, 0 to 1; null where they are as all labels. */
function paletteOf(classes) {
  const last = Math.min(NAMED, Math.max(0, ...classes.keys()));
  if (!last) return null;
  const colours = Array.from({ length: last }, (_, i) => classes.get(i + 1)?.color ?? null);
  return new Float32Array(colours.flatMap((one, i) => rgb(one ?? hex(labelColour(i + 1)))));
}

// "rgb(1, 2, 3)" -> "#010203"
const hex = (colour) =>
  `#${colour.match(/\d+/g).map((part) => Number(part).toString(16).padStart(2, "0")).join("")}`;

/** An image in one sentence. */
export function spoken({ name, levels, channels, sizes }) {
  const parts = [`${levels[0].x} by ${levels[0].y} pixels`];
  if (channels.length > 1) parts.push(`${channels.length} channels`);
  if (sizes.z > 1) parts.push(`${sizes.z} planes`);
  if (sizes.time > 1) parts.push(`${sizes.time} time points`);
  const keys = "Arrow keys move, plus and minus zoom, ? lists all keys.";
  return `Image ${name}: ${parts.join(", ")}. ${keys}`;
}
