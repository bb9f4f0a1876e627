// Edits on their way to the server: one after the other, tried again while it does not answer.

import { ServerError } from "../layers.js";

const PAUSES = [500, 1500, 4000, 8000]; // milliseconds between tries
const LIGHT = 60_000; // characters of a body that the browser sends on when the page is left

export class Sender {
  #queue = [];
  #busy = false;
  #tries = 0;
  #timer = 0;

  /**
   * `done(task, answer)` and `refused(task, error)` are called once per task, in order; `changed()`
   * whenever `unsaved` or `trouble` may have.
   */
  constructor({ done, refused, changed }) {
    Object.assign(this, { done, refused, changed, trouble: null });
  }

  /** How many edits the server does not have yet. */
  get unsaved() {
    return this.#queue.length;
  }

  /** `task`: {url, body?, ...}; whatever else it holds comes back with the answer. */
  send(task) {
    this.#queue.push(task);
    this.changed();
    this.#next();
  }

  retry() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#next();
  }

  /** What is on its way still arrives, and is tried again as ever; nobody is told. */
  close() {
    for (const name of ["done", "refused", "changed"]) this[name] = () => {};
  }

  async #next() {
    if (this.#busy || this.#timer || !this.#queue.length) return;
    this.#busy = true;
    const [task] = this.#queue;
    try {
      const answer = await post(task.url(), task.body?.());
      this.#queue.shift();
      this.#tries = 0;
      this.trouble = null;
      this.done(task, answer);
    } catch (error) {
      if (error.passing) {
        this.trouble = error;
        const pause = PAUSES[Math.min(this.#tries++, PAUSES.length - 1)];
        this.#timer = setTimeout(() => this.retry(), pause);
      } else {
        this.#queue.shift();
        this.trouble = null;
        this.refused(task, error);
      }
    } finally {
      this.#busy = false;
      this.changed();
      this.#next();
    }
  }
}

async function post(url, body) {
  const content = body === undefined ? undefined : JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(url, {
      method: "POST",
      body: content,
      headers: content === undefined ? {} : { "content-type": "application/json" },
      credentials: "same-origin",
      keepalive: (content?.length ?? 0) < LIGHT, // a reload right after a stroke loses nothing
    });
  } catch {
    throw new ServerError(0, "The server does not answer. Is it still running?");
  }
  let told = null;
  try {
    told = await answer.json();
  } catch {
    // No JSON: the status alone must do.
  }
  if (answer.ok && told) return told;
  const words = told?.error ?? `The server answered with error ${answer.status}.`;
  throw new ServerError(answer.status, words);
}
