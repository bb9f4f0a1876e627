// The canvas: its size in the screen's own pixels, and the graphics card behind it.

/** Know when the graphics card is reset and when it is back. */
export function watchCard(viewer, canvas) {
  canvas.addEventListener("webglcontextlost", (event) => {
    event.preventDefault(); // else it never comes back
    if (viewer.destroyed) return;
    viewer.lost = true;
    viewer.changed();
  });
  canvas.addEventListener("webglcontextrestored", () => {
    viewer.lost = false;
    viewer.graphics.restore();
    viewer.changed();
  });
}

/** Keep the canvas as fine as the screen. Returns the ending. */
export function watchSize(viewer, view) {
  const { canvas } = viewer.parts;
  const fitted = (entries) => {
    const entry = entries.at(-1);
    const { width, height } = entry.contentRect;
    const exact = entry.devicePixelContentBoxSize?.[0];
    const near = [width, height].map((side) => Math.round(side * devicePixelRatio));
    // The exact size differs by rounding only, except where a browser emulates another screen.
    const right = exact && Math.abs(exact.inlineSize - near[0]) <= 1;
    const size = right ? [exact.inlineSize, exact.blockSize] : near;
    // Setting a canvas's size clears it: drawn at once, else it would flicker.
    [canvas.width, canvas.height] = size.map((side) => Math.max(1, side));
    const top = parseFloat(getComputedStyle(view).getPropertyValue("--zv-top")) || 0;
    viewer.camera.resize(height, width, top);
    viewer.show();
  };
  const observer = new ResizeObserver(fitted);
  try {
    observer.observe(view, { box: "device-pixel-content-box" });
  } catch {
    observer.observe(view); // Safari
  }
  return () => observer.disconnect();
}
