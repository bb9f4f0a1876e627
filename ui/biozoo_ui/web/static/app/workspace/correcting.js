// What a person does with corrections: begins them, goes on with them, names classes, imports.

// Looks for what was painted on this image, now or on an earlier visit.
export async function recall(space) {
  const { image } = space.state;
  if (!image) {
    take(space, null);
    return;
  }
  const path = `api/annotations?image=${encodeURIComponent(image.id)}`;
  const got = await space.newest("annotations", () => space.api.get(path));
  if (!got || space.state.image?.id !== image.id) return;
  take(space, got.answer ?? [], got.error?.message ?? "");
}

function take(space, annotations, annotationError = "") {
  space.set({ annotations, annotationError, annotationNotes: [] });
  choose(space);
}

// The annotation that the address names becomes the one that is painted.
export function choose(space) {
  const { annotations, image } = space.state;
  const kind = space.params.correct;
  const found = annotations?.find((one) => one.annotation === kind) ?? null;
  space.set({ annotation: found });
  space.annotation.take(found, image?.id);
}

// `start`: a layer {image, at, scale} of objects to begin with. Returns whether it is there.
export async function begin(space, kind, { start = null, again = false } = {}) {
  const { image } = space.state;
  const asked = {
    image: image.id,
    kind,
    again,
    start: start && { image: start.image.id, at: start.at, scale: start.scale },
  };
  space.set({ annotating: true, annotationError: "", annotationNotes: [] });
  const got = await space.newest("annotate", () => space.api.post("api/annotations", asked));
  space.set({ annotating: false });
  if (!got || space.state.image?.id !== image.id) return false;
  if (got.error) {
    space.set({ annotationError: got.error.message });
    return false;
  }
  replace(space, got.answer);
  if (space.params.correct !== kind) space.choose({ correct: kind });
  choose(space);
  return true;
}

// What is painted with at first: the last class, or whichever object a stroke begins on.
export function atFirst({ annotation, classes }) {
  const scribbles = annotation === "classes";
  const value = scribbles ? (classes.at(-1)?.value ?? null) : null;
  return { tool: "brush", value, over: scribbles };
}

export const end = (space) => space.choose({ correct: undefined });

// How the annotation stands after an edit, as the server answered it.
export function edited(space, { version, counts, undo, redo, next }) {
  const { annotation } = space.state;
  if (!annotation || version < annotation.version) return;
  replace(space, { ...annotation, version, counts, undo, redo, next });
  space.set({ annotationError: "" });
}

function replace(space, annotation) {
  const others = (space.state.annotations ?? []).filter((one) => one.id !== annotation.id);
  const known = space.state.annotation?.id === annotation.id;
  space.set({
    annotations: [...others, annotation],
    ...(known ? { annotation } : {}),
  });
  if (known) space.annotation.take(annotation, space.state.image?.id);
}

// All classes that there are to be. Returns whether the server took them.
export async function setClasses(space, classes) {
  const { id } = space.state.annotation;
  try {
    const answer = await space.api.put(`api/annotations/${id}/classes`, { classes });
    if (space.state.annotation?.id === id) replace(space, answer);
    space.set({ annotationError: "" });
    return true;
  } catch (error) {
    space.set({ annotationError: error.message });
    return false;
  }
}

export async function importFile(space, file, { add, plane, viewer }) {
  const { id } = space.state.annotation;
  const query = new URLSearchParams({
    name: file.name,
    add,
    z: plane.z,
    time: plane.time,
    since: space.state.annotation.version,
  });
  space.set({ annotating: true, annotationError: "", annotationNotes: [] });
  try {
    const answer = await space.api.post(`api/annotations/${id}/files?${query}`, file);
    if (space.state.annotation?.id !== id) return;
    viewer?.editor?.take(answer);
    edited(space, answer);
    const done = ["yes", `${file.name} is imported.`];
    const notes = [done, ...answer.notes.map((words) => ["note", words])];
    space.set({ annotationNotes: notes });
    space.tools.announce(notes.map(([, words]) => words).join(" "));
    await refresh(space, id); // it may have brought classes along
  } catch (error) {
    space.set({ annotationError: error.message });
  } finally {
    space.set({ annotating: false });
  }
}

async function refresh(space, id) {
  const got = await space.newest("refresh", () => space.api.get(`api/annotations/${id}`));
  if (got?.answer && space.state.annotation?.id === id) replace(space, got.answer);
}

export async function discard(space) {
  const { id, annotation: kind } = space.state.annotation;
  space.set({ annotating: true });
  end(space); // first: its tiles are asked for no more
  try {
    await space.api.remove(`api/annotations/${id}`);
    space.set({ annotations: (space.state.annotations ?? []).filter((one) => one.id !== id) });
  } catch (error) {
    space.choose({ correct: kind });
    space.set({ annotationError: error.message });
  } finally {
    space.set({ annotating: false });
  }
}
