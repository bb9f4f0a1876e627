// Other tabs of this browser that show the same annotation: each sees the others' strokes at once.

/** Returns what ends it; `editor.news` is the newest version that another tab has told of. */
export function listenForTabs(editor) {
  if (typeof BroadcastChannel === "undefined") return () => {};
  const channel = new BroadcastChannel(`biozoo painted ${editor.url}`);
  channel.onmessage = ({ data }) => {
    editor.news = Math.max(editor.news, Number(data) || 0);
    editor.look();
  };
  const off = editor.viewer.on("edited", ({ version }) => {
    if (version > editor.news) channel.postMessage(version); // else they know it
  });
  return () => {
    off();
    channel.close();
  };
}
