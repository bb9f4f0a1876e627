// Step 5: what came out: how many objects, files to take away, and the same by other means.

import { button, copyable, link, notice, seconds } from "../parts.js";
import { el, icon } from "../dom.js";
import { address } from "../router.js";
import { choiceWords, objectWords, took } from "../jobs/words.js";
import { folded, step } from "./step.js";

// `again()`: brings the reader to the choices.
export function resultStep(space, again) {
  const here = step(5, "Result");
  const sync = ({ job, layers, preview }, params) => {
    const done = job?.state === "done";
    here.element.hidden = !done;
    if (!done) return;
    here.state("done");
    here.draw([job, layers, params, preview], () => [
      head(job),
      preview
        ? notice("note", "The preview is shown instead. Hide it to see this result.")
        : looking(layers),
      downloads(space.api, job),
      el(
        "div",
        { class: "zoo-actions" },
        button("Run again with other choices", {
          icon: "again",
          onClick: again,
          "data-key": "again",
        }),
        link("Compare models here", compareHref(params), {
          icon: "compare",
          "data-key": "compare",
        }),
      ),
      commands(job),
      job.report?.text
        ? folded(
            "report",
            "Report of the run",
            el("pre", { class: "work-report" }, job.report.text),
          )
        : null,
    ]);
  };
  return { element: here.element, number: here.number, sync };
}

function head(job) {
  const { objects } = job;
  const counted = typeof objects === "number";
  const words = counted ? objectWords(objects) : "The result is here";
  const time = took(job);
  const facts = [
    `${job.model} on ${job.image.name}`,
    choiceWords(job.choices),
    time === null ? "" : seconds(time),
  ].filter(Boolean);
  const none =
    "Nothing was found. Another channel or scale may fit better, or another model: compare them.";
  return el(
    "div",
    { class: "work-result", "data-objects": counted ? objects : "" },
    el("p", { class: "work-count" }, words),
    el("p", { class: "work-soft" }, facts.join(", ")),
    counted && objects === 0 ? notice("note", none) : null,
  );
}

function looking(layers) {
  if (!layers.length) return null;
  if (matchMedia("(pointer: coarse)").matches) {
    const words = "Keep a finger on the eye above the image to see it without what was found.";
    return el("p", { class: "work-soft" }, words);
  }
  const key = (letter) => el("kbd", {}, letter);
  return el(
    "p",
    { class: "work-soft" },
    "In the image, hold ",
    key("h"),
    " to see it alone; ",
    key("w"),
    " draws a line between before and after.",
  );
}

function downloads(api, job) {
  const rows = job.files.map((file) => {
    const formats = file.formats ?? [{ label: "Download", url: file.url, name: file.name }];
    const links = formats.map((one) =>
      el("a", { href: api.url(one.url), download: one.name, "data-key": one.url }, one.label),
    );
    return el(
      "li",
      { "data-file": file.name },
      el("span", { class: "work-file-name" }, file.label || file.name),
      el("span", { class: "work-formats" }, ...links),
    );
  });
  if (!rows.length) return null;
  const all = api.url(`api/jobs/${encodeURIComponent(job.id)}/all.zip`);
  return el(
    "div",
    { class: "work-downloads" },
    el("h3", {}, icon("download"), "Download"),
    el("ul", {}, ...rows),
    el("a", { href: all, download: "", "data-key": "zip" }, "All of it in one zip file"),
  );
}

function commands(job) {
  const { shell, python } = job.commands ?? {};
  return el(
    "div",
    { class: "work-commands" },
    shell ? folded("shell", "The same on the command line", copyable(shell)) : null,
    python ? folded("python", "The same in Python", copyable(python)) : null,
  );
}

function compareHref({ image, model, scale, channel }) {
  const models = encodeURIComponent(model);
  return address("compare", { image, models, scales: scale, channel, add: 1 });
}
