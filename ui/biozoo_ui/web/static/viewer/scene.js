// What a frame needs and shows: from layers and camera to tiles, and from tiles to rectangles.
// Each place of a channel is drawn once, from the finest tile that is here, so that channels can be
// added up and a coarser level stands in until the finer one has come.

const OUTLINE = 1.6; // CSS pixels
const AHEAD = 24; // tiles of the next planes that are fetched when nothing else is needed

/** Screen pixels per pixel of a layer's level 0. */
const density = (layer, view) => Math.min(layer.scale.y, layer.scale.x) * view.scale * view.ratio;

/** The coarsest level whose pixels are still no larger than the screen's. */
export function pickLevel(layer, view) {
  const level = Math.floor(Math.log2(1 / density(layer, view)) + 1e-6);
  return Math.min(layer.last, Math.max(0, level));
}

/** The tiles of a level in a box of the layer's pixels, nearest to its middle first. */
export function tilesIn(layer, level, box) {
  const { y, x } = layer.levels[level];
  const side = layer.tile * 2 ** level;
  const within = (from, to, size) => [
    Math.max(0, Math.floor(from / side)),
    Math.min(Math.ceil(size / layer.tile), Math.ceil(to / side)),
  ];
  const [rows, columns] = [within(box.y0, box.y1, y), within(box.x0, box.x1, x)];
  const middle = { y: (box.y0 + box.y1) / 2 / side - 0.5, x: (box.x0 + box.x1) / 2 / side - 0.5 };
  const found = [];
  for (let row = rows[0]; row < rows[1]; row++)
    for (let column = columns[0]; column < columns[1]; column++)
      found.push({ level, row, column, far: (row - middle.y) ** 2 + (column - middle.x) ** 2 });
  return found.sort((a, b) => a.far - b.far);
}

/** The view's box in a layer's own pixels. */
function boxOf(layer, view) {
  const { at, scale } = layer;
  const { box } = view;
  return {
    y0: (box.y0 - at.y) / scale.y,
    y1: (box.y1 - at.y) / scale.y,
    x0: (box.x0 - at.x) / scale.x,
    x1: (box.x1 - at.x) / scale.x,
  };
}

/** All pieces of a plane that this view asks for: coarsest level first, then by distance. */
function needs(layer, plane, view) {
  const box = boxOf(layer, view);
  const level = pickLevel(layer, view);
  const coarse = level === layer.last ? [] : tilesIn(layer, layer.last, box);
  const piece = (tile) =>
    layer.shownChannels.map((c) => layer.piece(tile.level, plane, c, tile.row, tile.column));
  return { coarse: coarse.flatMap(piece), fine: tilesIn(layer, level, box).flatMap(piece) };
}

/** The finest tile that is here for a place: itself or one of a coarser level. */
function best(layer, plane, channel, { level, row, column }, tiles) {
  for (let up = 0; level + up <= layer.last; up++) {
    const place = { level: level + up, row: row >> up, column: column >> up };
    const piece = layer.piece(place.level, plane, channel, place.row, place.column);
    const tile = layer.here(tiles, piece);
    if (tile) return { tile, ...place };
  }
  return null;
}

/** A plane can be shown when something is here for every place of it that is seen. */
function covered(layer, plane, view, tiles) {
  const places = tilesIn(layer, pickLevel(layer, view), boxOf(layer, view));
  return layer.shownChannels.every((channel) =>
    places.every((place) => best(layer, plane, channel, place, tiles)),
  );
}

/**
 * Tell `tiles` what this view needs, and settle which plane of each layer is shown: the wanted one
 * when it can be, else what was shown before. `first` are pieces that go before everything else.
 * Returns "whole", "waiting" for tiles, or "broken" where the missing ones do not come.
 */
export function request(layers, view, tiles, first = []) {
  tiles.newFrame();
  const [coarse, fine, ahead] = [[], [], []];
  for (const layer of layers) {
    if (!layer.visible) continue;
    const plane = layer.plane(view);
    if (!plane) {
      layer.shown = null;
      continue;
    }
    const needed = needs(layer, plane, view);
    coarse.push(...needed.coarse);
    fine.push(...needed.fine);
    const same = layer.shown?.z === plane.z && layer.shown?.time === plane.time;
    if (!same && (!layer.shown || covered(layer, plane, view, tiles))) layer.shown = plane;
    for (const z of [plane.z + 1, plane.z - 1]) {
      if (z < 0 || z >= layer.sizes.z) continue;
      const next = needs(layer, { ...plane, z }, view);
      ahead.push(...next.coarse, ...next.fine.slice(0, AHEAD));
    }
  }
  const now = [...first, ...coarse, ...fine];
  // get() also marks it as on the screen, so that it is not thrown away.
  const missing = now.filter((piece) => !tiles.get(piece.url));
  tiles.want(missing.length ? missing : ahead);
  if (!missing.length) return "whole";
  return tiles.failure ? "broken" : "waiting";
}

/** Draw one layer as it is now. */
export function draw(layer, view, tiles, graphics) {
  if (!layer.shown) return;
  const places = tilesIn(layer, pickLevel(layer, view), boxOf(layer, view));
  if (layer.kind === "image") graphics.plain(frame(layer, view), [0, 0, 0], layer.opacity);
  for (const channel of layer.shownChannels)
    for (const place of places) {
      const found = best(layer, layer.shown, channel, place, tiles);
      if (found) rectangle(layer, view, channel, place, found, tiles, graphics);
    }
}

