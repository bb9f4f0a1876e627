// Brings the bar into view when a run starts; not again while it grows.
let shown = false;

watch("value", () => {
  const bar = element.querySelector(".zoo-progress");
  if (bar && !shown) bar.scrollIntoView({ block: "nearest" });
  shown = Boolean(bar);
});
