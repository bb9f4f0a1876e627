// From pointer or keyboard to a line of points: drawn in one go, or set corner by corner.
// Places are {y, x} in pixels of the image; distances are told in CSS pixels by `scale`.

const NEAR = 8; // CSS pixels: so near the first corner an outline closes
const STILL = 4; // CSS pixels: who moves less has clicked

export class Gesture {
  /** `kind`: as in tools.js. */
  constructor(kind) {
    this.kind = kind;
    this.points = [];
    this.corners = false; // set one by one
    this.free = null; // where the next corner would be
    this.begun = null;
  }

  get empty() {
    return this.points.length === 0;
  }

  begin(place) {
    this.begun = place;
    this.moved = false;
    if (this.kind === "line" || this.kind === "place" || this.empty) this.points.push(place);
  }

  move(place, scale) {
    if (!this.begun) {
      if (this.corners) this.free = place;
      return;
    }
    const apart = (a) => Math.hypot(a.y - place.y, a.x - place.x) * scale;
    if (apart(this.begun) >= STILL) this.moved = true;
    if (this.kind === "place") return;
    if (this.kind === "cut" && !this.corners) {
      this.points = [this.points[0], place];
      return;
    }
    if (this.corners && !this.moved) return;
    if (apart(this.points.at(-1)) >= 1) this.points.push(place);
  }

  /** Whether it is complete; else the next corner is waited for. */
  end(place, scale) {
    const begun = this.begun;
    this.begun = null;
    if (!begun) return false;
    if (this.kind === "line" || this.kind === "place") return true;
    if (this.moved && !this.corners) return this.kind === "cut" || this.points.length > 2;
    // A click: a corner, unless it closes the outline.
    const closes = () =>
      Math.hypot(this.points[0].y - place.y, this.points[0].x - place.x) * scale < NEAR;
    if (this.corners && this.kind === "loop" && this.points.length > 2 && closes()) return true;
    if (this.corners && !this.moved) this.points.push(place);
    this.corners = true;
    this.free = place;
    return this.kind === "cut" && this.points.length > 1;
  }

  /** Enter: whether that is enough of it. */
  finish() {
    return this.points.length > (this.kind === "loop" ? 2 : 1);
  }
}
