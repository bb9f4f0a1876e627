// The bar of filters: search as one types, one choice per facet, "runs here".

import { el, icon } from "../dom.js";
import { button } from "../parts.js";
import { FACETS } from "./filters.js";

const TITLES = {
  task: "Task",
  modality: "Kind of image",
  structure: "What to find",
  dimensions: "Dimensions",
  license: "Licence",
  where: "Where",
};
const PLACES = [
  { value: "here", label: "On this computer" },
  { value: "collection", label: "In the collection" },
];

// `onType(text)` for the search, `onChoose(key, value)` for everything else.
export function filterBar({ onType, onChoose, onClear }) {
  const search = el("input", {
    type: "search",
    class: "browse-input",
    placeholder: "Search: nuclei, 3D",
    "aria-label": "Search the models",
    autocomplete: "off",
    spellcheck: "false",
    on: { input: () => onType(search.value) },
  });
  const runs = el("input", {
    type: "checkbox",
    role: "switch",
    class: "browse-switch",
    on: { change: () => onChoose("runs", runs.checked ? "1" : "") },
  });
  const choices = new Map(
    [...FACETS, "where"].map((key) => {
      const select = el("select", {
        class: "zoo-field browse-select",
        "data-facet": key,
        "aria-label": TITLES[key],
        on: { change: () => onChoose(key, select.value) },
      });
      return [key, select];
    }),
  );
  const more = button("Filters", {
    class: "zoo-button browse-more",
    "aria-expanded": false,
    onClick: () => {
      const open = bar.classList.toggle("open");
      more.setAttribute("aria-expanded", String(open));
    },
  });
  const reset = button("Clear filters", { quiet: true, onClick: onClear });
  const bar = el(
    "div",
    { class: "browse-bar", role: "search" },
    el("label", { class: "browse-search" }, icon("search"), search),
    more,
    el("label", { class: "browse-runs" }, runs, el("span", {}, "Runs here")),
    el("div", { class: "browse-facets" }, ...choices.values(), reset),
  );

  function show(facets, counts, wish) {
    if (search.value !== (wish.q ?? "")) search.value = wish.q ?? "";
    runs.checked = Boolean(wish.runs);
    let chosen = 0;
    for (const [key, select] of choices) {
      const known = key === "where" ? PLACES : (facets[key] ?? []);
      fill(select, TITLES[key], known, counts[key], wish[key] ?? "");
      chosen += wish[key] ? 1 : 0;
    }
    reset.hidden = !chosen && !wish.runs && !wish.q;
    more.lastChild.textContent = chosen ? `Filters (${chosen})` : "Filters";
  }

  return { element: bar, show, focus: () => search.focus() };
}

// Options are written anew only where they change: a menu that is open stays as it is.
function fill(select, title, known, left, chosen) {
  const options = [{ value: "", text: title }];
  for (const { value, label } of known) {
    const count = left.get(value) ?? 0;
    if (count || value === chosen) options.push({ value, text: `${label} (${count})` });
  }
  if (chosen && !options.some(({ value }) => value === chosen)) {
    options.push({ value: chosen, text: `${chosen} (0)` }); // from an address
  }
  const written = JSON.stringify(options);
  if (select.dataset.written !== written) {
    select.replaceChildren(...options.map(({ value, text }) => el("option", { value }, text)));
    select.dataset.written = written;
  }
  select.value = chosen;
  select.classList.toggle("chosen", Boolean(chosen));
}
