// Step 6: corrections painted on the image, as scribbles or as objects.
//
// For other steps (live, retrain): `space.annotation` tells what is painted. See annotation.js:
//
//   space.annotation.current()  -> {id, kind: "classes" | "instances", version, image} or null
//   space.annotation.on("edited", ({id, kind, version, image}) => ...)  after each saved stroke
//   space.annotation.on("opened", (current or null) => ...)             another one, or none
//
// `space.state.annotation` is its whole description as the server answers it (docs/http.md), and
// `space.choose({ correct: "classes" })` opens the one of this kind, where there is one.

import { button, confirmed, notice, when } from "../parts.js";
import { el, icon, loadStyle } from "../dom.js";
import { objectWords } from "../jobs/words.js";
import { classList } from "./correct_classes.js";
import { atFirst, begin, choose, discard, edited, end, importFile, recall } from "./correcting.js";
import { told } from "../../viewer/edit/tools.js";
import { folded, step } from "./step.js";

const FORMATS = [
  ["tiff", "Label TIFF"],
  ["zarr", "OME-Zarr (zip)"],
  ["rois", "ImageJ ROIs"],
  ["geojson", "QuPath GeoJSON"],
];
const TAKEN = ".tif,.tiff,.png,.zip,.roi,.geojson,.json,.npy";

// `scene`: the viewer's stage.
export function correctStep(space, scene) {
  loadStyle(import.meta.url, "./correct.css");
  const here = step(6, "Correct");
  const parts = ["top", "tool", "classes", "saved", "more"].map((name) => [
    name,
    el("div", { class: "work-part", "data-part": name }),
  ]);
  const draw = Object.fromEntries(parts.map(([name, holder]) => [name, here.part(holder)]));
  here.body.append(...parts.map(([, holder]) => holder));
  const painting = { tool: "brush", value: null, over: false };

  scene.on("edited", (answer) => edited(space, answer));
  scene.on("refused", ({ message }) => space.set({ annotationError: message }));
  scene.on("unsaved", (unsaved) => space.set({ unsaved }));
  scene.on("tool", ({ tool, value }) => {
    Object.assign(painting, { tool, value });
    space.set({});
  });
  const paint = (patch) => {
    Object.assign(painting, patch);
    scene.viewer()?.edit(patch);
    space.set({});
  };

  let image = "";
  let kind = "";
  let shown = "";
  const sync = (state, params) => {
    const { annotation, annotations, annotating, annotationError, annotationNotes } = state;
    const key = state.image ? `${state.image.id} ${state.image.v}` : "";
    if (key !== image) {
      image = key;
      recall(space);
    } else if (params.correct !== kind) choose(space);
    kind = params.correct;
    const painted = annotation?.id ?? "";
    if (painted !== shown) {
      shown = painted;
      if (annotation) Object.assign(painting, atFirst(annotation));
    }
    here.element.hidden = !state.image;
    if (!state.image) {
      for (const part of Object.values(draw)) part([], () => []);
      return;
    }
    here.state("now");
    const objects = objectLayer(state);
    const ways = [annotation, annotations, annotating, objects, annotationError];
    draw.top([...ways.slice(1), annotation?.id, annotationNotes], () => [
      ...(annotation
        ? [switcher(space, annotation, annotations, objects)]
        : offers(space, annotations, objects, annotating)),
      annotationError ? notice("no", annotationError) : null,
      ...annotationNotes.map(([status, words]) => notice(status, words)),
    ]);
    const { tool, value, over } = painting;
    draw.classes([annotation?.id, annotation?.classes, annotation?.counts, value, over], () => {
      if (!annotation) return [];
      if (annotation.annotation === "classes") return [classList(space, annotation, value, paint)];
      return [objectChoices(value, over, paint)];
    });
    draw.tool([annotation?.id, tool], () =>
      annotation ? [toolWords(tool, annotation.annotation)] : [],
    );
    const { unsaved } = state;
    draw.saved([annotation?.id, annotation?.counts, unsaved], () =>
      annotation ? [saved(annotation, unsaved)] : [],
    );
    const some = Boolean(annotation) && anything(annotation);
    draw.more([annotation?.id, objects, annotating, some], () => {
      if (!annotation) return [];
      const ways = more(space, scene, annotation, objects);
      return some ? [exported(space, annotation), ...ways] : ways;
    });
  };
  return { element: here.element, number: here.number, sync };
}

