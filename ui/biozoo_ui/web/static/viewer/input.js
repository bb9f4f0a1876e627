// Mouse, wheel, touch and keyboard, turned into the viewer's verbs. Knows nothing of layers.

const STEP = 60; // CSS pixels that an arrow key moves
const ZOOM = 1.25; // of a key or button
const DOUBLE = { time: 320, distance: 24 }; // of two taps: milliseconds, CSS pixels

export const KEYS = [
  ["Arrows", "move the image; with Shift, by a whole view"],
  ["+  −", "zoom in and out"],
  ["0", "fit the image into the view"],
  ["[  ]", "plane below and above (z); Page Down and Page Up too"],
  [",  .", "time point before and after"],
  ["1 to 9", "show or hide a channel"],
  ["h", "hold: the image alone, without overlays"],
  ["w", "wipe: the image alone left of a line you can move"],
  ["l", "labels as outlines or filled"],
  ["?", "this list; Escape closes it"],
];

/**
 * Listen on `stage` (pointer) and `root` (keyboard). `verbs`: pan(right, down), zoom(factor, left,
 * top), fit(), step(axis, by), toggleChannel(layer or null, i), hold(on), wipe(), style(),
 * help(on), point(left, top) and point(null), centre(), at(left, top): the point of the image, and
 * `pen`: what draws instead of moving the image (edit/index.js), or null. Returns a function that
 * ends listening.
 */
export function listen(root, stage, verbs) {
  const ending = new AbortController();
  const options = { signal: ending.signal };
  pointers(stage, verbs, options);
  keys(root, stage, verbs, options);
  return () => ending.abort();
}

function pointers(stage, verbs, options) {
  const down = new Map(); // pointer id -> last place
  let tap = null;
  let drawing = null; // the pointer that draws
  const at = (event) => {
    const { left, top } = place(event);
    return verbs.at(left, top);
  };
  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return { left: event.clientX - box.left, top: event.clientY - box.top };
  };
  const on = (name, f, more) => stage.addEventListener(name, f, { ...options, ...more });

  on("pointerdown", (event) => {
    if (event.button > 1) return;
    stage.focus({ preventScroll: true, focusVisible: false });
    stage.setPointerCapture(event.pointerId);
    down.set(event.pointerId, { ...place(event), begin: place(event), at: event.timeStamp });
    if (drawing !== null) {
      verbs.pen?.cancel(); // two fingers move the image
      drawing = null;
    } else if (down.size === 1 && verbs.pen?.takes(event)) {
      drawing = event.pointerId;
      verbs.pen.down(event, at(event));
      return;
    }
    stage.classList.add("zv-moving");
    if (event.button === 1) event.preventDefault(); // else it scrolls the page by itself
    if (event.pointerType !== "mouse") verbs.point(place(event).left, place(event).top);
  });
  on("pointermove", (event) => {
    const now = place(event);
    const before = down.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") verbs.pen?.over(at(event));
      if (event.pointerType === "mouse") verbs.point(now.left, now.top);
      return;
    }
    if (drawing === event.pointerId) {
      const all = event.getCoalescedEvents?.() ?? [];
      verbs.pen?.move((all.length ? all : [event]).map(at));
      Object.assign(before, now);
      return;
    }
    if (down.size === 1) verbs.pan(before.left - now.left, before.top - now.top);
    if (down.size === 2) {
      const other = [...down.entries()].find(([id]) => id !== event.pointerId)[1];
      const apart = (a) => Math.max(10, Math.hypot(a.left - other.left, a.top - other.top));
      const middle = (a) => ({ left: (a.left + other.left) / 2, top: (a.top + other.top) / 2 });
      const [from, to] = [middle(before), middle(now)];
      verbs.pan(from.left - to.left, from.top - to.top);
      verbs.zoom(apart(now) / apart(before), to.left, to.top);
    }
    Object.assign(before, now);
    if (event.pointerType === "mouse") verbs.point(now.left, now.top);
  });
  const up = (event) => {
    const before = down.get(event.pointerId);
    down.delete(event.pointerId);
    if (!down.size) stage.classList.remove("zv-moving");
    if (drawing === event.pointerId) {
      drawing = null;
      if (event.type === "pointerup") verbs.pen?.up(at(event));
      else verbs.pen?.cancel();
      return;
    }
    if (!before || event.type !== "pointerup" || event.pointerType === "mouse") return;
    const near = (a, b) => Math.hypot(a.left - b.left, a.top - b.top) < DOUBLE.distance;
    if (!near(before, before.begin) || event.timeStamp - before.at > DOUBLE.time) {
      tap = null;
      return;
    }
    if (tap && near(tap, before) && event.timeStamp - tap.at < DOUBLE.time) {
      verbs.zoom(2, before.left, before.top);
      tap = null;
    } else tap = { ...place(event), at: event.timeStamp };
  };
  on("pointerup", up);
  on("pointercancel", up);
  on("pointerleave", (event) => {
    if (event.pointerType !== "touch") verbs.pen?.over(null);
    if (event.pointerType === "mouse") verbs.point(null);
  });
  on("dblclick", (event) => {
    // A double tap has zoomed already; it comes as a click of type "touch".
    if (event.pointerType === "touch" || verbs.pen?.takes(event)) return;
    const { left, top } = place(event);
    verbs.zoom(event.shiftKey ? 0.5 : 2, left, top);
  });
  const wheel = (event) => {
    event.preventDefault();
    const { left, top } = place(event);
    const lines = [1, 16, 400][event.deltaMode];
    if (event.shiftKey && !event.ctrlKey) {
      verbs.step("z", Math.sign(event.deltaY || event.deltaX));
      return;
    }
    // Pinching on a trackpad comes as small steps with ctrlKey.
    const delta = Math.max(-240, Math.min(240, event.deltaY * lines));
    verbs.zoom(Math.exp(-delta * (event.ctrlKey ? 0.01 : 0.0022)), left, top);
  };
  on("wheel", wheel, { passive: false });
}

