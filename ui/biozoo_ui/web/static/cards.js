// The list of models: search as you type, and choosing a card. Runs once, inside gr.HTML, with
// `element` and `trigger` given by Gradio; the list is plain HTML and is only hidden and reordered.
const input = element.querySelector("[data-search]");
const list = element.querySelector("[data-cards]");
const found = element.querySelector("[data-found]");
const none = element.querySelector("[data-none]");
const items = new Map([...list.children].map((item) => [item.dataset.id, item]));
let asked = 0;
let timer = 0;

function show(ids) {
  const wanted = new Set(ids);
  for (const [id, item] of items) item.hidden = !wanted.has(id);
  for (const id of ids) if (items.has(id)) list.append(items.get(id)); // best first
  const shown = [...wanted].filter((id) => items.has(id)).length;
  found.textContent =
    shown === items.size
      ? `${shown} model${shown === 1 ? "" : "s"}`
      : `${shown} of ${items.size} models`;
  none.hidden = shown > 0;
}

async function search() {
  const mine = ++asked;
  try {
    const answer = await fetch(`api/search?words=${encodeURIComponent(input.value)}`);
    const body = await answer.json();
    if (mine !== asked) return; // a newer question is under way
    if (answer.ok) show(body.ids);
    else found.textContent = body.error;
  } catch {
    if (mine === asked) found.textContent = "The server does not answer. Is it still running?";
  }
}

input.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(search, 120);
});

list.addEventListener("click", (event) => {
  const card = event.target.closest("[data-choose]");
  if (!card) return;
  for (const other of list.querySelectorAll("[data-choose]")) {
    other.setAttribute("aria-pressed", String(other === card));
  }
  trigger("select", { id: card.dataset.choose });
  // On a narrow page the model stands below the list: go there.
  if (matchMedia("(max-width: 820px)").matches) {
    document.getElementById("work")?.scrollIntoView({ behavior: "smooth", block: "start" });
  }
});
