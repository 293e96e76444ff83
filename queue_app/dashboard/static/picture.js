// The map as a picture, with its legend: PNG or SVG.

import { chart } from "./chart.js";
import { COUNT } from "./words.js";

const LEGEND_WIDE = 230;
const LINE_TALL = 22;
const SCALE = 2; // of a PNG: pixels for each of the screen's
const FONT = "13px system-ui, sans-serif";

export function saveBlob(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function savePng(points, title) {
  const canvas = document.createElement("canvas");
  const { ground, ink } = inks(points.canvas);
  [canvas.width, canvas.height] = [(points.wide + LEGEND_WIDE) * SCALE, points.tall * SCALE];
  const pen = canvas.getContext("2d");
  pen.scale(SCALE, SCALE);
  pen.fillStyle = ground;
  pen.fillRect(0, 0, points.wide + LEGEND_WIDE, points.tall);
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, points.wide, points.tall);
  pen.clip();
  points.drawOn(pen);
  pen.restore();
  pen.font = FONT;
  legendLines().forEach(({ colour, text }, at) => {
    const y = 24 + at * LINE_TALL;
    pen.fillStyle = colour;
    pen.fillRect(points.wide + 12, y - 9, 10, 10);
    pen.fillStyle = ink;
    pen.fillText(text, points.wide + 30, y, LEGEND_WIDE - 36);
  });
  canvas.toBlob((blob) => saveBlob(blob, `${title}.png`), "image/png");
}

export function saveSvg(points, title) {
  const { ground, ink } = inks(points.canvas);
  const [wide, tall] = [points.wide + LEGEND_WIDE, points.tall];
  const legend = legendLines().map(({ colour, text }, at) => {
    const y = 24 + at * LINE_TALL;
    return `<rect x="${points.wide + 12}" y="${y - 9}" width="10" height="10" fill="${colour}"/>`
      + `<text x="${points.wide + 30}" y="${y}" fill="${ink}">${escaped(text)}</text>`;
  });
  const svg = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${wide}" height="${tall}" viewBox="0 0 ${wide} ${tall}" font-family="sans-serif" font-size="13">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${wide}" height="${tall}" fill="${ground}"/>`,
    ...points.layers().map(({ places, alpha }) => circles(points, places, alpha)),
    ...marks(points, ink),
    ...legend,
    "</svg>",
  ].join("\n");
  saveBlob(new Blob([svg], { type: "image/svg+xml" }), `${title}.svg`);
}

// Only what is in sight.
function circles(points, places, alpha) {
  const drawn = places.filter((place) => points.isSeen(place)).map((place) => {
    const [x, y] = points.at(place).map((at) => at.toFixed(1));
    return `<circle cx="${x}" cy="${y}" r="${points.radius}" fill="${points.colour(place)}"/>`;
  });
  return `<g fill-opacity="${alpha}">${drawn.join("")}</g>`;
}

function marks(points, ink) {
  if (!points.spot) return [];
  const [x, y] = points.pixel(points.spot);
  const rings = [`<circle cx="${x}" cy="${y}" r="${points.radius + 4}" stroke-width="2.5"/>`];
  for (const place of points.near) {
    const [toX, toY] = points.at(place);
    rings.push(`<path d="M${x},${y}L${toX},${toY}" opacity=".45"/><circle cx="${toX}" cy="${toY}" r="${points.radius + 2}"/>`);
  }
  return [`<g fill="none" stroke="${ink}">${rings.join("")}</g>`];
}

function legendLines() {
  const { entries, scale, scaleStops, name } = chart.colours;
  const lines = entries.map(({ colour, text, count }) => ({ colour, text: `${text} (${COUNT.format(count)})` }));
  const steps = scale ? scaleStops.map(({ colour, text }) => ({ colour, text })) : [];
  return [{ colour: "none", text: name }, ...lines, ...steps].filter(({ text }) => text);
}

function inks(canvas) {
  const style = getComputedStyle(canvas);
  return { ground: style.backgroundColor, ink: style.color };
}

// XML has no place for other control characters.
function escaped(text) {
  const safe = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (letter) => safe[letter]).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "");
}
