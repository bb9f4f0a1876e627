// What a person does in the workspace: opens an image, corrects it, previews, runs, stops.

import { bytes } from "../parts.js";
import { imagesParam, request } from "./choices.js";

const STOPPED = "AbortError";

// ------------------------------------------------------------------ images

export async function openFile(space, file) {
  const most = space.state.me?.max_upload;
  if (most && file.size > most) {
    const words = `'${file.name}' has ${bytes(file.size)}, and this server takes files of up to `;
    const todo = space.state.me.image_folders
      ? " Open it by its path instead."
      : " Crop it, or save it compressed.";
    space.set({ openError: `${words}${bytes(most)}.${todo}` });
    return;
  }
  const ending = new AbortController();
  const opening = { words: `Sends ${file.name}`, fraction: 0, stop: () => ending.abort() };
  await opened(space, opening, () =>
    space.api.upload(file, {
      signal: ending.signal,
      onProgress: (fraction) => {
        const words = fraction < 1 ? opening.words : `Reads ${file.name}`;
        if (space.openingNow === opening) space.set({ opening: { ...opening, words, fraction } });
      },
    }),
  );
}

export const openPath = (space, path) =>
  opened(space, waiting("Opens the file"), () => space.api.post("api/images/paths", { path }));

export const openSample = (space, kind) =>
  opened(space, waiting("Makes the sample"), () => space.api.post("api/images/samples", { kind }));

// The model's own sample; may be one image per input. Returns whether it is there.
export async function openOwnSample(space, model) {
  const path = `api/models/${encodeURIComponent(model)}/sample`;
  const opening = waiting("Opens the sample");
  return opened(space, opening, async () => {
    const { images } = await space.api.post(path);
    const [first] = Object.values(images);
    const many = Object.keys(images).length > 1;
    const ids = Object.entries(images).map(([tensor, one]) => [tensor, one.id]);
    return { ...first, all: many ? Object.fromEntries(ids) : null };
  });
}

const waiting = (words) => ({ words, fraction: null, stop: null });

async function opened(space, opening, ask) {
  space.state.opening?.stop?.();
  space.openingNow = opening;
  space.set({ opening, openError: "" });
  const current = () => !space.ended && space.openingNow === opening;
  try {
    const { all, ...image } = await ask();
    if (!current()) return false;
    space.set({ opening: null, image });
    space.choose({ image: all ? imagesParam(all) : image.id, sample: undefined });
    space.listImages();
    space.tools.announce(`${image.name} is open.`);
    return true;
  } catch (error) {
    const openError = error.name === STOPPED ? "" : error.message;
    if (current()) space.set({ opening: null, openError });
    return false;
  }
}

// Returns what the server refused, else nothing.
export async function correct(space, correction) {
  const { id } = space.state.image;
  const path = `api/images/${encodeURIComponent(id)}/axes`;
  try {
    const image = await space.api.post(path, correction);
    if (space.state.image?.id !== id) return "";
    space.set({ image });
    space.forgetPreview();
    if ("scene" in correction) space.choose({ channel: undefined }); // it has its own
    space.check();
    space.tools.announce("The image is corrected.");
    return "";
  } catch (error) {
    return error.message;
  }
}

// ------------------------------------------------------------------ runs

export async function preview(space, view) {
  const asked = request(space.params, space.state.model?.inputs);
  if (!asked) return;
  space.state.previewing?.stop();
  const ending = new AbortController();
  space.set({ previewing: { stop: () => ending.abort() }, previewError: "" });
  const options = { signal: ending.signal };
  const got = await space.newest("preview", () =>
    space.api.post("api/previews", { ...asked, view }, options),
  );
  if (!got) return;
  if (got.error?.status === 409)
    space.set({ previewing: null }); // a newer one, in another tab
  else if (got.error) space.set({ previewing: null, previewError: got.error.message });
  else {
    space.set({ previewing: null, preview: got.answer });
    space.tools.announce("The preview is there.");
  }
}

export function stopPreview(space) {
  space.state.previewing?.stop();
  space.set({ previewing: null });
}

export async function run(space) {
  const asked = request(space.params, space.state.model?.inputs);
  if (!asked || space.state.starting) return;
  space.set({ starting: true, jobError: "" });
  const got = await space.newest("run", () => space.api.post("api/jobs", asked));
  space.set({ starting: false });
  if (!got) return;
  if (got.error) {
    space.set({ jobError: got.error.message });
    return;
  }
  const job = got.answer;
  space.set({ job, layers: [], away: null, lost: false });
  space.choose({ job: job.id, sample: undefined });
  space.watch(job.id);
}

export const cancel = (space) => told(space, "cancel");
export const resume = (space) => told(space, "resume");

async function told(space, verb) {
  const { id } = space.state.job;
  const path = `api/jobs/${encodeURIComponent(id)}/${verb}`;
  const got = await space.newest("told", () => space.api.post(path));
  if (!got || space.params.job !== id) return;
  if (got.error) {
    space.set({ jobError: got.error.message });
    return;
  }
  space.set({ layers: [] });
  space.takeJob(got.answer);
  if (verb === "resume") space.watch(id);
}
