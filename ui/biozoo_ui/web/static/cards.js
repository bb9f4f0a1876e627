// The list of models: search as you type, and choosing a card. Runs once, inside gr.HTML, with
// `element` and `trigger` given by Gradio. Listeners stand on `element` and everything is looked
// up when needed, because Gradio may write the list anew.
const get = (what) => element.querySelector(`[data-${what}]`);
let asked = 0;
let timer = 0;

function show(ids) {
  const list = get("cards");
  const items = new Map([...list.children].map((item) => [item.dataset.id, item]));
  const shown = ids.filter((id) => items.has(id));
  for (const item of items.values()) item.hidden = true;
  for (const id of shown) {
    items.get(id).hidden = false;
    list.append(items.get(id)); // best first
  }
  const count = shown.length === items.size ? shown.length : `${shown.length} of ${items.size}`;
  get("found").textContent = `${count} model${count === 1 ? "" : "s"}`;
  get("none").hidden = shown.length > 0;
}

async function search() {
  const mine = ++asked;
  try {
    const answer = await fetch(`api/search?words=${encodeURIComponent(get("search").value)}`);
    const body = await answer.json();
    if (mine !== asked) return; // a newer question is under way
    if (answer.ok) show(body.ids);
    else get("found").textContent = body.error;
  } catch {
    if (mine !== asked) return;
    get("found").textContent = "The server does not answer. Is it still running?";
  }
}

element.addEventListener("input", (event) => {
  if (!event.target.matches("[data-search]")) return;
  clearTimeout(timer);
  timer = setTimeout(search, 120);
});

element.addEventListener("click", (event) => {
  const card = event.target.closest("[data-choose]");
  if (!card) return;
  for (const other of element.querySelectorAll("[data-choose]")) {
    other.setAttribute("aria-pressed", String(other === card));
  }
  trigger("select", { id: card.dataset.choose });
  // On a narrow page the model stands below the list: go there.
  if (matchMedia("(max-width: 820px)").matches) {
    document.getElementById("work")?.scrollIntoView({ block: "start" });
  }
});
