// What is asked for, as it stands in the address, and which models fit. Nothing here draws.

export const FACETS = ["task", "modality", "structure", "dimensions", "license"];
const KEYS = ["q", ...FACETS, "where", "runs"];

const VALUES = {
  task: (model) => [model.task || "other"],
  modality: (model) => model.modality,
  structure: (model) => model.structure,
  dimensions: (model) => model.dimensions,
  license: (model) => [model.license],
  where: (model) => [model.origin === "collection" ? "collection" : "here"],
};

// How the list was left, for the way back to it.
export const last = { params: {} };

// The part of the address that is about filters.
export function wishes(params) {
  return Object.fromEntries(KEYS.filter((key) => params[key]).map((key) => [key, params[key]]));
}

export const anyWish = (params) => KEYS.some((key) => params[key]);

// As the server writes the words to search in: lower case, "-" and "_" are spaces.
export function plain(text) {
  return text
    .toLowerCase()
    .split(/[-_\s]+/)
    .filter(Boolean);
}

const names = new WeakMap(); // model -> its id and name, as searched

function called(model) {
  if (!names.has(model)) names.set(model, plain(`${model.id} ${model.name}`).join(" "));
  return names.get(model);
}

const CHOICES = [...FACETS, "where"];

// The models that fit, those first whose name or id has the words; and of each facet how many
// models each of its values would leave, all other wishes granted. One pass over all models.
export function fitting(models, wish) {
  const words = plain(wish.q ?? "");
  const found = [];
  const counts = Object.fromEntries(CHOICES.map((key) => [key, new Map()]));
  for (const model of models) {
    if (wish.runs && model.badge.state !== "runs") continue;
    if (!words.every((word) => model.search.includes(word))) continue;
    const against = CHOICES.filter((key) => wish[key] && !VALUES[key](model).includes(wish[key]));
    if (!against.length) found.push(model);
    if (against.length > 1) continue;
    for (const key of against.length ? against : CHOICES) {
      for (const value of VALUES[key](model)) {
        counts[key].set(value, (counts[key].get(value) ?? 0) + 1);
      }
    }
  }
  if (!words.length) return { found, counts };
  const [first, rest] = [[], []];
  for (const model of found) {
    const named = words.every((word) => called(model).includes(word));
    (named ? first : rest).push(model);
  }
  return { found: [...first, ...rest], counts };
}
