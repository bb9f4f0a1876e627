// Tiles: fetched in the order of need, aborted when nobody needs them, kept while there is room.
// The pixels stay in memory beside their texture: for values under the cursor, automatic contrast,
// and for a graphics card that was reset.

import { ask, ServerError } from "./layers.js";

const LANES = 6; // what a browser opens to one server with HTTP/1.1
const BUDGET = 192 * 2 ** 20; // bytes of pixels; the same again as textures
const PAUSES = [400, 1000, 2500, 5000]; // milliseconds of leaving a failing server alone

export class Tiles {
  #kept = new Map(); // url -> tile, longest unused first
  #coming = new Map(); // url -> AbortController
  #refused = new Map(); // url -> error that asking again does not mend
  #trouble = { error: null, times: 0, until: 0 }; // with the server as a whole
  #wanted = [];
  #bytes = 0;
  #timer = 0;
  #frame = 0;

  /** `changed`: called when a tile came or failed. `release`: frees a tile's texture. */
  constructor(changed, release, budget = BUDGET) {
    Object.assign(this, { changed, release, budget });
  }

  /** The tile of this address if it is here. */
  get(url) {
    const tile = this.#kept.get(url);
    if (!tile) return undefined;
    tile.frame = this.#frame;
    this.#kept.delete(url); // to the end: used last
    this.#kept.set(url, tile);
    return tile;
  }

  newFrame() {
    this.#frame += 1;
  }

  /** What is needed now, most urgent first: all else that is on its way is given up. */
  want(pieces) {
    this.#wanted = pieces.filter((piece) => !this.#kept.has(piece.url));
    if (!this.#wanted.length) this.#trouble = { error: null, times: 0, until: 0 };
    const needed = new Set(this.#wanted.map((piece) => piece.url));
    for (const [url, abort] of this.#coming) if (!needed.has(url)) abort.abort();
    for (const url of this.#refused.keys()) if (!needed.has(url)) this.#refused.delete(url);
    this.#next();
  }

  /** Why something that is needed does not come, else null. A single hiccup is no reason yet. */
  get failure() {
    const { error, times } = this.#trouble;
    return times > 1 ? error : (this.#refused.values().next().value ?? null);
  }

  /** Ask again now for everything that failed. */
  retry() {
    this.#refused.clear();
    this.#trouble.until = 0;
    this.#next();
  }

  close() {
    clearTimeout(this.#timer);
    this.#wanted = [];
    for (const abort of this.#coming.values()) abort.abort();
    for (const tile of this.#kept.values()) this.release(tile);
    this.#kept.clear();
    this.#refused.clear();
    this.#bytes = 0;
  }

  /** Whether nothing is on its way. */
  get idle() {
    return this.#coming.size === 0;
  }

  #next() {
    clearTimeout(this.#timer);
    const pause = this.#trouble.until - performance.now();
    if (pause > 0) {
      if (this.#wanted.length) this.#timer = setTimeout(() => this.#next(), pause + 1);
      return;
    }
    // A server in trouble is asked for one tile, not for a whole view.
    const lanes = this.#trouble.times ? 1 : LANES;
    for (const piece of this.#wanted) {
      const { url } = piece;
      if (this.#coming.size >= lanes) break;
      if (this.#kept.has(url) || this.#coming.has(url) || this.#refused.has(url)) continue;
      this.#fetch(piece);
    }
  }

  async #fetch(piece) {
    const abort = new AbortController();
    this.#coming.set(piece.url, abort);
    try {
      const answer = await ask(piece.url, abort.signal);
      const bytes = await answer.arrayBuffer();
      if (abort.signal.aborted) return;
      this.#keep(piece, bytes);
      this.#trouble = { error: null, times: 0, until: 0 };
    } catch (error) {
      if (abort.signal.aborted) return;
      // A body that breaks off is a TypeError of fetch().
      this.#note(piece.url, error instanceof ServerError ? error : new ServerError(0, BROKEN));
    } finally {
      // An aborted tile may be on its way a second time already.
      if (this.#coming.get(piece.url) === abort) this.#coming.delete(piece.url);
      this.#next();
      if (!abort.signal.aborted) this.changed();
    }
  }

  #note(url, error) {
    if (!error.passing) {
      this.#refused.set(url, error);
      return;
    }
    const now = performance.now();
    if (now < this.#trouble.until) return; // it was on its way together with the one before
    const times = this.#trouble.times + 1;
    const pause = PAUSES[Math.min(times, PAUSES.length) - 1];
    this.#trouble = { error, times, until: now + pause };
  }

  #keep(piece, bytes) {
    const { width, height, Array } = piece;
    if (bytes.byteLength !== width * height * Array.BYTES_PER_ELEMENT)
      throw new ServerError(0, "The server sent a piece of the image that is cut short.");
    const tile = { width, height, pixels: new Array(bytes), texture: null, frame: this.#frame };
    this.#kept.set(piece.url, tile);
    this.#bytes += bytes.byteLength;
    for (const [url, old] of this.#kept) {
      if (this.#bytes <= this.budget) break;
      if (old.frame >= this.#frame - 1) continue; // on the screen
      this.#kept.delete(url);
      this.#bytes -= old.pixels.byteLength;
      this.release(old);
    }
  }
}

const BROKEN = "The connection to the server broke off.";
