// The colours of the embeddings' map, and their legend.

import { COUNT, make } from "./words.js";

const NAME_COLOURS = ["#4269d0", "#efb118", "#ff725c", "#3ca951", "#a463f2", "#6cc5b0", "#ff8ab7", "#9c6b4e"];
const SCALES = {
  light: ["#440154", "#3b528b", "#21918c", "#4fb356", "#d4bd0f"],
  dark: ["#7a5cc7", "#4f7fd6", "#21a39c", "#5ec962", "#fde725"],
};
const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

// How to paint what the server says of each point: its colour, its value in words, and the legend. Without
// an answer, all in one colour.
export function palette(told) {
  const style = getComputedStyle(document.documentElement);
  const [plain, none, others] = ["--running", "--pending", "--cancelled"].map((name) => style.getPropertyValue(name).trim());
  if (!told) return { colour: () => plain, hasValue: () => true, entries: [] };
  return told.kind === "scale" ? scalePalette(told, none) : namesPalette(told, none, others);
}

function scalePalette({ values, low, high }, none) {
  const stops = SCALES[matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"];
  const shades = Array.from({ length: 65 }, (_, at) => blend(stops, at / 64));
  const shade = (value) => shades[Math.round(64 * Math.min(1, Math.max(0, (value - low) / (high - low || 1))))];
  const has = (place) => values[place] !== null;
  return {
    hasValue: has,
    colour: (place) => (has(place) ? shade(values[place]) : none),
    tell: (place) => (has(place) ? SHORT.format(values[place]) : "no value"),
    entries: [],
    scaleStops: stops.map((colour, at) => ({ colour, text: SHORT.format(low + ((high - low) * at) / (stops.length - 1)) })),
    scale: { low: SHORT.format(low), high: SHORT.format(high), fill: `linear-gradient(90deg, ${stops.join(", ")})` },
    missing: values.filter((value) => value === null).length,
    none,
  };
}

function namesPalette({ values, names, counts }, none, others) {
  const colourOf = (value) => (value === null ? none : NAME_COLOURS[value] || others);
  const entry = (text, count, colour, holds) => ({ text, count, colour, holds: (place) => holds(values[place]) });
  const [first, rest] = [names.slice(0, NAME_COLOURS.length), names.slice(NAME_COLOURS.length)];
  const entries = first.map((name, at) => entry(name, counts[at], NAME_COLOURS[at], (value) => value === at));
  const numRest = counts.slice(first.length).reduce((sum, count) => sum + count, 0);
  const restName = rest.length === 1 ? rest[0] : `${COUNT.format(rest.length)} others`;
  const isRest = (value) => value !== null && value >= first.length;
  if (numRest) entries.push(entry(restName, numRest, others, isRest));
  const missing = values.filter((value) => value === null).length;
  if (missing) entries.push(entry("no value", missing, none, (value) => value === null));
  return {
    hasValue: (place) => values[place] !== null,
    colour: (place) => colourOf(values[place]),
    tell: (place) => (values[place] === null ? "no value" : names[values[place]]),
    entries, scale: null, missing: 0, none,
  };
}

function blend(stops, share) {
  const at = Math.min(stops.length - 2, Math.floor(share * (stops.length - 1)));
  const part = share * (stops.length - 1) - at;
  const channels = [1, 3, 5].map((from) => {
    const [a, b] = [stops[at], stops[at + 1]].map((stop) => parseInt(stop.slice(from, from + 2), 16));
    return Math.round(a + (b - a) * part);
  });
  return `rgb(${channels.join(" ")})`;
}

// `pressed` is the entry whose points alone are lit; `onPress` is told which is wanted.
export function legendItems(colours, pressed, onPress) {
  if (colours.scale) return scaleItems(colours);
  return colours.entries.map((entry, at) => {
    const [item, button] = [make("li", ""), make("button", "")];
    button.type = "button";
    button.setAttribute("aria-pressed", String(at === pressed));
    button.append(swatch(entry.colour), `${entry.text} `, make("small", COUNT.format(entry.count)));
    button.addEventListener("click", () => onPress(at === pressed ? -1 : at));
    item.append(button);
    return item;
  });
}

function scaleItems({ scale, missing, none }) {
  const [item, bar] = [make("li", ""), make("span", "", "scale")];
  bar.style.background = scale.fill;
  item.append(`${scale.low} or less`, bar, `${scale.high} or more`);
  if (!missing) return [item];
  const without = make("li", "");
  without.append(swatch(none), `${COUNT.format(missing)} have no value`);
  return [item, without];
}

function swatch(colour) {
  const made = document.createElement("i");
  made.style.background = colour;
  return made;
}
