// The choices as they stand in the address, and as the server is asked. Pure functions.

import { decoded } from "../router.js";

// "2,DAPI" -> [2, "DAPI"], "0" -> 0, "" -> undefined, '{"raw":0}' -> {raw: 0}
export function channelOf(param) {
  if (param === undefined || param === "") return undefined;
  if (param.startsWith("{")) {
    try {
      return JSON.parse(param);
    } catch {
      return undefined;
    }
  }
  const parts = param.split(",").map((one) => {
    const name = decoded(one);
    return /^\d+$/.test(name) ? Number(name) : name;
  });
  return parts.length === 1 ? parts[0] : parts;
}

export function channelParam(channel) {
  if (channel === null || channel === undefined) return undefined;
  if (typeof channel === "object" && !Array.isArray(channel)) return JSON.stringify(channel);
  // A name may hold the comma that parts them.
  return [channel]
    .flat()
    .map((one) => encodeURIComponent(one))
    .join(",");
}

export function scaleOf(param) {
  if (param === undefined || param === "") return undefined;
  return param === "auto" ? "auto" : Number(param);
}

export function scaleParam(scale) {
  return scale === null || scale === undefined ? undefined : String(scale);
}

// The image of an address: "ID", or "raw:ID,mask:ID" for a model of several images.
export function imagesOf(param = "") {
  if (!param.includes(":")) return param ? { "": param } : {};
  return Object.fromEntries(param.split(",").map((one) => one.split(":").map(decoded)));
}

export function imagesParam(images) {
  const given = Object.entries(images).filter(([, id]) => id);
  if (given.length === 1 && given[0][0] === "") return given[0][1];
  return given.map((pair) => pair.map(encodeURIComponent).join(":")).join(",") || undefined;
}

// The image that is looked at: of several the first.
export const firstImage = (param) => Object.values(imagesOf(param))[0];

// Each input of the model with the id of its image; one that was opened before goes to the first.
export function assigned(param, inputs = []) {
  const images = imagesOf(param);
  if (inputs.length < 2) return { "": Object.values(images)[0] };
  const [first, ...rest] = inputs.map(({ id }) => id);
  return Object.fromEntries([
    [first, images[first] ?? images[""]],
    ...rest.map((id) => [id, images[id]]),
  ]);
}

// What the routes of checks, previews and jobs are asked; null while something is missing.
export function request({ model, image, channel, scale }, inputs) {
  const images = assigned(image, inputs);
  if (!model || Object.values(images).some((id) => !id)) return null;
  const asked = { model, image: "" in images ? images[""] : images };
  const [one, factor] = [channelOf(channel), scaleOf(scale)];
  if (one !== undefined) asked.channel = one;
  if (factor !== undefined) asked.scale = factor;
  return asked;
}
