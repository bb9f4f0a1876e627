// One model as a card. The whole card is a link; the reason of its badge is shown on hover of the
// badge and when the card has the focus.

import { url } from "../api.js";
import { el, icon } from "../dom.js";
import { badge } from "../parts.js";
import { address } from "../router.js";

const ORIGINS = { "built-in": "Built in", installed: "In my zoo", collection: "Collection" };
let cards = 0;

// `image`: a card of a model that runs leads on with this image.
export function modelCard(model, image) {
  const id = `browse-why-${++cards}`;
  const here = model.origin !== "collection" && model.badge.state === "runs";
  const href =
    image && here
      ? address("run", { model: model.id, image })
      : address("model", { id: model.id, image });
  const facts = [model.task_label, model.takes, model.size_text, model.license];
  return el(
    "li",
    { class: "browse-card", "data-id": model.id },
    picture(model),
    el(
      "div",
      { class: "browse-words" },
      el("h3", {}, el("a", { class: "browse-link", href, "aria-describedby": id }, model.name)),
      el("p", { class: "browse-line" }, model.description),
      el("p", { class: "browse-facts" }, facts.filter(Boolean).join(" · ")),
      el(
        "p",
        { class: "browse-foot" },
        badge(model.badge.state, model.badge.words),
        el("span", { class: "browse-origin" }, ORIGINS[model.origin]),
      ),
    ),
    el("p", { class: "browse-why", id, role: "tooltip" }, model.badge.why),
  );
}

function picture(model) {
  const none = el("span", { class: "browse-cover none" }, icon("image"));
  if (!model.cover) return none;
  const image = el("img", {
    class: "browse-cover",
    src: url(model.cover),
    alt: "",
    loading: "lazy",
    decoding: "async",
    width: "320",
    height: "160",
    on: { error: () => image.replaceWith(none) },
  });
  return image;
}
