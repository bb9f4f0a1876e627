// What one can do here, in one sentence and one button.

import { el } from "../dom.js";
import { link } from "../parts.js";
import { address } from "../router.js";

export function hero(models) {
  const first = models.find((model) => model.sample);
  const actions = [
    first
      ? link("Try it on a sample image", address("run", { model: first.id, sample: 1 }), {
          primary: true,
          icon: "play",
        })
      : null,
    link("or open your own image", address("run"), { quiet: true }),
  ];
  return el(
    "header",
    { class: "browse-hero" },
    el(
      "h1",
      {},
      "Find, count and outline what is in your microscopy images, with models that run right here.",
    ),
    el("p", {}, "Nothing is sent anywhere else: images and results stay on the computer that biozoo runs on."),
    el("div", { class: "zoo-actions" }, ...actions),
  );
}

// Someone chooses a model for an image that is open already.
export function choosing(image) {
  return el(
    "header",
    { class: "browse-choosing" },
    el("h1", {}, "Choose a model for your image"),
    el(
      "p",
      {},
      "A model that is on this computer and runs here is opened with your image. ",
      el("a", { href: address("run", { image }) }, "Back to the image"),
    ),
  );
}
