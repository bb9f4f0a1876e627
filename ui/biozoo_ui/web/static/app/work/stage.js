// The viewer of the workspace, and which layers lie over the image in it.

import { createViewer } from "../../viewer/index.js";

// stage(element, api) -> {show(image, layers), visible() -> a promise, close()}
export function stage(element, api) {
  let viewer = null;
  let before = "";
  let wiped = "";
  let shown = null; // resolves when the image has its place
  const show = (image, layers) => {
    element.hidden = !image;
    if (!image) return;
    // Made when there is something to see: a browser keeps few graphics contexts.
    viewer ??= createViewer(element, { panel: element.clientWidth > 640 });
    const asked = [
      { url: api.url(`api/images/${image.id}`), name: image.name },
      ...overlays(layers, api),
    ];
    const now = JSON.stringify([image.v, asked]);
    if (now === before) return;
    before = now;
    shown = viewer.setLayers(asked);
    // Another picture hides the first one: a line between the two shows what it did.
    const pictures = layers
      .filter((one) => one.kind === "image")
      .map((one) => one.image.id)
      .join();
    if (pictures !== wiped) viewer.setWipe(pictures ? 0.5 : null);
    wiped = pictures;
  };
  return {
    show,
    async visible() {
      await shown; // else nothing is seen yet
      return viewer.visible();
    },
    viewer: () => viewer,
    close: () => viewer?.destroy(),
  };
}

// Objects first where there are any: a map of probabilities is one click away in the panel.
export function overlays(layers, api) {
  const objects = layers.some((one) => one.kind === "labels");
  return layers.map(({ image, kind, name, at, scale }) => ({
    url: api.url(`api/images/${image.id}`),
    kind,
    name,
    ...(at ? { at } : {}),
    ...(scale ? { scale } : {}),
    visible: !objects || kind === "labels",
  }));
}
