// What is being drawn and not in the tiles yet, and the cursor: lines over the image.

import { make } from "../dom.js";

const CASING = "rgb(0 0 0 / 65%)";

export class Ink {
  constructor() {
    this.canvas = make("canvas", { class: "zv-ink", "aria-hidden": "true" });
    this.context = this.canvas.getContext("2d");
  }

  /**
   * `camera`: where one looks; `strokes`: [{gesture, points, radius, color, opacity, free}];
   * `ring`: {y, x, radius, dashed} in pixels of the image, or null.
   */
  draw(camera, strokes, ring) {
    const { height, width } = camera.view;
    const ratio = devicePixelRatio;
    const [tall, wide] = [Math.round(height * ratio), Math.round(width * ratio)];
    const { canvas, context } = this;
    if (canvas.height !== tall || canvas.width !== wide)
      Object.assign(canvas, { height: tall, width: wide });
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const at = ({ y, x }) => {
      const { top, left } = camera.toView(y, x);
      return [left, top];
    };
    for (const stroke of strokes) this.#stroke(stroke, at, camera.scale);
    if (ring) this.#ring(at(ring), ring.radius * camera.scale, ring.dashed);
  }

  #stroke({ gesture, points, radius, color, opacity, free }, at, scale) {
    const { context } = this;
    if (!points.length || gesture === "place") return;
    const line = [...points, ...(free ? [free] : [])].map(at);
    context.globalAlpha = opacity;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...line[0]);
    for (const place of line.slice(1)) context.lineTo(...place);
    if (gesture === "line") {
      if (line.length === 1) context.lineTo(line[0][0] + 0.01, line[0][1]);
      context.strokeStyle = color;
      context.lineWidth = Math.max(1, 2 * radius * scale);
      context.stroke();
      context.globalAlpha = 1;
      return;
    }
    if (gesture === "loop" && line.length > 2) {
      context.fillStyle = color;
      context.globalAlpha = opacity / 2;
      context.fill();
    }
    context.globalAlpha = 1;
    for (const [style, thick] of [[CASING, 4], [color, 2]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: thick });
      context.stroke();
    }
    if (gesture === "loop" && free) this.#dot(line[0], color);
  }

  #dot([left, top], color) {
    const { context } = this;
    context.beginPath();
    context.arc(left, top, 5, 0, 2 * Math.PI);
    Object.assign(context, { fillStyle: color, strokeStyle: CASING, lineWidth: 1.5 });
    context.fill();
    context.stroke();
  }

  #ring([left, top], radius, dashed) {
    const { context } = this;
    const size = Math.max(1.5, radius);
    for (const [style, thick] of [[CASING, 3], ["#fff", 1.5]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: thick });
      context.setLineDash(dashed ? [4, 4] : []);
      context.beginPath();
      context.arc(left, top, size, 0, 2 * Math.PI);
      context.stroke();
    }
    context.setLineDash([]);
  }
}
