// The map of shards: a canvas of one square each, so that ten thousand cost no more than ten.

const STATES = ["done", "running", "pending", "failed", "cancelled"];

class ShardMap {
  constructor(canvas, tip, onPick) {
    this.canvas = canvas;
    this.tip = tip;
    this.cells = [];
    this.picked = 0;
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

  // The largest squares with which the map stays in sight.
  arrange(width) {
    for (const pitch of [22, 18, 15, 12, 10, 8, 7, 6]) {
      const columns = Math.max(1, Math.floor((width + 2) / pitch));
      const rows = Math.ceil(this.cells.length / columns);
      if (rows * pitch <= 340 || pitch === 6) return { pitch, columns, rows, gap: pitch > 8 ? 2 : 1 };
    }
  }

  draw() {
    const width = this.canvas.parentElement.clientWidth - 38;
    if (width <= 0 || !this.cells.length) return;
    this.grid = this.arrange(width);
    const { pitch, columns, rows } = this.grid;
    const scale = window.devicePixelRatio || 1;
    const height = rows * pitch;
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
      this.square(pen, colours, cell, (place % columns) * pitch, Math.floor(place / columns) * pitch);
    });
  }

  square(pen, colours, cell, x, y) {
    const size = this.grid.pitch - this.grid.gap;
    pen.fillStyle = colours[cell.state === "running" ? "pending" : cell.state];
    pen.fillRect(x, y, size, size);
    if (cell.state === "running") {
      const share = Math.max(0.25, cell.total ? (cell.done + cell.quarantined) / cell.total : 0);
      pen.fillStyle = colours.running;
      pen.fillRect(x, y + size * (1 - share), size, size * share);
    } else if (cell.state === "cancelled" || cell.state === "failed") {
      pen.strokeStyle = colours.panel;
      pen.beginPath();
      pen.moveTo(x, y + size);
      pen.lineTo(x + size, y);
      if (cell.state === "failed") { pen.moveTo(x, y); pen.lineTo(x + size, y + size); }
      pen.stroke();
    }
    if (cell.losses) {
      pen.fillStyle = colours["warn-mark"];
      pen.beginPath();
      pen.arc(x + size / 2, y + size / 2, Math.max(1.8, size / 5), 0, 7);
      pen.fill();
    }
    if (cell.index === this.picked) {
      pen.strokeStyle = colours.ink;
      pen.lineWidth = 2;
      pen.strokeRect(x + 1, y + 1, size - 2, size - 2);
      pen.lineWidth = 1;
    }
  }

  at(event) {
    if (!this.grid) return undefined;
    const column = Math.floor(event.offsetX / this.grid.pitch);
    const row = Math.floor(event.offsetY / this.grid.pitch);
    return column < this.grid.columns ? this.cells[row * this.grid.columns + column] : undefined;
  }

  hover(event) {
    const cell = this.at(event);
    this.tip.hidden = !cell;
    if (!cell) return;
    this.tip.textContent = tellShard(cell).join("\n");
    const box = this.tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    const below = event.clientY + 18 + box.height < innerHeight;
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${below ? event.clientY + 18 : event.clientY - box.height - 10}px`;
  }
}
