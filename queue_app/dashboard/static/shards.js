// The map of shards: a canvas of one square each, so that ten thousand cost no more than ten.

import { showTip, tellShard } from "./words.js";

export const STATES = ["done", "running", "pending", "failed", "cancelled"];
const PITCHES = [18, 15, 12, 10, 8, 7, 6, 5, 4, 3]; // pixels from one square to the next
const SMALL = 9; // a square so small is filled whole while it runs: a part of it would not be seen

export class ShardMap {
  constructor(canvas, tip, onPick) {
    this.canvas = canvas;
    this.tip = tip;
    this.cells = [];
    this.picked = -1;
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("click", (event) => {
      const cell = this.at(event);
      if (cell) onPick(cell.index);
    });
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(cells, picked) {
    this.cells = cells;
    this.picked = picked;
    this.draw();
  }

  // A few shards share one row; of many, squares as large as keeps the map in sight.
  arrange(width) {
    const number = this.cells.length;
    if (number * 14 <= width) return { wide: Math.min(64, width / number), high: 26, columns: number, gap: 2 };
    for (const pitch of PITCHES) {
      const columns = Math.max(1, Math.floor(width / pitch));
      if (Math.ceil(number / columns) * pitch <= 340 || pitch === PITCHES.at(-1)) {
        return { wide: pitch, high: pitch, columns, gap: pitch > 8 ? 2 : 1 };
      }
    }
  }

  draw() {
    const width = this.canvas.parentElement.clientWidth - 38;
    if (width <= 0 || !this.cells.length) return;
    this.grid = this.arrange(width);
    const { wide, high, columns } = this.grid;
    const scale = window.devicePixelRatio || 1;
    const height = Math.ceil(this.cells.length / columns) * high;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const colours = Object.fromEntries([...STATES, "warn-mark", "panel", "ink"].map((name) => [name, colour(name)]));
    this.cells.forEach((cell, place) => {
      this.square(pen, colours, cell, (place % columns) * wide, Math.floor(place / columns) * high);
    });
  }

  square(pen, colours, cell, x, y) {
    const [width, height] = [this.grid.wide - this.grid.gap, this.grid.high - this.grid.gap];
    const stroke = (colour, thickness, ...lines) => {
      pen.strokeStyle = colour;
      pen.lineWidth = thickness;
      pen.beginPath();
      for (const [fromX, fromY, toX, toY] of lines) { pen.moveTo(fromX, fromY); pen.lineTo(toX, toY); }
      pen.stroke();
    };
    pen.fillStyle = colours[cell.state === "running" ? "pending" : cell.state];
    pen.fillRect(x, y, width, height);
    if (cell.state === "running") {
      const share = height < SMALL ? 1 : Math.max(0.2, (cell.done + cell.quarantined) / (cell.total || 1));
      pen.fillStyle = colours.running;
      pen.fillRect(x, y + height * (1 - share), width, height * share);
    }
    const [rising, falling] = [[x, y + height, x + width, y], [x, y, x + width, y + height]];
    if (cell.state === "cancelled") stroke(colours.panel, 1, rising);
    if (cell.state === "failed") stroke(colours.panel, 1, rising, falling);
    if (cell.losses) {
      pen.fillStyle = colours["warn-mark"];
      pen.beginPath();
      pen.arc(x + width / 2, y + height / 2, Math.max(1.8, height / 5), 0, 7);
      pen.fill();
      pen.strokeStyle = colours.panel;
      pen.lineWidth = height < SMALL ? 0.5 : 1.5;
      pen.stroke();
    }
    if (cell.index === this.picked) {
      pen.strokeStyle = colours.ink;
      pen.lineWidth = 2;
      pen.strokeRect(x + 1, y + 1, width - 2, height - 2);
    }
  }

  at(event) {
    if (!this.grid) return undefined;
    const column = Math.floor(event.offsetX / this.grid.wide);
    const row = Math.floor(event.offsetY / this.grid.high);
    return column < this.grid.columns ? this.cells[row * this.grid.columns + column] : undefined;
  }

  hover(event) {
    const cell = this.at(event);
    showTip(this.tip, event, cell ? tellShard(cell).join("\n") : "");
  }
}
