// What the workspace knows, and how it learns it: from the address to the server's answers.
//
// `params` is what was chosen and stands in the address. `state` is what the server said to it.
// Every change goes through `choose` (params) or `set` (state); the steps then show what is there.

import { isActive } from "../jobs/words.js";
import { watchJob } from "../jobs/watch.js";
import { AnnotationHandle } from "./annotation.js";
import { channelParam, firstImage, imagesParam, request, scaleParam } from "./choices.js";

const GONE =
  "This image is not open any more: images are forgotten after a while, and when the server is " +
  "started again. Open it again: what you painted on it is kept.";

const NOTHING = {
  me: null, // GET api/me
  models: null, // all models, for suggestions
  images: [], // open in this session
  opening: null, // {words, fraction, stop} while an image is on its way
  openError: "",
  image: null, // description of the image that is looked at
  model: null,
  modelError: "",
  checking: false,
  check: null,
  checkError: "",
  previewing: null, // {stop}
  preview: null,
  previewError: "",
  job: null,
  jobError: "",
  lost: false, // the server does not answer while a job is watched
  starting: false,
  layers: [], // of the job's result, opened as images
  away: null, // a job that goes on while one looks at something else
  annotations: null, // of this image, as the server describes them; null: not known yet
  annotation: null, // the one that is painted
  annotating: false, // it is being begun or imported
  annotationError: "",
  annotationNotes: [],
  unsaved: { count: 0, message: "" }, // strokes that the server does not have yet
  live: null, // the live session, as the server describes it
  liveBusy: "", // what it is waited for
  liveError: "",
  refitting: false,
  trainCheck: null, // whether the model can be retrained, and how
  samples: null, // [{image, choices}]: what can be learned from
  trainings: null, // of this session
  training: null,
  trainLayers: null, // what it says of the image: after a round, or before and after
  trainError: "",
  trainStarting: false,
  trainLost: false,
};

export class Space {
  state = { ...NOTHING };
  ended = false;
  asked = {}; // name -> number of the newest question; older answers are dropped
  listeners = new Set();
  takers = new Set(); // called with new params and `other(name)`: whether one is another now
  annotation = new AnnotationHandle(); // for steps that learn from what is painted

  constructor(tools) {
    this.tools = tools;
    this.api = tools.api;
    this.params = {};
  }

  // ------------------------------------------------------------------ change

  set(patch) {
    if (this.ended) return;
    Object.assign(this.state, patch);
    if (this.drawing) return;
    this.drawing = true;
    queueMicrotask(() => {
      this.drawing = false;
      if (!this.ended) for (const listener of this.listeners) listener(this.state, this.params);
    });
  }

  // New choices: into the address, and to the server.
  choose(patch) {
    const params = { ...this.params, ...patch };
    const other = (name) => name in patch && patch[name] !== this.params[name];
    if ((other("model") || other("image")) && !("job" in patch)) {
      if (this.state.job && isActive(this.state.job)) this.set({ away: this.state.job });
      delete params.job;
    }
    const forget = (...names) => names.forEach((name) => name in patch || delete params[name]);
    if (other("model") && this.params.model) forget("channel", "scale");
    if (other("image") && this.params.image) forget("channel", "correct");
    if (["model", "image", "channel", "scale"].some(other)) forget("live");
    this.tools.replace(params);
    this.take(params);
  }

  // A model that was made of the chosen one, or that it was made of: it sees the image alike.
  chooseKin(model) {
    const { channel, scale } = this.params;
    this.choose({ model, channel, scale });
  }

  // The address as it is now: asks the server for all that is new in it.
  take(params) {
    const before = this.params;
    const other = (name) => params[name] !== before[name];
    this.params = { ...params };
    const image = firstImage(params.image) !== firstImage(before.image);
    if (image) this.loadImage(firstImage(params.image));
    if (other("model")) this.loadModel(params.model);
    if (other("job")) this.loadJob(params.job);
    if (image || ["model", "channel", "scale"].some(other)) this.forgetPreview();
    if (["model", "image", "channel", "scale"].some(other)) this.check();
    for (const taker of this.takers) taker(params, other);
    this.set({});
  }

  // Asks; null where a newer question of this name was asked meanwhile, or the view was left.
  async newest(name, ask) {
    const mine = (this.asked[name] = (this.asked[name] ?? 0) + 1);
    const current = () => !this.ended && this.asked[name] === mine;
    try {
      const answer = await ask();
      return current() ? { answer } : null;
    } catch (error) {
      if (!current() || error.name === "AbortError") return null;
      if (error.status === 404 && name !== "doubt") this.doubt(); // it may be the image that is gone
      return { error };
    }
  }

  // ------------------------------------------------------------------ learn

  async start(params) {
    this.api.get("api/me").then(
      (me) => this.set({ me }),
      () => this.set({ me: {} }),
    );
    this.loadModels();
    this.listImages();
    this.take(params);
  }

  async loadModels() {
    const got = await this.newest("models", () => this.api.get("api/models"));
    if (got) this.set({ models: got.answer?.models ?? [] });
  }

  async listImages() {
    const got = await this.newest("images", () => this.api.get("api/images"));
    if (got?.answer) this.set({ images: got.answer });
  }

