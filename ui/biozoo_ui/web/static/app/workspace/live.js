// Live mode: the last layer of the model refitted on the server after each stroke.
//
// One refit is on its way at a time. What is painted meanwhile makes another one after it, so the
// overlay follows as fast as the server can, and the last stroke always counts.

import { request } from "./choices.js";

const LOOK = 500; // milliseconds between looks how far a kept model is
const ONE = "Live mode works with models that look at one image.";
const GONE =
  "Live mode has ended: the server was started again, or it was not used for long. Start it again.";

export class Live {
  #busy = false; // a refit is on its way
  #again = false; // something was painted since it began
  #listening = null;

  // `shown(layers)`: the overlays have new versions.
  constructor(space, shown) {
    this.space = space;
    this.shown = shown;
  }

  get #path() {
    return `api/live/${encodeURIComponent(this.space.state.live.id)}`;
  }

  // The address names a session: it is found again after a reload.
  async find(id) {
    const { space } = this;
    if (space.state.live?.id === id) return;
    this.#leave();
    if (!id) return;
    const path = `api/live/${encodeURIComponent(id)}`;
    const got = await space.newest("live", () => space.api.get(path));
    if (!got || space.params.live !== id) return;
    if (got.answer && got.answer.model === space.params.model) {
      space.set({ live: got.answer, liveError: "" });
      this.#listen();
    } else {
      space.choose({ live: undefined });
      space.set({ live: null, liveError: got.error?.status === 404 ? GONE : "" });
    }
  }

  // `view`: what is seen of the image.
  async start(view) {
    const { space } = this;
    const asked = request(space.params, space.state.model?.inputs);
    if (!asked) return;
    if (typeof asked.image !== "string") {
      space.set({ liveError: ONE });
      return;
    }
    space.set({ liveBusy: "Looks at what you see...", liveError: "" });
    const got = await space.newest("live", () => space.api.post("api/live", { ...asked, view }));
    if (!got) return;
    space.set({ liveBusy: "", liveError: got.error?.message ?? "" });
    if (got.error) return;
    space.forgetPreview();
    space.set({ live: got.answer });
    space.choose({ live: got.answer.id });
    space.tools.announce("Live mode is on. Paint, and the result follows.");
    this.#listen();
    this.refit(); // what is painted already
  }

  // Another part of the image; what was painted elsewhere still counts.
  async move(view) {
    const { space } = this;
    space.set({ liveBusy: "Looks at what you see...", liveError: "" });
    const got = await space.newest("live", () => space.api.post(`${this.#path}/views`, { view }));
    if (!got) return;
    space.set({ liveBusy: "", liveError: this.#words(got.error) });
    if (!got.answer) return;
    space.set({ live: got.answer });
    this.refit();
  }

  async refit() {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    const { space } = this;
    try {
      do {
        this.#again = false;
        await this.#once();
      } while (this.#again && space.state.live && !space.ended);
    } finally {
      this.#busy = false;
    }
  }

  async #once() {
    const { space } = this;
    const { live } = space.state;
    const annotation = space.annotation.current();
    if (!live || annotation?.kind !== "classes") return;
    const painted = Object.keys(space.state.annotation?.counts.pixels ?? {}).length > 0;
    if (!painted && !Object.keys(live.pixels).length) return; // it is as the model is
    space.set({ refitting: true });
    let patch;
    try {
      const now = await space.api.post(`${this.#path}/refits`, { annotation: annotation.id });
      if (space.state.live?.id !== live.id) return;
      const moved = now.layers[0]?.url !== space.state.live.layers[0]?.url;
      patch = { live: now, liveError: "" };
      if (!moved) this.shown(now.layers); // at once: the page's words may come later
    } catch (error) {
      patch = { liveError: this.#words(error) };
    }
    space.set({ ...patch, refitting: false });
  }

  #words(error) {
    if (!error) return "";
    if (error.status !== 404) return error.message;
    this.#off();
    this.space.set({ live: null });
    this.space.choose({ live: undefined });
    return GONE;
  }

  #listen() {
    this.#off();
    const { annotation } = this.space;
    const ends = ["edited", "opened"].map((event) => annotation.on(event, () => this.refit()));
    this.#listening = () => ends.forEach((end) => end());
  }

  #off() {
    this.#listening?.();
    this.#listening = null;
  }

  // What was painted stays with the annotation.
  end() {
    this.#leave();
    if (this.space.params.live) this.space.choose({ live: undefined });
  }

  #leave() {
    const { space } = this;
    const { live } = space.state;
    this.#off();
    space.asked.live = (space.asked.live ?? 0) + 1; // what is on its way is of no interest
    if (live) space.api.remove(`api/live/${encodeURIComponent(live.id)}`).catch(() => {});
    space.set({ live: null, liveBusy: "", liveError: "", refitting: false });
  }

  // Keeps the refitted model in the zoo, under a name ("" for one after its parent's).
  async keep(name) {
    const { space } = this;
    const { live } = space.state;
    const path = this.#path;
    space.set({ liveError: "" });
    try {
      let now = await space.api.post(`${path}/keep`, { name });
      while (!space.ended && space.state.live?.id === live.id) {
        space.set({ live: { ...space.state.live, keeping: now.keeping } });
        if (now.keeping?.state !== "running") break;
        await new Promise((done) => setTimeout(done, LOOK));
        now = await space.api.get(path);
      }
      if (now.keeping?.state === "done") {
        space.tools.announce(`${now.keeping.model} is in your zoo.`);
        space.loadModels();
      }
    } catch (error) {
      space.set({ liveError: this.#words(error) });
    }
  }

  // The kept model leaves the zoo again; the live session is as it was.
  async undo() {
    const { space } = this;
    const { keeping } = space.state.live;
    try {
      await space.api.remove(`api/models/${encodeURIComponent(keeping.model)}`);
    } catch (error) {
      if (error.status !== 404) {
        space.set({ liveError: error.message });
        return;
      }
    }
    space.set({ live: { ...space.state.live, keeping: null } });
    space.tools.announce("The new model was removed.");
    space.loadModels();
  }

  close() {
    this.#off();
  }
}