// The result that objects can be corrected on, a preview first.
export function objectLayer({ preview, layers }) {
  return (preview?.layers ?? layers).find((layer) => layer.kind === "labels") ?? null;
}

// ------------------------------------------------------------------ to begin

function offers(space, annotations, objects, annotating) {
  const of = (kind) => annotations?.find((one) => one.annotation === kind);
  const start = objects ? { start: objects } : {};
  const instances = of("instances")
    ? ["Go on with the objects", painted(of("instances"))]
    : objects
      ? ["Correct the objects", "Begins with the result: split, merge, add, delete, paint"]
      : ["Draw objects", "One by one, complete over a part of the image"];
  const classes = of("classes")
    ? ["Go on with the scribbles", painted(of("classes"))]
    : ["Scribble", "A few strokes on background and on objects, where the result is wrong"];
  const disabled = annotating || annotations === null;
  return [
    el(
      "p",
      { class: "work-soft" },
      "Show the model what is right by painting on the image. All of it is saved as you paint.",
    ),
    offer("classes", ...classes, disabled, () => begin(space, "classes")),
    offer("instances", ...instances, disabled, () =>
      begin(space, "instances", of("instances") ? {} : start),
    ),
  ];
}

function offer(kind, words, about, disabled, onClick) {
  return el(
    "button",
    {
      type: "button",
      class: "work-sample correct-offer",
      "data-key": `correct-${kind}`,
      "data-correct": kind,
      disabled,
      on: { click: onClick },
    },
    el("b", {}, words),
    el("span", {}, about),
  );
}

// "12 objects, today 14:03"
function painted({ counts, classes, edited: at }) {
  return `${countWords({ counts, classes })}, ${when(at)}`;
}

function countWords({ counts, classes }) {
  if (counts.objects !== null) return objectWords(counts.objects);
  const found = classes.filter((one) => counts.pixels[one.value]);
  if (!found.length) return "nothing painted yet";
  const pixels = Object.values(counts.pixels).reduce((sum, one) => sum + one, 0);
  const many = found.length === 1 ? "1 class" : `${found.length} classes`;
  return `${pixels.toLocaleString("en")} pixels of ${many}`;
}

const anything = ({ counts }) => Boolean(counts.objects ?? Object.keys(counts.pixels).length);

// ------------------------------------------------------------------ while painting

function switcher(space, annotation, annotations, objects) {
  const one = (kind, words) => {
    const known = annotations?.some((other) => other.annotation === kind);
    const start = kind === "instances" && objects && !known ? { start: objects } : {};
    return el(
      "button",
      {
        type: "button",
        "data-key": `switch-${kind}`,
        "aria-pressed": annotation.annotation === kind,
        on: { click: () => begin(space, kind, start) },
      },
      words,
    );
  };
  return el(
    "div",
    { class: "correct-switch", "data-painting": annotation.annotation },
    el(
      "div",
      { class: "correct-kinds", role: "group", "aria-label": "What is painted" },
      one("classes", "Scribbles"),
      one("instances", "Objects"),
    ),
    button("Done", { quiet: true, icon: "yes", onClick: () => end(space), "data-key": "done" }),
  );
}

// Which tool is in hand and what to do with it: its button has a picture only.
function toolWords(tool, kind) {
  const [name, how] = told(tool, kind);
  return el(
    "p",
    { class: "correct-tool", "data-tool-told": tool },
    el("b", {}, name),
    el("span", {}, ` ${how}`),
  );
}

