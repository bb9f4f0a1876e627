// What the rows of runs and of trainings have in common: their frame, of which only what changed is
// drawn anew.

import { progress } from "../parts.js";
import { el } from "../dom.js";
import { drawn } from "../workspace/drawn.js";

export class ListRow {
  refused = "";

  constructor(list) {
    this.list = list;
    this.element = el("li", { class: "jobs-row", "data-home": "" });
    this.head = el("div", { class: "jobs-what" });
    this.body = el("div", { class: "jobs-more" });
    this.actions = el("div", { class: "zoo-actions jobs-actions" });
    this.element.append(this.head, this.actions, this.body);
    this.draw = { head: drawn(this.head), body: drawn(this.body), actions: drawn(this.actions) };
    this.bar = progress();
  }
}
