// The true values of the file under a point: pixels of level 0, fetched where they are not here.

/** The piece of a layer and the pixel in it at a point of the first layer; null beside it. */
export function place(layer, view, point, channel = 0) {
  const plane = layer.visible ? layer.plane(view) : null;
  const y = Math.floor((point.y - layer.at.y) / layer.scale.y);
  const x = Math.floor((point.x - layer.at.x) / layer.scale.x);
  const size = layer.levels[0];
  if (!plane || y < 0 || x < 0 || y >= size.y || x >= size.x) return null;
  const [row, column] = [Math.floor(y / layer.tile), Math.floor(x / layer.tile)];
  const piece = layer.piece(0, plane, channel, row, column);
  const index = (y - row * layer.tile) * piece.width + x - column * layer.tile;
  return { layer, channel, piece, index };
}

/** The same of all layers and their shown channels. */
function places(layers, view, point) {
  return layers.flatMap((layer) =>
    layer.shownChannels.map((channel) => place(layer, view, point, channel)).filter(Boolean),
  );
}

export function probe(layers, view, point, tiles) {
  const found = places(layers, view, point);
  return {
    pieces: found.map(({ piece }) => piece),
    values: found.map(({ layer, channel, piece, index }) => ({
      layer,
      channel,
      value: layer.here(tiles, piece)?.pixels[index], // undefined: on its way
    })),
  };
}