function objectChoices(value, over, paint) {
  const keep = el("input", {
    type: "checkbox",
    checked: !over,
    "data-key": "keep",
    on: { change: () => paint({ over: !keep.checked }) },
  });
  const any = button("Any object", {
    quiet: true,
    "data-key": "any",
    onClick: () => paint({ value: null }),
  });
  const picked = el("p", { class: "work-soft", "data-value": value ?? "" });
  picked.hidden = value === null;
  picked.append(`Paints object ${value} only. `, any);
  return el(
    "div",
    { class: "correct-objects" },
    picked,
    el("label", { class: "correct-check" }, keep, el("span", {}, "Never paint over other objects")),
  );
}

function saved(annotation, { count, message }) {
  const words = message
    ? `Not saved yet: ${message} It is tried again.`
    : count
      ? "Saving..."
      : "All saved";
  return el(
    "p",
    {
      class: "correct-saved",
      role: "status",
      "data-unsaved": count,
      "data-version": annotation.version,
    },
    message || count ? icon("again") : icon("yes"),
    el("span", { "data-count": annotation.counts.objects ?? "" }, countWords(annotation)),
    el("span", {}, words),
  );
}

function exported(space, annotation) {
  const id = encodeURIComponent(annotation.id);
  return el(
    "div",
    { class: "correct-export" },
    el("h3", {}, icon("download"), "Export"),
    el(
      "div",
      { class: "work-formats" },
      ...FORMATS.map(([format, words]) =>
        el(
          "a",
          {
            href: space.api.url(`api/annotations/${id}/files/${format}`),
            download: "",
            "data-key": `export-${format}`,
          },
          words,
        ),
      ),
    ),
  );
}

function more(space, scene, annotation, objects) {
  const kind = annotation.annotation;
  const again = (words, start, key) =>
    button(words, {
      icon: "again",
      quiet: true,
      "data-key": key,
      onClick: () => begin(space, kind, { start, again: true }).then(() => scene.look()),
    });
  return [
    importing(space, scene),
    folded(
      "correct-more",
      "Begin again, or delete",
      el(
        "div",
        { class: "zoo-actions" },
        kind === "instances" && objects
          ? again("Begin again with the result", objects, "again-result")
          : null,
        again("Begin again with nothing", null, "again-empty"),
        confirmed("Delete it", "Delete it for good", () => discard(space), {
          icon: "remove",
          "data-key": "discard",
        }),
      ),
      el("p", { class: "work-soft" }, "What is begun again can be undone; what is deleted cannot."),
    ),
  ];
}

function importing(space, scene) {
  const add = el("input", { type: "checkbox", "data-key": "import-add" });
  const file = el("input", {
    type: "file",
    class: "work-file",
    accept: TAKEN,
    tabindex: "-1",
    "aria-hidden": true,
    "data-import": "",
    on: {
      change: () => {
        const [chosen] = file.files;
        file.value = "";
        const viewer = scene.viewer();
        const { z, time } = viewer?.state ?? { z: 0, time: 0 };
        if (chosen) importFile(space, chosen, { add: add.checked, plane: { z, time }, viewer });
      },
    },
  });
  return folded(
    "correct-import",
    "Import",
    el(
      "p",
      { class: "work-soft" },
      "Labels as TIFF, PNG or zipped OME-Zarr, an ImageJ ROI set, or QuPath GeoJSON. It takes the " +
        "place of what is painted, and can be undone.",
    ),
    el(
      "label",
      { class: "correct-check" },
      add,
      el("span", {}, "Keep what is painted, and lay it over that"),
    ),
    el(
      "div",
      { class: "zoo-actions" },
      button("Choose a file", {
        icon: "upload",
        onClick: () => file.click(),
        "data-key": "import",
      }),
      file,
    ),
  );
}
