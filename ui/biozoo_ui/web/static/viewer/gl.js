// The graphics card: one program per kind of layer, one texture per tile, one rectangle per draw.

import { HEAT_GLSL, LABEL_GLSL, rgb } from "./colours.js";

const VERTEX = `#version 300 es
uniform vec4 u_clip;  // left, top, right, bottom on the screen, -1 to 1
uniform vec4 u_part;  // the same corners in the tile, in its pixels
out vec2 v_at;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  v_at = mix(u_part.xy, u_part.zw, corner);
  gl_Position = vec4(mix(u_clip.xy, u_clip.zw, corner), 0.0, 1.0);
}`;

const HEADER = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
precision highp sampler2D;
in vec2 v_at;
out vec4 o_colour;
uniform float u_opacity;
`;

// Integer textures cannot be filtered by the card, so the four neighbours are mixed here; one
// clearly enlarged pixel of the file stays the square that was measured.
const VALUE = `
uniform SAMPLER u_tile;
uniform bool u_smooth;
uniform vec2 u_window;  // darkest value, 1 / (brightest - darkest)
float pixel(ivec2 at) {
  float value = float(texelFetch(u_tile, clamp(at, ivec2(0), textureSize(u_tile, 0) - 1), 0).r);
  return KNOWN(value);
}
float value() {
  float found;
  if (u_smooth) {
    vec2 at = v_at - 0.5;
    ivec2 first = ivec2(floor(at));
    vec2 rest = fract(at);
    found = mix(
      mix(pixel(first), pixel(first + ivec2(1, 0)), rest.x),
      mix(pixel(first + ivec2(0, 1)), pixel(first + ivec2(1, 1)), rest.x), rest.y);
  } else {
    found = pixel(ivec2(floor(v_at)));
  }
  return clamp((found - u_window.x) * u_window.y, 0.0, 1.0);
}`;

const IMAGE = `${VALUE}
uniform vec3 u_colour;
void main() { o_colour = vec4(u_colour * value() * u_opacity, 1.0); }`;

const MAP = `${VALUE} ${HEAT_GLSL}
void main() {
  float t = value();
  o_colour = vec4(heat(t), t * u_opacity);
}`;

// An outline is where a point a little aside has another label. Near a tile's edge the neighbouring
// tile is looked at too, else an object that ends just there would stay open.
const labels = (look) => `
uniform usampler2D u_tile;
uniform vec2 u_thick;  // of the outline, in the tile's pixels; 0: filled
uniform vec3 u_palette[32];  // of the first labels, where they have colours of their own
uniform uint u_named;  // how many of these there are
${LABEL_GLSL}
uint look(usampler2D tile, ivec2 at) {
  return texelFetch(tile, clamp(at, ivec2(0), textureSize(tile, 0) - 1), 0).r;
}
${look}
void main() {
  uint own = look(u_tile, ivec2(floor(v_at)));
  if (own == 0u) discard;
  if (u_thick.x > 0.0
    && label(v_at + vec2(u_thick.x, 0.0)) == own && label(v_at - vec2(u_thick.x, 0.0)) == own
    && label(v_at + vec2(0.0, u_thick.y)) == own && label(v_at - vec2(0.0, u_thick.y)) == own)
    discard;
  o_colour = vec4(own <= u_named ? u_palette[own - 1u] : labelColour(own), u_opacity);
}`;

const INNER_LABELS = labels("uint label(vec2 at) { return look(u_tile, ivec2(floor(at))); }");

const EDGE_LABELS = labels(`
uniform usampler2D u_left, u_right, u_above, u_below;
uniform bvec4 u_beside;  // which of the four are there
uint label(vec2 where) {
  ivec2 size = textureSize(u_tile, 0);
  ivec2 at = ivec2(floor(where));
  if (at.x < 0 && u_beside.x) return look(u_left, ivec2(at.x + textureSize(u_left, 0).x, at.y));
  if (at.x >= size.x && u_beside.y) return look(u_right, ivec2(at.x - size.x, at.y));
  if (at.y < 0 && u_beside.z) return look(u_above, ivec2(at.x, at.y + textureSize(u_above, 0).y));
  if (at.y >= size.y && u_beside.w) return look(u_below, ivec2(at.x, at.y - size.y));
  return look(u_tile, at);
}`);

const PLAIN = `
uniform vec3 u_colour;
void main() { o_colour = vec4(u_colour, u_opacity); }`;

export class NoGraphics extends Error {}

export class Graphics {
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false });
    if (!this.gl) throw new NoGraphics("This browser cannot show images here: it has no WebGL 2.");
    this.restore();
  }

  /** After the first start and after the card was reset: nothing of before is valid. */
  restore() {
    const { gl } = this;
    this.sync = null;
    this.cost = 0;
    this.life = {}; // textures of an earlier life are made anew
    this.programs = {
      image: this.#program(IMAGE, "usampler2D"),
      imageFloat: this.#program(IMAGE, "sampler2D"),
      map: this.#program(MAP, "usampler2D"),
      mapFloat: this.#program(MAP, "sampler2D"),
      labels: this.#program(INNER_LABELS, "usampler2D"),
      labelsEdge: this.#program(EDGE_LABELS, "usampler2D"),
      plain: this.#program(PLAIN, "usampler2D"),
    };
    gl.bindVertexArray(gl.createVertexArray());
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.enable(gl.BLEND);
    this.outside = { width: 1, height: 1, pixels: new Uint32Array(1), texture: null };
  }

  begin(colour) {
    const { gl, canvas } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(...rgb(colour), 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
  }

  /** Draw only what lies right of this column of the canvas. */
  rightOf(column) {
    const { gl, canvas } = this;
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(column, 0, Math.max(0, canvas.width - column), canvas.height);
  }

  /** Draw only what lies left of it. */
  leftOf(column) {
    const { gl, canvas } = this;
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(0, 0, Math.max(0, Math.min(column, canvas.width)), canvas.height);
  }

  /** A rectangle of one colour. */
  plain(clip, colour, opacity) {
    const { gl } = this;
    this.#use("plain", clip, [0, 0, 1, 1], opacity);
    gl.uniform3f(this.at("u_colour"), ...colour);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /** Part of a channel's tile, added to what is there. */
  image(tile, clip, part, channel, { smooth, opacity }) {
    const { gl } = this;
    this.#use(this.#for("image", tile), clip, part, opacity);
    this.#values(tile, channel, smooth);
    gl.uniform3f(this.at("u_colour"), ...rgb(channel.color));
    gl.blendFunc(gl.ONE, gl.ONE);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /** Part of a tile of a map: clear at 0, solid at 1. */
  map(tile, clip, part, channel, { smooth, opacity }) {
    const { gl } = this;
    this.#use(this.#for("map", tile), clip, part, opacity);
    this.#values(tile, channel, smooth);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /**
   * Part of a tile of labels. `beside`: its neighbours left, right, above and below where the part
   * reaches so near that an outline must know them; 0 is beyond the image, null is unknown.
   * `palette`: colours of the first labels, three numbers each, or null.
   */
  labels(tile, clip, part, { beside, thick, opacity, palette = null }) {
    const { gl } = this;
    this.#use(beside ? "labelsEdge" : "labels", clip, part, opacity);
    const around = (beside ?? []).map((one) => (one === 0 ? this.outside : one));
    [tile, ...around].forEach((one, i) => {
      gl.activeTexture(gl.TEXTURE0 + i);
      gl.bindTexture(gl.TEXTURE_2D, this.#texture(one ?? tile));
      gl.uniform1i(this.at(["u_tile", "u_left", "u_right", "u_above", "u_below"][i]), i);
    });
    if (beside) gl.uniform4i(this.at("u_beside"), ...around.map((one) => (one ? 1 : 0)));
    gl.uniform2f(this.at("u_thick"), ...thick);
    gl.uniform1ui(this.at("u_named"), palette ? palette.length / 3 : 0);
    if (palette) gl.uniform3fv(this.at("u_palette"), palette);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /** The frame is complete; `busy` tells until when the card works on it. */
  end() {
    const { gl } = this;
    this.sync = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    this.began = performance.now();
    gl.flush();
  }

  /**
   * Whether the card still draws the frame before. Without a graphics card a frame takes long, and
   * frames that queue up would hold back everything else on the page.
   */
  get busy() {
    const { gl, sync } = this;
    if (!sync || gl.isContextLost()) return false;
    const took = performance.now() - this.began;
    if (gl.clientWaitSync(sync, 0, 0) === gl.TIMEOUT_EXPIRED && took < 2000) return true;
    gl.deleteSync(sync);
    this.sync = null;
    this.cost = 0.5 * (this.cost + took); // milliseconds, of the latest frames
    return false;
  }

  release(tile) {
    if (tile.texture && tile.life === this.life) this.gl.deleteTexture(tile.texture);
    tile.texture = null;
  }

  at(name) {
    const { program, places } = this.current;
    if (!(name in places)) places[name] = this.gl.getUniformLocation(program, name);
    return places[name];
  }

  #for(kind, tile) {
    return tile.pixels instanceof Float32Array ? `${kind}Float` : kind;
  }

  #values(tile, { low, high }, smooth) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.#texture(tile));
    gl.uniform1i(this.at("u_tile"), 0);
    gl.uniform1i(this.at("u_smooth"), smooth ? 1 : 0);
    gl.uniform2f(this.at("u_window"), low, 1 / Math.max(high - low, 1e-30));
  }

  #use(name, clip, part, opacity) {
    const { gl } = this;
    if (this.current !== this.programs[name]) {
      this.current = this.programs[name];
      gl.useProgram(this.current.program);
    }
    gl.uniform4f(this.at("u_clip"), ...clip);
    gl.uniform4f(this.at("u_part"), ...part);
    gl.uniform1f(this.at("u_opacity"), opacity);
  }

  #texture(tile) {
    if (tile.texture && tile.life === this.life) return tile.texture;
    const { gl } = this;
    const [inside, outside, type] = {
      Uint8Array: [gl.R8UI, gl.RED_INTEGER, gl.UNSIGNED_BYTE],
      Uint16Array: [gl.R16UI, gl.RED_INTEGER, gl.UNSIGNED_SHORT],
      Uint32Array: [gl.R32UI, gl.RED_INTEGER, gl.UNSIGNED_INT],
      Float32Array: [gl.R32F, gl.RED, gl.FLOAT],
    }[tile.pixels.constructor.name];
    tile.texture = gl.createTexture();
    tile.life = this.life;
    gl.bindTexture(gl.TEXTURE_2D, tile.texture);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T])
      gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
      gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
    gl.texImage2D(
      gl.TEXTURE_2D, 0, inside, tile.width, tile.height, 0, outside, type, tile.pixels,
    );
    return tile.texture;
  }

  #program(fragment, sampler) {
    const { gl } = this;
    const program = gl.createProgram();
    const defines = {
      usampler2D: "#define SAMPLER usampler2D\n#define KNOWN(value) value\n",
      sampler2D:
        "#define SAMPLER sampler2D\n" +
        "#define KNOWN(value) (isnan(value) ? u_window.x : value)\n",
    };
    const sources = [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, HEADER + defines[sampler] + fragment],
    ];
    for (const [type, source] of sources) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost())
        throw new NoGraphics(`The graphics card refused a program: ${gl.getShaderInfoLog(shader)}`);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    return { program, places: {} };
  }
}
