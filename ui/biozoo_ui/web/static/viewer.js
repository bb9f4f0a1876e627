// The result: which layer lies over the image and how opaque, zoom, and copying the command line.
// Listeners stand on `element`, so they survive when Gradio writes a new result into it.
const remembered = new Map();

const get = (what) => element.querySelector(`[data-${what}]`);
const layers = () => [...element.querySelectorAll("[data-layer]")];

function say(slider, value, text) {
  slider.value = value;
  slider.parentElement.querySelector("output").textContent = text;
}

function setOpacity(percent) {
  const shown = layers().find((layer) => !layer.hidden);
  if (!shown) return;
  shown.style.opacity = percent / 100;
  remembered.set(shown.dataset.layer, percent);
  say(get("opacity-slider"), percent, `${percent} %`);
}

function choose(key) {
  for (const layer of layers()) layer.hidden = layer.dataset.layer !== key;
  const shown = layers().find((layer) => layer.dataset.layer === key);
  if (shown) setOpacity(remembered.get(key) ?? Math.round(100 * Number(shown.dataset.opacity)));
}

function setZoom(factor) {
  const [frame, stage] = [get("frame"), get("stage")];
  const before = stage.clientWidth;
  const middle = (start, length) => start + length / 2;
  const x = middle(frame.scrollLeft, frame.clientWidth);
  const y = middle(frame.scrollTop, frame.clientHeight);
  stage.style.width = `${100 * factor}%`;
  const grown = stage.clientWidth / before; // what was in the middle stays there
  frame.scrollLeft = x * grown - frame.clientWidth / 2;
  frame.scrollTop = y * grown - frame.clientHeight / 2;
  frame.classList.toggle("zoomed", factor > 1);
  say(get("zoom-slider"), factor, `${factor} x`);
  sharpen();
}

// Pixels that are clearly larger than the screen's are shown as squares, as they were measured.
function sharpen() {
  const [stage, base] = [get("stage"), element.querySelector(".base")];
  if (!stage || !base?.naturalWidth) return;
  stage.classList.toggle("pixels", stage.clientWidth >= 1.8 * base.naturalWidth);
}

element.addEventListener("load", sharpen, true); // load does not bubble
addEventListener("resize", sharpen);

element.addEventListener("input", (event) => {
  if (event.target.matches("[data-opacity-slider]")) setOpacity(Number(event.target.value));
  if (event.target.matches("[data-zoom-slider]")) setZoom(Number(event.target.value));
});

element.addEventListener("change", (event) => {
  if (event.target.matches("input[type=radio]")) choose(event.target.value);
});

// A zoomed image is moved by dragging it; fingers scroll it without help.
element.addEventListener("pointerdown", (event) => {
  const frame = event.target.closest("[data-frame].zoomed");
  if (!frame || event.button !== 0 || event.pointerType === "touch") return;
  event.preventDefault();
  const start = [event.clientX + frame.scrollLeft, event.clientY + frame.scrollTop];
  const move = (now) => frame.scrollTo(start[0] - now.clientX, start[1] - now.clientY);
  frame.setPointerCapture(event.pointerId);
  frame.addEventListener("pointermove", move);
  frame.addEventListener(
    "lostpointercapture",
    () => frame.removeEventListener("pointermove", move),
    { once: true },
  );
});

element.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code); // no clipboard here: select it for Ctrl-C
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
});

watch("value", () => {
  remembered.clear();
  const first = element.querySelector("input[type=radio]");
  if (first) {
    first.checked = true;
    choose(first.value);
  }
  if (get("frame")) setZoom(1);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element
    .querySelector(".zoo-result")
    ?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
});
