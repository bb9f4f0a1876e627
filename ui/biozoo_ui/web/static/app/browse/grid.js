// The cards, as many as were scrolled to: the next ones are made when the end comes near.

import { el } from "../dom.js";

const SLICE = 24;
const NEAR = "900px";

export function grid(make) {
  const list = el("ul", { class: "browse-grid" });
  const end = el("div", { class: "browse-end", "aria-hidden": true });
  const made = new Map(); // model -> its card
  let models = [];
  let shown = 0;

  const card = (model) => {
    if (!made.has(model)) made.set(model, make(model));
    return made.get(model);
  };
  const grow = () => {
    const next = models.slice(shown, shown + SLICE);
    shown += next.length;
    list.append(...next.map(card));
    // What is still near after growing does not cross the line again: look anew.
    watch.unobserve(end);
    if (shown < models.length) watch.observe(end);
  };
  const watch = new IntersectionObserver(
    (seen) => seen.some((one) => one.isIntersecting) && grow(),
    { rootMargin: NEAR },
  );

  return {
    element: el("div", {}, list, end),
    // `least`: at least so many at once, where a reader comes back to a place further down.
    show(found, least = 0) {
      models = found;
      shown = Math.min(Math.max(SLICE, least), found.length);
      list.replaceChildren(...found.slice(0, shown).map(card));
      watch.unobserve(end);
      if (shown < found.length) watch.observe(end);
    },
    forget: () => made.clear(),
    count: () => shown,
    close: () => watch.disconnect(),
  };
}
