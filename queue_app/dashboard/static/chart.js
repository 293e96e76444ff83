// What is known of the map on the screen, and what its parts say of its points.

import { $, COUNT, put } from "./words.js";

// `source` answers questions (source.js). `map`, `texts` and `told` are its answers, `of` what the map is of while
// another one may be wanted already. `places` has the place of each ordinal. `pressed` is an entry of the legend,
// `found` the set of places that a search has found, or null; `chosen` the record whose neighbours are told.
export const chart = {
  source: null, asked: 0, of: {}, map: null, texts: null, told: null, colours: null, places: new Map(),
  pressed: -1, found: null, chosen: null, selected: [],
};

// Whether there are records that are not drawn.
export function isPart() {
  return chart.map.ids.length < chart.map.num_embedded;
}

export function drawnOf() {
  return `${COUNT.format(chart.map.ids.length)} of ${COUNT.format(chart.map.num_embedded)}`;
}

export function placeOf(ordinal) {
  return chart.places.get(ordinal) ?? -1;
}

export function tellPoint(place) {
  return [chart.map.ids[place], chart.texts?.[place], tellValue(place)].filter(Boolean).join("\n");
}

export function tellValue(place) {
  return chart.told ? `${$("by").value}: ${chart.colours.tell(place)}` : "";
}

// What is searched for and pressed in the legend, or null for all.
export function litPlaces() {
  const entry = chart.colours?.entries[chart.pressed];
  if (!entry) return chart.found;
  const places = chart.found ? [...chart.found] : chart.map.ids.map((_, place) => place);
  return new Set(places.filter(entry.holds));
}

export function note(text, kind = "note") {
  $("map-note").dataset.kind = kind;
  put("map-note", text);
}

// What `asking` answers, or null, and why is said.
export async function tried(asking) {
  try {
    return await asking;
  } catch (error) {
    note(`${chart.map ? "" : "No map: "}${error.message}`, "bad");
    return null;
  }
}