function keys(root, stage, verbs, options) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const once = {
    "+": () => verbs.zoom(ZOOM),
    "=": () => verbs.zoom(ZOOM),
    "-": () => verbs.zoom(1 / ZOOM),
    _: () => verbs.zoom(1 / ZOOM),
    0: () => verbs.fit(),
    "[": () => verbs.step("z", -1),
    "]": () => verbs.step("z", 1),
    PageDown: () => verbs.step("z", -1),
    PageUp: () => verbs.step("z", 1),
    ",": () => verbs.step("time", -1),
    ".": () => verbs.step("time", 1),
    h: () => verbs.hold(true),
    w: () => verbs.wipe(),
    l: () => verbs.style(),
    "?": () => verbs.help(),
    Escape: () => verbs.help(false),
  };
  const typing = (target) =>
    target.matches("textarea, select, [contenteditable], input:not([type=range], [type=checkbox])");

  const pressed = (event) => {
    // On many keyboards brackets are typed with AltGr, which comes as Ctrl and Alt.
    const shortcut = event.ctrlKey || event.metaKey || event.altKey;
    if (typing(event.target) || (shortcut && !event.getModifierState("AltGraph"))) return;
    const slides = event.target !== stage && event.key.startsWith("Page");
    if (slides) return;
    const move = moves[event.key];
    if (move) {
      if (event.target !== stage) return; // sliders and the wipe handle move by themselves
      const far = event.shiftKey ? [stage.clientWidth, stage.clientHeight] : [STEP, STEP];
      verbs.pan(move[0] * far[0], move[1] * far[1]);
      verbs.centre();
    } else if (/^[1-9]$/.test(event.key)) verbs.toggleChannel(null, Number(event.key) - 1);
    else if (event.key in once) {
      if (event.repeat && "hwl?".includes(event.key)) return;
      once[event.key]();
      if (event.target === stage && "+=-_0".includes(event.key)) verbs.centre();
    } else return;
    if (event.key !== "Escape") event.preventDefault();
  };
  root.addEventListener("keydown", pressed, options);
  root.addEventListener("keyup", (event) => event.key === "h" && verbs.hold(false), options);
  // A key that is let go elsewhere would stay held.
  addEventListener("blur", () => verbs.hold(false), options);
  root.addEventListener(
    "focusout",
    (event) => !root.contains(event.relatedTarget) && verbs.hold(false),
    options,
  );
}