function rectangle(layer, view, channel, place, found, tiles, graphics) {
  const side = layer.tile * 2 ** place.level;
  const { y, x } = layer.levels[0];
  const [x0, y0] = [place.column * side, place.row * side];
  const [x1, y1] = [Math.min(x, x0 + side), Math.min(y, y0 + side)];
  const grain = 2 ** found.level; // level 0 pixels in one of the tile's
  const left = found.column * layer.tile;
  const top = found.row * layer.tile;
  const part = [x0 / grain - left, y0 / grain - top, x1 / grain - left, y1 / grain - top];
  const clip = toClip(layer, view, x0, y0, x1, y1);
  const { opacity } = layer;
  if (layer.kind === "labels") {
    outlines(layer, view, channel, found, { clip, part, grain }, tiles, graphics);
    return;
  }
  const smooth = !view.quick && (grain > 1 || density(layer, view) < 1);
  const how = layer.kind === "image" ? "image" : "map";
  graphics[how](found.tile, clip, part, layer.channels[channel], { smooth, opacity });
}

/** Labels of one rectangle; only along the tile's edges its neighbours are looked at. */
function outlines(layer, view, channel, found, { clip, part, grain }, tiles, graphics) {
  const { opacity, palette } = layer;
  if (layer.style !== "outlines") {
    graphics.labels(found.tile, clip, part, { thick: [0, 0], opacity, palette });
    return;
  }
  const { x, y } = layer.scale;
  const thick = [x, y].map((scale) => OUTLINE / (scale * view.scale * grain));
  const [x0, y0, x1, y1] = part;
  const { width, height } = found.tile;
  const within = (value, from, to) => Math.min(to, Math.max(from, value));
  const xs = [x0, within(thick[0], x0, x1), within(width - thick[0], x0, x1), x1];
  const ys = [y0, within(thick[1], y0, y1), within(height - thick[1], y0, y1), y1];
  if (xs[1] > xs[2]) xs[1] = xs[2] = x1; // all of it lies near an edge
  if (ys[1] > ys[2]) ys[1] = ys[2] = y1;
  const beside = around(layer, channel, found, tiles);
  const across = (x) => clip[0] + ((x - x0) / (x1 - x0)) * (clip[2] - clip[0]);
  const down = (y) => clip[1] + ((y - y0) / (y1 - y0)) * (clip[3] - clip[1]);
  for (let i = 0; i < 3; i++)
    for (let j = 0; j < 3; j++) {
      const [a, b, c, d] = [xs[j], ys[i], xs[j + 1], ys[i + 1]];
      if (a >= c || b >= d) continue;
      const inner = i === 1 && j === 1;
      const place = [across(a), down(b), across(c), down(d)];
      const near = inner ? null : beside;
      graphics.labels(found.tile, place, [a, b, c, d], { beside: near, thick, opacity, palette });
    }
}

/** The tiles left, right, above and below of one: 0 beyond the image, null where not here. */
function around(layer, channel, { level, row, column }, tiles) {
  const { y, x } = layer.levels[level];
  const inside = (r, c) => r >= 0 && c >= 0 && r * layer.tile < y && c * layer.tile < x;
  return [[row, column - 1], [row, column + 1], [row - 1, column], [row + 1, column]].map(
    ([r, c]) =>
      inside(r, c) ? (layer.here(tiles, layer.piece(level, layer.shown, channel, r, c)) ?? null) : 0,
  );
}

const frame = (layer, view) =>
  toClip(layer, view, 0, 0, layer.levels[0].x, layer.levels[0].y);

function toClip(layer, view, x0, y0, x1, y1) {
  const { at, scale } = layer;
  const { box } = view;
  const right = (value) => (2 * (value * scale.x + at.x - box.x0)) / (box.x1 - box.x0) - 1;
  const up = (value) => 1 - (2 * (value * scale.y + at.y - box.y0)) / (box.y1 - box.y0);
  return [right(x0), up(y0), right(x1), up(y1)];
}

/**
 * Automatic contrast of one channel: the 0.3 and 99.7 percent points of what is seen, from the
 * tiles that are here; null where there are none.
 */
export function autoContrast(layer, channel, view, tiles) {
  const sample = [];
  for (const place of tilesIn(layer, pickLevel(layer, view), boxOf(layer, view))) {
    const found = layer.shown && best(layer, layer.shown, channel, place, tiles);
    if (!found) continue;
    const { pixels } = found.tile;
    const step = Math.max(1, Math.floor(pixels.length / 4096));
    for (let i = 0; i < pixels.length; i += step)
      if (!Number.isNaN(pixels[i])) sample.push(pixels[i]);
  }
  if (!sample.length) return null;
  sample.sort((a, b) => a - b);
  const point = (part) => sample[Math.round(part * (sample.length - 1))];
  const [low, high] = [point(0.003), point(0.997)];
  return high > low ? [low, high] : [low, low + (layer.pixels === "float32" ? 1e-6 : 1)];
}
