// Pointer, wheel and keys on a map of points: moving, hovering, picking, drawing a lasso, walking.

import { showTip } from "./words.js";

const PAN_PIXELS = 40;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ZOOM = { "+": 1.4, "=": 1.4, "-": 1 / 1.4, _: 1 / 1.4 };

// `onPick` is told a place, -1 for none; `onSelect` places, and whether they are added; `onWalk` where the keyboard
// is; `tell` says what stands beside a point.
export class Gestures {
  constructor(points, tip, { onPick, onSelect, onWalk, tell }) {
    Object.assign(this, { points, tip, onPick, onSelect, onWalk, tell, held: null, lasso: false });
    const { canvas } = points;
    canvas.addEventListener("pointerdown", (event) => this.hold(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", () => this.letGo());
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => { tip.hidden = true; points.walkTo(-1); });
  }

  // While it is on, a pointer that is dragged draws a lasso.
  setLasso(on) {
    this.lasso = on;
    this.points.canvas.classList.toggle("lasso", on);
  }

  // ---- the pointer

  hold(event) {
    const what = event.shiftKey ? "rectangle" : this.lasso ? "lasso" : "pan";
    this.held = { what, from: [event.offsetX, event.offsetY], last: [event.offsetX, event.offsetY], moved: false };
    this.outline = [this.held.from];
    this.points.canvas.setPointerCapture(event.pointerId);
  }

  move(event) {
    const { offsetX: x, offsetY: y } = event;
    if (!this.held) return this.hover(event);
    const [byX, byY] = [x - this.held.last[0], y - this.held.last[1]];
    if (!this.held.moved && Math.hypot(byX, byY) < 4) return;
    this.tip.hidden = true;
    Object.assign(this.held, { last: [x, y], moved: true });
    if (this.held.what === "pan") {
      if (this.points.view) this.points.pan(byX, byY);
      return;
    }
    this.outline = this.held.what === "lasso" ? [...this.outline, [x, y]] : corners(this.held.from, [x, y]);
    this.points.trace(this.outline);
  }

  release(event) {
    const { held } = this;
    this.letGo();
    if (!held) return;
    if (!held.moved) this.onPick(this.points.nearest(event.offsetX, event.offsetY));
    else if (held.what !== "pan") this.onSelect(this.points.within(this.outline), event.ctrlKey || event.metaKey);
  }

  letGo() {
    this.held = null;
    this.points.trace(null);
  }

  hover(event) {
    const place = this.points.nearest(event.offsetX, event.offsetY);
    this.points.canvas.style.cursor = this.lasso ? "crosshair" : place < 0 ? "grab" : "pointer";
    showTip(this.tip, event, place < 0 ? "" : this.tell(place));
  }

  // The page scrolls over a map that nobody has touched.
  wheel(event) {
    if (!event.ctrlKey && document.activeElement !== this.points.canvas) return;
    event.preventDefault();
    this.points.zoom(Math.exp(-event.deltaY * 0.002), event.offsetX, event.offsetY);
  }

  // ---- the keyboard

  key(event) {
    const { points } = this;
    if (event.ctrlKey || event.metaKey || event.altKey || !points.view) return;
    const arrow = ARROWS[event.key];
    if (arrow && event.shiftKey) points.pan(...arrow.map((by) => -by * PAN_PIXELS));
    else if (arrow) this.walk(arrow);
    else if (ZOOM[event.key]) points.zoom(ZOOM[event.key]);
    else if (event.key === "0") points.reset();
    else if (event.key === "Escape") this.escape();
    else if (event.key === "Enter" && points.cursor >= 0) this.onPick(points.cursor);
    else if (event.key === " " && points.cursor >= 0) this.toggle(points.cursor);
    else return;
    event.preventDefault();
  }

  walk(direction) {
    const { points } = this;
    const from = points.cursor >= 0 ? points.cursor : points.spot?.place ?? -1;
    const next = from < 0 ? points.nearest(points.wide / 2, points.tall / 2, Infinity) : nextOf(points, from, direction);
    this.stand(next < 0 ? from : next);
  }

  stand(place) {
    const { points } = this;
    points.walkTo(place);
    if (place < 0) return;
    const [box, [x, y]] = [points.canvas.getBoundingClientRect(), points.at(place)];
    showTip(this.tip, { clientX: box.left + x, clientY: box.top + y }, this.tell(place));
    this.onWalk(place);
  }

  toggle(place) {
    const { selected } = this.points;
    this.onSelect(selected.has(place) ? [...selected].filter((each) => each !== place) : [...selected, place], false);
  }

  // First what is drawn, then where the keyboard stands and what it chose, then the selection.
  escape() {
    const { points } = this;
    if (this.held) return this.letGo();
    this.tip.hidden = true;
    if (points.cursor < 0 && !points.spot) return this.onSelect([], false);
    points.walkTo(-1);
    this.onPick(-1);
  }
}

function corners([left, top], [right, bottom]) {
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

// The nearest lit point that lies rather in this direction than across it, or else anywhere to that side. Of points
// in one place the one after another.
function nextOf(points, from, [right, down]) {
  const [fromX, fromY] = points.at(from);
  let [best, least] = [-1, Infinity];
  points.x.forEach((_, place) => {
    if (place === from || !points.isLit(place)) return;
    const [x, y] = points.at(place);
    const along = (x - fromX) * right + (y - fromY) * down;
    const across = Math.abs((x - fromX) * down + (y - fromY) * right);
    const isSame = along === 0 && across === 0 && (place - from) * (right + down) > 0;
    if (along <= 0 && !isSame) return;
    const far = isSame ? -1 / Math.abs(place - from) : along + 2 * across + (across > along ? 1e6 : 0);
    if (far < least) [best, least] = [place, far];
  });
  return best;
}
