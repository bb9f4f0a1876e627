// The canvas: its size in the screen's own pixels, and the graphics card behind it.

const GAP = 8; // between tools and a fitted image, CSS pixels

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

/** How much of the view lies under tools at its edges, CSS pixels. */
export function underTools(view) {
  const style = getComputedStyle(view);
  const top = parseFloat(style.getPropertyValue("--zv-top")) || 0;
  const edit = view.querySelector(".zv-edit");
  if (!edit) return { top };
  // What lies under a button cannot be painted.
  const [bar, all] = [edit, view].map((one) => one.getBoundingClientRect());
  const column = bar.height > bar.width;
  const side = column ? bar.right - all.left + GAP : 0; // as wide at the right: there are tools too
  return { top, bottom: column ? 0 : all.bottom - bar.top + GAP, left: side, right: side };
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
    // Setting a canvas's size clears it: drawn anew, and at once, else it would flicker.
    viewer.stale = true;
    [canvas.width, canvas.height] = size.map((side) => Math.max(1, side));
    viewer.camera.resize(height, width, underTools(view));
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
