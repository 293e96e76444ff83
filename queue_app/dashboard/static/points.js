// The points of a map on a canvas: where each lies, and drawing them.

export const MANY = 5000; // so many points are drawn small
const CLICK_PIXELS = 12; // so far from a point it still is the one that is meant
const MARGIN = 40;
const DIM = 0.13;

export class PointMap {
  constructor(canvas) {
    Object.assign(this, { canvas, due: false, wide: 0, tall: 0 });
    this.show([], []);
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Whatever was marked and wherever it was looked at, forget it.
  show(x, y) {
    Object.assign(this, { x, y, order: [], lit: null, spot: null, near: [], view: null });
    Object.assign(this, { selected: new Set(), cursor: -1, outline: null });
    this.draw();
  }

  // The colour of every point; `lit` is a set of places, null for all. What has no value lies lowest.
  paint({ colour, hasValue }, lit) {
    const places = this.x.map((_, place) => place);
    const order = [...places.filter((place) => !hasValue(place)), ...places.filter(hasValue)];
    Object.assign(this, { colour, order, lit });
    this.draw();
  }

  // `spot` is where the chosen record lies: x, y, and its place, -1 for one that is not drawn.
  mark(spot, near) {
    Object.assign(this, { spot, near });
    if (spot) this.bringIntoSight(spot);
    this.draw();
  }

  select(places) {
    this.selected = new Set(places);
    this.draw();
  }

  // Where the keyboard is; -1 for nowhere.
  walkTo(place) {
    this.cursor = place;
    if (place >= 0) this.bringIntoSight({ x: this.x[place], y: this.y[place] });
    this.draw();
  }

  // The lasso or rectangle that is being drawn, as pixels [x, y]; null for none.
  trace(outline) {
    this.outline = outline;
    this.draw();
  }

  // ---- where a point is on the screen

  // All points, with a margin; `scale` is in pixels, x and y are in the middle.
  whole() {
    const [left, right, low, high] = [...range(this.x), ...range(this.y)];
    const fits = Math.min((this.wide - MARGIN) / (right - left || 1), (this.tall - MARGIN) / (high - low || 1));
    return { scale: Math.max(fits, 1), x: (left + right) / 2, y: (low + high) / 2 };
  }

  pixel({ x, y }) {
    return [this.wide / 2 + (x - this.view.x) * this.view.scale, this.tall / 2 - (y - this.view.y) * this.view.scale];
  }

  at(place) {
    return this.pixel({ x: this.x[place], y: this.y[place] });
  }

  isSeen(place) {
    const [x, y] = this.at(place);
    return x > 0 && y > 0 && x < this.wide && y < this.tall;
  }

  bringIntoSight({ x, y }) {
    if (!this.view) return;
    const [across, down] = this.pixel({ x, y });
    if (across < 8 || down < 8 || across > this.wide - 8 || down > this.tall - 8) Object.assign(this.view, { x, y });
  }

  nearest(x, y, within = CLICK_PIXELS) {
    let [best, least] = [-1, within ** 2];
    for (let place = 0; this.view && place < this.x.length; place += 1) {
      const [across, down] = this.at(place);
      const far = (across - x) ** 2 + (down - y) ** 2;
      if (far < least && this.isLit(place)) [best, least] = [place, far];
    }
    return best;
  }

  isLit(place) {
    return !this.lit || this.lit.has(place) || place === this.spot?.place || this.near.includes(place);
  }

  // The lit points within an outline in pixels.
  within(outline) {
    return this.order.filter((place) => this.isLit(place) && isInside(this.at(place), outline));
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
    this.drawOn(pen);
    this.drawHand(pen);
  }

  get radius() {
    return this.x.length > MANY ? 1.5 : 3.2;
  }

  // In groups of one opacity, the last on top: places and opacity.
  layers() {
    const isStrong = (place) => this.isLit(place) && (!this.selected.size || this.selected.has(place));
    return [
      { places: this.order.filter((place) => !isStrong(place)), alpha: this.selected.size ? 0.22 : DIM },
      { places: this.order.filter(isStrong), alpha: this.selected.size ? 1 : 0.8 },
    ];
  }

  // What a picture shows, too.
  drawOn(pen) {
    for (const { places, alpha } of this.layers()) this.dots(pen, places, alpha);
    this.marks(pen);
  }

  dots(pen, places, alpha) {
    const radius = this.radius;
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

  marks(pen) {
    if (!this.spot) return;
    const from = this.pixel(this.spot);
    pen.strokeStyle = getComputedStyle(this.canvas).color;
    for (const place of this.near) {
      const to = this.at(place);
      pen.globalAlpha = 0.45;
      line(pen, [from, to], 1);
      pen.globalAlpha = 1;
      ring(pen, to, this.radius + 2, 1.5);
    }
    if (this.spot.place >= 0) ring(pen, from, this.radius + 4, 2.5);
    else diamond(pen, from, 8);
  }

  // Where the keyboard is, and what the pointer draws.
  drawHand(pen) {
    const focus = getComputedStyle(this.canvas).getPropertyValue("--focus");
    pen.strokeStyle = pen.fillStyle = focus;
    if (this.cursor >= 0 && this.cursor < this.x.length) ring(pen, this.at(this.cursor), this.radius + 7, 3);
    if (!this.outline?.length) return;
    line(pen, [...this.outline, this.outline[0]], 1.5);
    pen.globalAlpha = 0.1;
    pen.fill();
    pen.globalAlpha = 1;
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
}

function range(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

function ring(pen, [x, y], radius, thickness) {
  pen.lineWidth = thickness;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.stroke();
}

function diamond(pen, [x, y], reach) {
  line(pen, [[x, y - reach], [x + reach, y], [x, y + reach], [x - reach, y], [x, y - reach]], 2.5);
}

function line(pen, corners, thickness) {
  pen.lineWidth = thickness;
  pen.beginPath();
  corners.forEach(([x, y], at) => (at ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
}

// By the number of edges that a ray to the right crosses.
function isInside([x, y], outline) {
  let inside = false;
  outline.forEach(([x1, y1], at) => {
    const [x2, y2] = outline.at(at - 1);
    if ((y1 > y) !== (y2 > y) && x < x1 + ((x2 - x1) * (y - y1)) / (y2 - y1)) inside = !inside;
  });
  return inside;
}
