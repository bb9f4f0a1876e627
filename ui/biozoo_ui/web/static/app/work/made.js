// Images that the page itself opened: previews and results. They lie over an image, and are not
// offered as one to run on. Of this tab, through its reloads.

const KEY = "biozoo-made";
const MOST = 200;

const known = () => JSON.parse(sessionStorage.getItem(KEY) ?? "[]");

export function remember(layers) {
  const ids = [...new Set([...known(), ...layers.map((layer) => layer.image.id)])];
  sessionStorage.setItem(KEY, JSON.stringify(ids.slice(-MOST)));
}

export function given(images) {
  const made = new Set(known());
  return images.filter((image) => !made.has(image.id));
}
