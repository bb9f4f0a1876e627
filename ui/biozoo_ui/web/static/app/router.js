// The address names the view and all that is chosen in it: "#/run?model=nuclei-fluo&image=abc".
// So a reload, the back button and a bookmark find everything again.

const VIEWS = ["browse", "model", "run", "compare", "jobs"];

// "#/models/a%2Fb?x=1" -> {view: "model", params: {id: "a/b", x: "1"}}
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const params = Object.fromEntries(new URLSearchParams(query));
  const [first, ...rest] = path.split("/");
  if (first === "models" && rest.length) {
    return { view: "model", params: { ...params, id: decoded(rest.join("/")) } };
  }
  if (VIEWS.includes(first) && first !== "model") return { view: first, params };
  return { view: "browse", params: path === "" || first === "models" ? params : {} };
}

// An address may be anything that somebody typed.
export function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// The other way round; what is empty is left out.
export function address(view, params = {}) {
  const { id, ...rest } = params;
  const kept = Object.entries(view === "model" ? rest : params).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  const query = new URLSearchParams(kept.map(([key, value]) => [key, String(value)])).toString();
  const path = { browse: "", model: `models/${encodeURIComponent(id)}` }[view] ?? view;
  return `#/${path}${query ? `?${query}` : ""}`;
}
