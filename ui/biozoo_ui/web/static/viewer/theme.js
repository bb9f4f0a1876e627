// The style sheet, and light or dark: as told, else as the page around it, else as the system.

const SHEET = new URL("./viewer.css", import.meta.url).href;

/** Add the style sheet once per page; `root` stays hidden until it is there. */
export function loadStyle(root) {
  let link = document.querySelector(`link[href="${SHEET}"]`);
  if (link?.sheet) return;
  root.style.visibility = "hidden";
  if (!link) {
    link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: SHEET });
    document.head.append(link);
  }
  const show = () => (root.style.visibility = "");
  for (const event of ["load", "error"]) link.addEventListener(event, show, { once: true });
}

/** Keep data-theme of `root` right; `changed` is called after each change. Returns the ending. */
export function follow(root, theme, changed) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const set = () => {
    let now = theme;
    if (theme === "auto") {
      const gradio = root.closest(".gradio-container"); // which knows light and dark by itself
      now = root.closest(".dark") || (!gradio && system.matches) ? "dark" : "light";
    }
    if (root.dataset.theme === now) return;
    root.dataset.theme = now;
    changed();
  };
  set();
  system.addEventListener("change", set);
  // Gradio switches by a class of the body.
  const observer = new MutationObserver(set);
  for (const element of [document.documentElement, document.body])
    observer.observe(element, { attributes: true, attributeFilter: ["class"] });
  return () => {
    system.removeEventListener("change", set);
    observer.disconnect();
  };
}
