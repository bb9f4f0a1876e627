// The viewer on a page of its own: /view?image=ID&over=ID&over=ID

import { createViewer } from "./index.js";

const asked = new URLSearchParams(location.search);
const overlays = asked.getAll("over").map(async (id) => {
  const url = `/api/images/${encodeURIComponent(id)}`;
  const answer = await fetch(url);
  const told = answer.ok ? await answer.json() : {};
  return { url, kind: told.kind === "labels" ? "labels" : "probability", name: told.name };
});
const image = `/api/images/${encodeURIComponent(asked.get("image") ?? "")}`;
const viewer = (window.viewer = createViewer(document.querySelector("#viewer"), {
  layers: [{ url: image, kind: "image" }, ...(await Promise.all(overlays))],
}));
viewer.on("ready", () => document.body.setAttribute("data-ready", ""));
