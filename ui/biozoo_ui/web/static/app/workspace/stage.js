// The viewer of the workspace, and which layers lie over the image in it.

import { createViewer } from "../../viewer/index.js";
import { atFirst } from "./correcting.js";

// stage(element, api) -> {show(image, layers, annotation), expect(on), renew(layers), viewer(),
// visible() -> a promise, on(event, listener), look(), close()}; what listens to it hears the viewer
// once there is one. Layers are images of the session, but those with a `url` of their own, which
// are renewed.
export function stage(element, api) {
  let viewer = null;
  let painted = ""; // id of the annotation
  let covered = false; // whether its objects stand for those of a result
  const listening = [];
  let before = "";
  let wiped = "";
  let shown = null; // resolves when the image has its place
  const show = (image, layers, annotation = null) => {
    element.hidden = !image;
    if (!image) return;
    // Made when there is something to see: a browser keeps few graphics contexts.
    if (!viewer) {
      viewer = createViewer(element, { panel: element.clientWidth > 640 });
      for (const [event, listener] of listening) viewer.on(event, listener);
    }
    const covers = annotation?.annotation === "instances";
    const asked = [
      { url: api.url(`api/images/${image.id}`), name: image.name },
      ...overlays(layers, api).map((one, i) =>
        covers && found(layers[i]) ? { ...one, visible: false } : one,
      ),
      ...(annotation ? [paintedLayer(annotation, api)] : []),
    ];
    const now = JSON.stringify([image.v, asked, annotation?.classes]);
    if (now === before) return;
    before = now;
    shown = viewer.setLayers(asked);
    if ((annotation?.id ?? "") !== painted) {
      painted = annotation?.id ?? "";
      viewer.edit(annotation && { url: asked.at(-1).url, ...atFirst(annotation) });
    }
    cover(covers, layers);
    // Another picture hides the first one: a line between the two shows what it did. So does one
    // between what was found before and after.
    const pictures = layers
      .filter((one) => one.side || one.kind === "image")
      .map((one) => one.url ?? one.image.id)
      .join();
    if (pictures !== wiped) viewer.setWipe(pictures ? 0.5 : null);
    wiped = pictures;
  };
  // Objects that are corrected lie where those of the result did: both at once cannot be read.
  const cover = async (on, layers) => {
    if (on === covered) return;
    covered = on;
    await shown;
    const urls = overlays(layers.filter(found), api).map((one) => one.url);
    for (const layer of viewer.layers) if (urls.includes(layer.url)) layer.visible = !on;
    viewer.changed();
  };
  return {
    show,
    // Whether layers are renewed after each stroke.
    expect: (on) => viewer?.expect(on),
    // Layers that lie where they did, with other pixels.
    renew(layers) {
      viewer?.renew(layers.map(({ url, image }) => ({ url: api.url(url), version: image.v })));
    },
    async visible() {
      await shown; // else nothing is seen yet
      return viewer.visible();
    },
    viewer: () => viewer,
    on: (event, listener) => {
      listening.push([event, listener]);
      viewer?.on(event, listener);
    },
    look: () => viewer?.editor?.look(),
    close: () => viewer?.destroy(),
  };
}

// Objects of a run or a preview; those of a training are to be seen in any case.
const found = ({ kind, url, learned }) => kind === "labels" && !url && !learned;

function paintedLayer({ id, annotation, name }, api) {
  const classes = annotation === "classes";
  return {
    url: api.url(`api/annotations/${id}`),
    kind: "labels",
    name,
    style: classes ? "filled" : "outlines",
    opacity: classes ? 0.55 : 0.95,
    at: { y: 0, x: 0 },
  };
}

// Objects first where there are any: a map of probabilities is one click away in the panel.
export function overlays(layers, api) {
  const objects = layers.some((one) => one.kind === "labels");
  return layers.map(({ image, kind, name, at, scale, side, url }) => ({
    url: api.url(url ?? `api/images/${image.id}`),
    kind,
    name,
    ...(at ? { at } : {}),
    ...(scale ? { scale } : {}),
    ...(side ? { side } : {}),
    ...(url ? { renewed: true } : {}),
    visible: !objects || kind === "labels",
  }));
}
