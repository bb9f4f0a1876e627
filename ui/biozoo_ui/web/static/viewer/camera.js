// Where one looks: the point of the image in the middle of the view, CSS pixels per image pixel.
// Coordinates are edges of level 0 pixels of the first layer: pixel (0, 0) reaches from 0 to 1.

const MOST = 80; // CSS pixels per image pixel
const MARGIN = 0.97; // of the view that a fitted image takes

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export class Camera {
  constructor() {
    this.image = { y: 1, x: 1 };
    this.view = { height: 1, width: 1 };
    // CSS pixels under tools, where a fitted image does not lie
    this.under = { top: 0, bottom: 0, left: 0, right: 0 };
    Object.assign(this, { y: 0.5, x: 0.5, scale: 1, fitted: true });
  }

  /** The image's size in pixels; the view is fitted to it. */
  setImage(y, x) {
    this.image = { y, x };
    this.fit();
  }

  /** The view's size in CSS pixels. A fitted image stays fitted, else the middle stays. */
  resize(height, width, { top = 0, bottom = 0, left = 0, right = 0 } = {}) {
    this.view = { height: Math.max(1, height), width: Math.max(1, width) };
    const [tall, wide] = [height / 3, width / 3];
    this.under = {
      top: Math.min(top, tall),
      bottom: Math.min(bottom, tall),
      left: Math.min(left, wide),
      right: Math.min(right, wide),
    };
    if (this.fitted) this.fit();
    else this.set(this);
  }

  get fitScale() {
    const { view, image, under } = this;
    const tall = view.height - under.top - under.bottom;
    const wide = view.width - under.left - under.right;
    return MARGIN * Math.min(tall / image.y, wide / image.x);
  }

  fit() {
    const scale = Math.min(MOST, this.fitScale);
    const { top, bottom, left, right } = this.under;
    const y = this.image.y / 2 - (top - bottom) / 2 / scale;
    const x = this.image.x / 2 - (left - right) / 2 / scale;
    Object.assign(this, { y, x, scale, fitted: true });
  }

  /** The middle stays within the image, the zoom between half of fitted and 80 times. */
  set({ y = this.y, x = this.x, scale = this.scale }) {
    this.scale = clamp(scale, Math.min(0.5 * this.fitScale, 1), MOST);
    this.y = clamp(y, 0, this.image.y);
    this.x = clamp(x, 0, this.image.x);
    this.fitted = false;
  }

  pan(right, down) {
    this.set({ y: this.y + down / this.scale, x: this.x + right / this.scale });
  }

  /** What lies under the point (left, top) of the view stays there. */
  zoomAt(factor, left = this.view.width / 2, top = this.view.height / 2) {
    const before = this.toImage(left, top);
    this.set({ scale: this.scale * factor });
    const after = this.toImage(left, top);
    this.set({ y: this.y + before.y - after.y, x: this.x + before.x - after.x });
  }

  toImage(left, top) {
    return {
      y: this.y + (top - this.view.height / 2) / this.scale,
      x: this.x + (left - this.view.width / 2) / this.scale,
    };
  }

  toView(y, x) {
    return {
      top: (y - this.y) * this.scale + this.view.height / 2,
      left: (x - this.x) * this.scale + this.view.width / 2,
    };
  }

  /** What is seen, as edges in image pixels; may reach beyond the image. */
  box() {
    const [from, to] = [this.toImage(0, 0), this.toImage(this.view.width, this.view.height)];
    return { y0: from.y, x0: from.x, y1: to.y, x1: to.x };
  }
}
