// Search over all records of a job: what it finds is lit on the map, and listed.

import { chart, isPart, placeOf, tried } from "./chart.js";
import { $, COUNT, make, percent, put } from "./words.js";

const PAUSE_MILLISECONDS = 200; // after the last letter
const LISTED = 50;
const state = { asked: 0, timer: 0, hits: [] };

// `onChoose` is told a hit that is to be shown, `onFound` that others are found.
export function startSearch({ onChoose, onFound }) {
  const later = () => {
    clearTimeout(state.timer);
    const pause = $("search").value.trim() ? PAUSE_MILLISECONDS : 0;
    if (!pause) search(onChoose, onFound);
    else state.timer = setTimeout(() => search(onChoose, onFound), pause);
  };
  $("search").addEventListener("input", later);
  $("search").addEventListener("keydown", async (event) => {
    if (event.key !== "Enter") return;
    clearTimeout(state.timer);
    await search(onChoose, onFound);
    const first = state.hits.find((hit) => !hit.quarantined);
    if (first) onChoose(first);
  });
  return () => search(onChoose, onFound);
}

// Part by part, until all was looked at or something else is wanted.
async function search(onChoose, onFound) {
  const asked = state.asked += 1;
  const text = $("search").value.trim();
  if (!text || !chart.map) return show({ count: 0, hits: [], places: null }, onChoose, onFound);
  const all = { count: 0, hits: [], places: new Set(), texts: true, num_parts: 1, next: 0 };
  if (state.text !== text) put("hits", "Searching…");
  while (all.next !== null) {
    const part = await tried(chart.source.search(chart.of, text, all.next));
    if (asked !== state.asked) return;
    if (!part) return put("hits", "");
    add(all, part);
    show({ ...all, text }, onChoose, onFound);
  }
}

function add(all, { count, hits, drawn, ...part }) {
  for (const ordinal of drawn) all.places.add(placeOf(ordinal));
  const known = [...all.hits, ...hits];
  const kept = [...known.filter((hit) => hit.exact), ...known.filter((hit) => !hit.exact)].slice(0, LISTED);
  Object.assign(all, part, { count: all.count + count, hits: kept });
}

function show(all, onChoose, onFound) {
  Object.assign(state, { hits: all.hits, text: all.text });
  chart.found = all.places;
  put("hits", all.text ? told(all) : "");
  $("found").replaceChildren(...all.hits.map((hit) => hitItem(hit, onChoose)));
  $("found").hidden = !all.hits.length;
  onFound();
}

function told({ count, next, num_parts: parts, texts, hits, places }) {
  const parts_ = [next === null ? `${COUNT.format(count)} found` : `At least ${COUNT.format(count)} found, ${percent(next, parts)} searched`];
  if (count > hits.length) parts_.push(`${COUNT.format(hits.length)} listed`);
  if (isPart() && count) parts_.push(`${COUNT.format(places.size)} of them on this map`);
  if (!texts) parts_.push(chart.map.is_text ? "by their ids alone: the texts were cleaned away" : "by their ids alone: the sequences were cleaned away");
  return parts_.join(", ");
}

function hitItem(hit, onChoose) {
  const [item, button] = [make("li", ""), make("button", "", "plain")];
  button.type = "button";
  button.append(make("span", hit.id));
  const marks = [hit.quarantined && "quarantined", hit.copies > 1 && `${COUNT.format(hit.copies)} times`,
    !hit.quarantined && placeOf(hit.ordinal) < 0 && "not drawn"].filter(Boolean);
  if (marks.length) button.append(make("span", marks.join(", "), "mark"));
  if (hit.excerpt) button.append(make("small", hit.excerpt));
  button.disabled = hit.quarantined;
  button.addEventListener("click", () => onChoose(hit));
  item.append(button);
  return item;
}
