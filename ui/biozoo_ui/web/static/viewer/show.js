// The state of a viewer, shown: on the canvas, around it, and to the page as events.

import { syncScale } from "./furniture.js";
import { draw } from "./scene.js";

const MISSING = "Part of the image is missing.";
const LOST = "The graphics card was reset. The image comes back by itself.";

/** Draw the image: the first layer, and the others right of the wipe line, or left of it. */
export function paint(viewer, view) {
  const { graphics } = viewer;
  const { wipe, held } = viewer.state;
  const [first, ...overlays] = viewer.layers;
  graphics.begin(empty(viewer));
  if (first.visible) draw(first, view, viewer.tiles, graphics);
  if (held) {
    graphics.end();
    return;
  }
  const column = wipe === null ? null : Math.round(wipe * viewer.parts.canvas.width);
  const shown = overlays.filter((layer) => layer.visible);
  if (column !== null) {
    graphics.leftOf(column);
    for (const layer of shown.filter(left)) draw(layer, view, viewer.tiles, graphics);
    graphics.rightOf(column);
  }
  for (const layer of shown) if (!left(layer)) draw(layer, view, viewer.tiles, graphics);
  graphics.end();
}

const left = (layer) => layer.side === "left";

/** The colour around the image. */
export function empty(viewer) {
  return getComputedStyle(viewer.root).getPropertyValue("--zv-void").trim() || "#000000";
}

/** Show the state in all parts around the image. */
export function furnish(viewer, view, first, values) {
  const { parts } = viewer;
  const camera = viewer.camera;
  const point = viewer.point;
  const { image } = camera;
  const inside = point && point.y >= 0 && point.x >= 0 && point.y < image.y && point.x < image.x;
  viewer.root.dataset.panel = viewer.open && first ? "open" : "closed";
  viewer.root.dataset.held = viewer.state.held;
  parts.tools.sync({
    overlays: viewer.layers.length > 1,
    wiping: viewer.state.wipe !== null,
    open: viewer.open,
  });
  parts.wipe.sync(viewer.layers.length > 1 ? viewer.state.wipe : null);
  parts.bar.hidden = !first;
  parts.tools.element.hidden = !first;
  if (first) syncScale(parts.bar, first, camera.scale);
  parts.status.sync(first && point && { ...point, inside, values }, first, camera.scale);
  const marked = viewer.keyboard ? point : viewer.shadowed;
  parts.cross.hidden = !marked;
  if (marked) {
    const { top, left } = camera.toView(marked.y, marked.x);
    parts.cross.style.transform = `translate(${left}px, ${top}px)`;
  }
  viewer.planes.sync(view);
  viewer.panel.sync();
  const { error } = viewer;
  if (error) parts.message.sync(error.message, { whole: true, again: error.again });
  else if (viewer.lost) parts.message.sync(LOST, { again: false });
  else if (viewer.trouble) parts.message.sync(`${MISSING} ${viewer.trouble.message}`);
  else parts.message.sync(null);
}

/** Tell the page what is new. */
export function announce(viewer, first, values, complete) {
  const failed = viewer.trouble;
  if (failed !== viewer.failed) {
    viewer.failed = failed;
    if (failed) viewer.emit("error", { message: failed.message, status: failed.status ?? null });
  }
  if (!first) return;
  const now = viewer.visible();
  const seen = JSON.stringify([now, viewer.camera.scale]);
  if (seen !== viewer.seen) {
    viewer.seen = seen;
    viewer.emit("view", { ...now, scale: viewer.camera.scale });
  }
  const pointed = JSON.stringify([viewer.point, values.map(({ value }) => value)]);
  if (pointed !== viewer.pointed) {
    viewer.pointed = pointed;
    const told = values.map(({ layer, channel, value }) => ({
      layer: layer.name,
      channel: layer.channels[channel].name,
      value: value ?? null,
    }));
    viewer.emit("pointer", viewer.point && { ...viewer.point, values: told });
  }
  if (complete && !failed && !viewer.ready) {
    viewer.ready = true;
    viewer.emit("ready", now);
  }
}
