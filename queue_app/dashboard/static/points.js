// The points of the embeddings' map on a canvas: drawing, moving, and which one is meant.

import { showTip } from "./words.js";

const CLICK_PIXELS = 12; // so far from a point it still is the one that is meant
const MANY = 5000; // so many points are drawn small
const PAN = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const ZOOM = { "+": 1.4, "=": 1.4, "-": 1 / 1.4, _: 1 / 1.4 };

export class PointMap {
  constructor(canvas, tip, { onPick, tell }) {
    Object.assign(this, { canvas, tip, onPick, tell, held: null, due: false, wide: 0, tall: 0 });
    this.show([], []);
    canvas.addEventListener("pointerdown", (event) => this.hold(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", () => { this.held = null; });
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Whatever was marked and wherever it was looked at, forget it.
  show(x, y) {
    Object.assign(this, { x, y, order: [], lit: null, chosen: -1, near: [], view: null });
    this.draw();
  }

  // The colour of every point; `lit` is a set of places, null for all. What has no value lies lowest.
  paint({ colour, hasValue }, lit) {
    const places = this.x.map((_, place) => place);
    const order = [...places.filter((place) => !hasValue(place)), ...places.filter(hasValue)];
    Object.assign(this, { colour, order, lit });
    this.draw();
  }

  mark(chosen, near) {
    Object.assign(this, { chosen, near });
    if (chosen >= 0 && !this.isSeen(chosen)) Object.assign(this.view, { x: this.x[chosen], y: this.y[chosen] });
    this.draw();
  }

  // ---- where a point is on the screen

  // All points, with a margin; `scale` is in pixels, x and y are in the middle.
  whole() {
    const [left, right, low, high] = [...range(this.x), ...range(this.y)];
    const fits = Math.min((this.wide - 40) / (right - left || 1), (this.tall - 40) / (high - low || 1));
    return { scale: Math.max(fits, 1), x: (left + right) / 2, y: (low + high) / 2 };
  }

  at(place) {
    return [this.wide / 2 + (this.x[place] - this.view.x) * this.view.scale,
      this.tall / 2 - (this.y[place] - this.view.y) * this.view.scale];
  }

  isSeen(place) {
    if (!this.view) return true;
    const [x, y] = this.at(place);
    return x > 0 && y > 0 && x < this.wide && y < this.tall;
  }

  nearest({ offsetX, offsetY }) {
    let [best, least] = [-1, CLICK_PIXELS ** 2];
    for (let place = 0; this.view && place < this.x.length; place += 1) {
      const [x, y] = this.at(place);
      const far = (x - offsetX) ** 2 + (y - offsetY) ** 2;
      if (far < least && this.isLit(place)) [best, least] = [place, far];
    }
    return best;
  }

  isLit(place) {
    return !this.lit || this.lit.has(place) || place === this.chosen || this.near.includes(place);
  }

  // ---- drawing

  draw() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => { this.due = false; this.drawNow(); });
  }

  drawNow() {
    [this.wide, this.tall] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (!this.wide || !this.x.length) return;
    this.view ||= this.whole();
    const scale = window.devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [this.wide, this.tall].map((pixels) => Math.round(pixels * scale));
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    const radius = this.x.length > MANY ? 1.5 : 3.2;
    this.dots(pen, this.order.filter((place) => !this.isLit(place)), radius, 0.13);
    this.dots(pen, this.order.filter((place) => this.isLit(place)), radius, 0.8);
    this.marks(pen, radius);
  }

  dots(pen, places, radius, alpha) {
    pen.globalAlpha = alpha;
    for (const place of places) {
      const [x, y] = this.at(place);
      pen.fillStyle = this.colour(place);
      if (this.x.length > MANY) {
        pen.fillRect(x - radius, y - radius, 2 * radius, 2 * radius); // so small, none can tell; far faster
      } else {
        pen.beginPath();
        pen.arc(x, y, radius, 0, 7);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
  }

  marks(pen, radius) {
    if (this.chosen < 0) return;
    const from = this.at(this.chosen);
    pen.strokeStyle = pen.fillStyle = getComputedStyle(this.canvas).color;
    for (const place of this.near) {
      const to = this.at(place);
      pen.lineWidth = 1;
      pen.globalAlpha = 0.45;
      pen.beginPath();
      pen.moveTo(...from);
      pen.lineTo(...to);
      pen.stroke();
      pen.globalAlpha = 1;
      this.ring(pen, to, radius + 2, 1.5);
    }
    this.ring(pen, from, radius + 4, 2.5);
  }

  ring(pen, [x, y], radius, thickness) {
    pen.lineWidth = thickness;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
    pen.stroke();
  }

  // ---- moving

  pan(byX, byY) {
    this.view.x -= byX / this.view.scale;
    this.view.y += byY / this.view.scale;
    this.draw();
  }

  // What lies under (x, y), by default the middle, stays there.
  zoom(factor, x = this.wide / 2, y = this.tall / 2) {
    if (!this.view) return;
    const least = this.whole().scale / 2;
    const now = Math.min(Math.max(this.view.scale * factor, least), least * 2000);
    const [right, down] = [x - this.wide / 2, y - this.tall / 2];
    this.view.x += right / this.view.scale - right / now;
    this.view.y -= down / this.view.scale - down / now;
    this.view.scale = now;
    this.draw();
  }

  reset() {
    this.view = null;
    this.draw();
  }

  hold(event) {
    this.held = { x: event.offsetX, y: event.offsetY, moved: false };
    this.canvas.setPointerCapture(event.pointerId);
  }

  move(event) {
    if (!this.held) return this.hover(event);
    const [byX, byY] = [event.offsetX - this.held.x, event.offsetY - this.held.y];
    if (!this.held.moved && Math.hypot(byX, byY) < 4) return;
    this.tip.hidden = true;
    this.held = { x: event.offsetX, y: event.offsetY, moved: true };
    if (this.view) this.pan(byX, byY);
  }

  release(event) {
    const isClick = this.held && !this.held.moved;
    this.held = null;
    if (isClick) this.onPick(this.nearest(event));
  }

  hover(event) {
    const place = this.nearest(event);
    this.canvas.style.cursor = place < 0 ? "grab" : "pointer";
    showTip(this.tip, event, place < 0 ? "" : this.tell(place));
  }

  // The page scrolls over a map that nobody has touched.
  wheel(event) {
    if (!event.ctrlKey && document.activeElement !== this.canvas) return;
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * 0.002), event.offsetX, event.offsetY);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.view) return;
    if (PAN[event.key]) this.pan(...PAN[event.key].map((by) => by * 40));
    else if (ZOOM[event.key]) this.zoom(ZOOM[event.key]);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape") this.onPick(-1);
    else return;
    event.preventDefault();
  }
}

function range(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}
