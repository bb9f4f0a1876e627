// The result: which layer lies over the image and how opaque, and copying the command line.
// Listeners stand on `element`, so they survive when Gradio writes a new result into it.
const remembered = new Map();

const layers = () => [...element.querySelectorAll("[data-layer]")];
const slider = () => element.querySelector("[data-opacity-slider]");

function setOpacity(percent) {
  const shown = layers().find((layer) => !layer.hidden);
  if (!shown) return;
  shown.style.opacity = percent / 100;
  remembered.set(shown.dataset.layer, percent);
  slider().value = percent;
  slider().nextElementSibling.textContent = `${percent} %`;
}

function choose(key) {
  for (const layer of layers()) layer.hidden = layer.dataset.layer !== key;
  const shown = layers().find((layer) => layer.dataset.layer === key);
  if (shown) setOpacity(remembered.get(key) ?? Math.round(100 * Number(shown.dataset.opacity)));
}

element.addEventListener("input", (event) => {
  if (event.target.matches("[data-opacity-slider]")) setOpacity(Number(event.target.value));
});

element.addEventListener("change", (event) => {
  if (event.target.matches("input[type=radio]")) choose(event.target.value);
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
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element
    .querySelector(".zoo-result")
    ?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
});
