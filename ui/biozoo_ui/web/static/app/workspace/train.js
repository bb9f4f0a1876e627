// Retraining: what is asked of the server, and what it says of a training.

import { watch } from "../jobs/watch.js";
import { channelOf } from "./choices.js";
import { isActive } from "./train_words.js";
import { given } from "./words.js";

const GONE = "This training is not there any more: it was deleted, or it is somebody else's.";

export class Train {
  #stop = null; // watching
  #shown = ""; // which layers were asked for

  constructor(space) {
    this.space = space;
  }

  get #path() {
    return `api/trainings/${encodeURIComponent(this.space.state.training.id)}`;
  }

  // ------------------------------------------------------------------ what could be trained

  // Whether the model can be retrained; asked when the step is opened.
  async check() {
    const { space } = this;
    const { model } = space.params;
    space.set({ trainCheck: null, trainError: "" });
    if (!model) return;
    const got = await space.newest("trainCheck", () =>
      space.api.post("api/trainings/checks", { model }),
    );
    if (!got || space.params.model !== model) return;
    space.set({ trainCheck: got.answer ?? null, trainError: got.error?.message ?? "" });
  }

  // What there is to learn from: of each open image what is painted on it, and label images.
  async look() {
    const { space } = this;
    const open = given(space.state.images);
    const labels = open.filter((one) => one.kind === "labels");
    const asked = open
      .filter((one) => one.kind !== "labels")
      .map(async (image) => {
        const path = `api/annotations?image=${encodeURIComponent(image.id)}`;
        return { image, choices: [...painted(await space.api.get(path)), ...files(image, labels)] };
      });
    const got = await space.newest("samples", () => Promise.allSettled(asked));
    if (got?.answer) {
      space.set({ samples: got.answer.filter((one) => one.value).map((one) => one.value) });
    }
  }

  async list() {
    const { space } = this;
    const got = await space.newest("trainings", () => space.api.get("api/trainings"));
    if (got?.answer) space.set({ trainings: got.answer.trainings });
  }

  // ------------------------------------------------------------------ one training

  // `asked`: {samples or folders, and choices}; `view`: what is seen, to be looked at meanwhile.
  async start(asked, view) {
    const { space } = this;
    const { model, image, channel } = space.params;
    const wish = { model, channel: channelOf(channel), ...asked };
    if (view && space.state.image) wish.seen = { image: space.state.image.id, view };
    space.set({ trainStarting: true, trainError: "" });
    const got = await space.newest("train", () => space.api.post("api/trainings", wish));
    space.set({ trainStarting: false });
    if (!got) return;
    if (got.error) {
      space.set({ trainError: got.error.message });
      return;
    }
    if (space.params.image !== image) return;
    space.forgetPreview();
    space.set({ training: got.answer, trainLayers: null, trainLost: false });
    space.choose({ training: got.answer.id });
    this.watch(got.answer.id);
  }

  load(id) {
    const { space } = this;
    if (id && space.state.training?.id === id) return; // just made
    this.#stop?.();
    this.#shown = "";
    space.set({ training: null, trainLayers: null, trainLost: false });
    if (id) this.watch(id);
  }

  watch(id) {
    this.#stop?.();
    const { space } = this;
    const path = `api/trainings/${encodeURIComponent(id)}`;
    this.#stop = watch(space.api, { path, event: "training", isActive }, (one) => this.take(one), {
      onLost: () => space.set({ trainLost: true }),
      onGone: () => {
        space.set({ training: null, trainLost: false, trainError: GONE });
        space.choose({ training: undefined });
      },
    });
  }

  take(training) {
    const { space } = this;
    if (space.params.training !== training.id) return;
    const before = space.state.training;
    space.set({ training, trainLost: false });
    if (!space.params.model) space.choose({ model: training.model });
    if (before && before.state !== training.state && !isActive(training)) {
      space.tools.announce(endWords(training));
    }
    this.#show(training);
  }

  // What the training says of the image that is seen: after the last epoch, or before and after.
  async #show(training) {
    const { space } = this;
    const done = training.after.length > 0;
    const layers = done
      ? [
          ...training.before.map((one) => ({ ...one, side: "left", name: `${one.name} before` })),
          ...training.after.map((one) => ({ ...one, name: `${one.name} after` })),
        ]
      : training.preview;
    const now = layers.map((one) => one.file).join();
    if (now === this.#shown) return;
    this.#shown = now;
    const path = `api/trainings/${encodeURIComponent(training.id)}/files`;
    const asked = layers.map(async (one) => {
      const file = `${path}/${encodeURIComponent(one.file)}/image`;
      return { ...one, learned: true, image: await space.api.post(file) };
    });
    const got = await space.newest("trainLayers", () => Promise.all(asked));
    if (!got || space.params.training !== training.id) return;
    if (got.error) this.#shown = ""; // a newer preview has taken its place: with the next event
    else space.set({ trainLayers: got.answer.length ? got.answer : null });
  }

  async ask(verb) {
    const { space } = this;
    const { id } = space.state.training;
    const got = await space.newest("trainVerb", () => space.api.post(`${this.#path}/${verb}`));
    if (!got || space.params.training !== id) return;
    space.set({ trainError: got.error?.message ?? "" });
    if (got.error) return;
    this.take(got.answer);
    if (verb === "resume") this.watch(id);
    if (verb === "keep" || verb === "undo") await this.#decided(verb, got.answer);
  }

  // Undone, the page goes back to the parent; a kept model can be chosen.
  async #decided(verb, training) {
    const { space } = this;
    const removed = "The new model was removed.";
    space.tools.announce(verb === "keep" ? `${training.kept} is in your zoo.` : removed);
    if (verb === "undo" && space.params.model !== training.model) {
      space.chooseKin(training.model);
    }
    await space.loadModels();
  }

  async remove() {
    const { space } = this;
    try {
      await space.api.remove(this.#path);
    } catch (error) {
      space.set({ trainError: error.message });
      return;
    }
    this.forget();
    this.list();
  }

  // Another one may be set up.
  forget() {
    this.#stop?.();
    this.#shown = "";
    this.space.set({ training: null, trainLayers: null, trainError: "" });
    this.space.choose({ training: undefined });
  }

  close() {
    this.#stop?.();
  }
}

// What is painted on an image, as choices of a sample.
function painted(annotations) {
  return annotations.flatMap((one) => {
    const { objects, pixels } = one.counts;
    if (one.annotation === "instances") {
      if (!objects) return [];
      const words = `${objects.toLocaleString("en")} corrected object${objects === 1 ? "" : "s"}`;
      return [{ key: `a:${one.id}`, words, asked: { annotation: one.id } }];
    }
    const count = Object.values(pixels ?? {}).reduce((sum, n) => sum + n, 0);
    if (!count) return [];
    const words = `scribbles (${count.toLocaleString("en")} pixels)`;
    return [{ key: `a:${one.id}`, words, asked: { annotation: one.id } }];
  });
}

// Label images that are open; that of the same name first.
function files(image, labels) {
  const like = (one) => one.name.startsWith(stem(image.name));
  const sorted = [...labels].sort((a, b) => like(b) - like(a));
  return sorted.map((one) => ({
    key: `l:${one.id}`,
    words: one.name,
    asked: { labels: one.id },
    alike: like(one),
  }));
}

const stem = (name) => name.replace(/(\.ome)?\.[^.]+$/, "");

function endWords(training) {
  if (training.state !== "done") return training.error || `The training is ${training.state}.`;
  return training.gate?.why ?? "The training is done.";
}
