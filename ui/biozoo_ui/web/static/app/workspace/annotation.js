// The annotation that is being painted, for the steps that learn from it.
//
//   space.annotation.current()  -> {id, kind, version, image} or null while nothing is painted
//   const off = space.annotation.on("edited", ({id, kind, version, image}) => ...)
//
// `kind`: "classes" (0 unpainted, 1 background, 2... classes) or "instances" (0 background, 1...
// objects). `version` grows with every saved edit, undo and redo. `image`: id of the image. Events:
//
//   opened   another annotation is current now, or none (null)
//   edited   an edit, undo, redo or import is saved on the server; told once per answer
//
// A listener is called after the answer, so `GET /api/annotations/ID` shows what it was told.

const EVENTS = ["opened", "edited"];

export class AnnotationHandle {
  #now = null;
  #listeners = new Map(EVENTS.map((event) => [event, new Set()]));

  current() {
    return this.#now;
  }

  // Returns what ends it.
  on(event, listener) {
    const listeners = this.#listeners.get(event);
    if (!listeners) throw new Error(`No event "${event}"; there are ${EVENTS.join(", ")}.`);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  // ------------------------------------------------------------------ for the step "Correct"

  // `told`: {id, annotation: kind, version} as the server describes an annotation, or null.
  take(told, image) {
    const before = this.#now;
    this.#now = told
      ? { id: told.id, kind: told.annotation, version: told.version, image }
      : null;
    if (before?.id !== this.#now?.id) this.#tell("opened");
    else if (before && before.version !== this.#now.version) this.#tell("edited");
  }

  #tell(event) {
    for (const listener of [...this.#listeners.get(event)]) {
      try {
        listener(this.#now);
      } catch (error) {
        reportError(error); // a listener's mistake is not that of who paints
      }
    }
  }
}
