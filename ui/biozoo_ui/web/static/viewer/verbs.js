// What a reader does, done to a viewer: keys, buttons, sliders and fingers all end here.

import { say } from "./dom.js";
import { autoContrast } from "./scene.js";

const AFTER = 60; // milliseconds that a pointer rests before its pixel is fetched

/** The verbs of input.js, furniture.js and controls.js for one viewer. */
export function verbs(viewer) {
  const camera = viewer.camera;
  const moving = (f) => (...given) => {
    f(...given);
    viewer.moved();
  };
  return {
    pan: moving((right, down) => camera.pan(right, down)),
    zoom: moving((factor, left, top) => camera.zoomAt(factor, left, top)),
    fit: () => viewer.fit(),
    step: (axis, by) => viewer.verbs.setPlane(axis, viewer.state[axis] + by),
    setPlane: (axis, index) => {
      viewer.setPlane({ [axis]: index });
      tell(viewer);
      viewer.moved();
    },
    toggleChannel: (layer, i) => toggle(viewer, layer ?? viewer.layers[0], i),
    hold: (on) => {
      if (viewer.state.held === on) return;
      viewer.state.held = on;
      viewer.changed();
    },
    wipe: () => {
      if (viewer.layers.length > 1) viewer.setWipe(viewer.state.wipe === null ? 0.5 : null);
    },
    setWipe: (part) => viewer.setWipe(part),
    style: () => {
      for (const layer of viewer.layers)
        if (layer.kind === "labels") layer.style = layer.style === "filled" ? "outlines" : "filled";
      viewer.changed();
    },
    help: (on) => help(viewer, on),
    point: (left, top) => pointAt(viewer, left === null ? null : camera.toImage(left, top)),
    at: (left, top) => camera.toImage(left, top),
    get pen() {
      return viewer.editor;
    },
    centre: () => pointAt(viewer, { y: camera.y, x: camera.x }, true),
    retry: () => (viewer.error ? viewer.setLayers(viewer.asked) : viewer.tiles.retry()),
    panel: () => {
      viewer.open = !viewer.open;
      viewer.changed();
    },
    changed: () => viewer.changed(),
    auto: (layer, channels) => auto(viewer, layer, channels),
  };
}

/** `i`: the channel's place; without a layer it is one of the image. */
function toggle(viewer, layer, i) {
  const channel = layer?.channels[i];
  if (!channel || (layer.rgb && layer.kind === "image")) return;
  if (layer.kind === "probability") for (const one of layer.channels) one.visible = one === channel;
  else channel.visible = !channel.visible;
  say(viewer.parts.live, `${channel.name} ${channel.visible ? "shown" : "hidden"}`);
  viewer.changed();
}

function auto(viewer, layer, channels) {
  const view = viewer.view();
  const found = channels.map((c) => autoContrast(layer, c, view, viewer.tiles)).filter(Boolean);
  if (!found.length) return;
  const low = Math.min(...found.map((one) => one[0])); // of a colour picture: one for all three
  const high = Math.max(...found.map((one) => one[1]));
  for (const c of channels) Object.assign(layer.channels[c], { low, high });
  viewer.changed();
}

function help(viewer, on = viewer.parts.help.element.hidden) {
  const { element, close } = viewer.parts.help;
  if (element.hidden === !on) return;
  element.hidden = !on;
  (on ? close : viewer.parts.stage).focus({ preventScroll: true });
}

/** Say where one is to those who do not see it. */
export function tell(viewer) {
  const { z, time } = viewer.state;
  const sizes = viewer.layers[0]?.sizes;
  const words = [];
  if (sizes?.z > 1) words.push(`plane ${z + 1} of ${sizes.z}`);
  if (sizes?.time > 1) words.push(`time point ${time + 1} of ${sizes.time}`);
  say(viewer.parts.live, words.join(", "));
}

function pointAt(viewer, point, cross = false) {
  viewer.point = point;
  viewer.keyboard = cross;
  viewer.probing = false;
  clearTimeout(viewer.restTimer);
  if (point)
    viewer.restTimer = setTimeout(() => {
      viewer.probing = true;
      viewer.changed(false);
    }, AFTER);
  for (const other of viewer.linked) {
    other.shadowed = point; // its cursor shows there too
    other.changed(false);
  }
  viewer.changed(false);
}