  async loadImage(id) {
    if (this.state.image?.id === id) return;
    if (!id) {
      this.asked.image = (this.asked.image ?? 0) + 1;
      this.set({ image: null });
      return;
    }
    this.set({ openError: "" });
    const path = `api/images/${encodeURIComponent(id)}`;
    const got = await this.newest("image", () => this.api.get(path));
    if (!got) return;
    if (got.answer) this.set({ image: got.answer });
    else if (this.params.job && got.error.status === 404) this.reopen(this.params.job);
    else this.set({ image: null, openError: this.gone(got.error) });
  }

  gone(error) {
    if (error.status !== 404) return error.message;
    return GONE;
  }

  // Something is not there any more: the server may have been started again, without the image.
  async doubt() {
    const { image } = this.state;
    if (!image) return;
    const path = `api/images/${encodeURIComponent(image.id)}`;
    const got = await this.newest("doubt", () => this.api.get(path));
    if (got?.error?.status !== 404 || this.state.image?.id !== image.id) return;
    this.listImages();
    if (this.params.job) this.reopen(this.params.job);
    else this.set({ image: null, openError: GONE });
  }

  async loadModel(id) {
    this.set({ model: null, modelError: "" });
    if (!id) return;
    const path = `api/models/${encodeURIComponent(id)}`;
    const got = await this.newest("model", () => this.api.get(path));
    if (!got || this.params.model !== id) return;
    this.set({ model: got.answer ?? null, modelError: got.error?.message ?? "" });
    if (got.answer?.inputs?.length > 1) this.check(); // which image is which is known only now
  }

  async check() {
    const asked = request(this.params, this.state.model?.inputs);
    if (!asked) {
      this.asked.check = (this.asked.check ?? 0) + 1;
      this.set({ check: null, checking: false, checkError: "" });
      return;
    }
    this.set({ checking: true });
    const got = await this.newest("check", () => this.api.post("api/checks", asked));
    if (!got) return;
    this.set({ checking: false, check: got.answer ?? null, checkError: got.error?.message ?? "" });
    if (got.answer) this.tools.announce(got.answer.verdict.text);
  }

  forgetPreview() {
    this.state.previewing?.stop();
    this.set({ preview: null, previewError: "", previewing: null });
  }

  // ------------------------------------------------------------------ jobs

  loadJob(id) {
    if (id && this.state.job?.id === id) return; // just made
    this.stopWatching?.();
    this.set({ job: null, jobError: "", layers: [], lost: false });
    if (id) this.watch(id);
  }

  watch(id) {
    this.stopWatching?.();
    this.stopWatching = watchJob(this.api, id, {
      onJob: (job) => this.takeJob(job),
      onLost: () => this.set({ lost: true }),
      onGone: () => {
        const words = "This run is not there any more: it was deleted, or it is somebody else's.";
        this.set({ job: null, lost: false, jobError: words });
      },
    });
  }

  takeJob(job) {
    const before = this.state.job;
    if (this.params.job !== job.id) return;
    this.set({ job, lost: false, jobError: "" });
    if (!this.params.model) this.adopt(job);
    else if (!this.params.image) this.reopen(job.id);
    if (before && before.state !== job.state && !isActive(job)) this.tools.announce(ended(job));
    if (job.state === "done" && !this.state.layers.length) this.openResult(job);
  }

  // The address named the job alone: what it ran with is taken from it.
  adopt(job) {
    const { channel, scale } = job.choices;
    this.choose({
      job: job.id,
      model: job.model,
      image: job.images ? imagesParam(idsOf(job.images)) : (job.image.id ?? undefined),
      channel: channelParam(channel),
      scale: typeof scale === "object" ? undefined : scaleParam(scale), // by axis: not from here
    });
    if (!job.image.id) this.reopen(job.id);
  }

  // The image went with an earlier server; the job has kept it.
  async reopen(id) {
    const path = `api/jobs/${encodeURIComponent(id)}/image`;
    const got = await this.newest("image", () => this.api.post(path));
    if (!got || this.params.job !== id) return;
    if (got.error) {
      this.set({ image: null, openError: this.gone(got.error) });
      return;
    }
    const { images, ...first } = got.answer;
    this.set({ image: first, openError: "" });
    const image = images ? imagesParam(idsOf(images)) : first.id;
    this.choose({ image, channel: this.params.channel, job: id });
    this.listImages();
  }

  // Each layer of the result as an image; one that does not open leaves the others.
  async openResult(job) {
    const asked = (job.layers ?? []).map(async (layer) => {
      const name = encodeURIComponent(layer.file);
      const path = `api/jobs/${encodeURIComponent(job.id)}/files/${name}/image`;
      return { ...layer, image: await this.api.post(path) };
    });
    const got = await this.newest("layers", () => Promise.allSettled(asked));
    if (!got || this.params.job !== job.id) return;
    const layers = got.answer.filter((one) => one.value).map((one) => one.value);
    const failed = got.answer.find((one) => one.reason)?.reason;
    this.forgetPreview();
    this.set({
      layers,
      jobError: failed ? `A part of the result cannot be shown: ${failed.message}` : "",
    });
  }

  close() {
    this.ended = true;
    this.stopWatching?.();
    this.state.opening?.stop?.();
    this.state.previewing?.stop();
  }
}

const idsOf = (images) =>
  Object.fromEntries(Object.entries(images).map(([tensor, one]) => [tensor, one.id]));

function ended(job) {
  if (job.state === "done") return "The run is done.";
  return job.error || `The run is ${job.state}.`;
}
