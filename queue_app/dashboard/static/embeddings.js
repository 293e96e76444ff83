// The map of a finished job's embeddings: its points, their colours, and the neighbours of one.

import { chart, isPart, litPlaces, note, placeOf, tellPoint, tellValue, tried } from "./chart.js";
import { Gestures } from "./gestures.js";
import { legendItems, palette } from "./legend.js";
import { savePng, saveSvg } from "./picture.js";
import { PointMap } from "./points.js";
import { startSearch } from "./search.js";
import { offerLit, offerTakes, startSelection } from "./selection.js";
import { $, COUNT, make, percent, put } from "./words.js";

const AGAIN_MILLISECONDS = 400;

const points = new PointMap($("points"));
const gestures = new Gestures(points, $("tip"), {
  onPick: (place) => choose(place < 0 ? null : { ordinal: chart.map.ordinals[place], id: chart.map.ids[place] }),
  onSelect: (places, isMore) => select(isMore ? new Set([...chart.selected, ...places]) : places),
  onWalk: (place) => put("said", `${tellPoint(place)}\nPoint ${COUNT.format(place + 1)} of ${COUNT.format(chart.map.ids.length)}`),
  tell: tellPoint,
});
const searchAgain = startSearch({ onChoose: choose, onFound: () => { paint(); showUnchosen(); } });
const select = startSelection({ onSelected: (places) => points.select(places), lit: litPlaces });

// ---- the map

// Of another job than before, if it is another one; `title` is what pictures are called.
export function openMap(source, title) {
  if (chart.source?.key === source.key) return;
  closeMap();
  Object.assign(chart, { source, title });
  drawMap();
}

export function closeMap() {
  Object.assign(chart, { source: null, asked: chart.asked + 1, of: {}, map: null, found: null });
  $("plane").hidden = $("choices").hidden = $("find").hidden = true;
  $("search").value = "";
  note("");
}

// So that all of it is in the window, whatever stands above.
export function fitMap() {
  if (!$("plane").hidden) $("plane").style.setProperty("--above", `${Math.round($("plane").getBoundingClientRect().top + scrollY)}px`);
}

export function isMapOf(key) {
  return chart.source?.key === key;
}

async function drawMap() {
  const [asked, { source }] = [chart.asked += 1, chart];
  note("Asking for the map…");
  const of = chart.map ? { column: $("column").value, method: $("method").value } : {};
  let answer = await tried(source.map(of));
  while (asked === chart.asked && answer && !answer.made) {
    note(`Drawing the map: ${answer.step}${answer.share === null ? "…" : `, ${percent(answer.share, 1)}`}`);
    await new Promise((resolve) => { setTimeout(resolve, AGAIN_MILLISECONDS); });
    answer = asked === chart.asked ? await tried(source.map(of)) : null;
  }
  if (asked === chart.asked) {
    $("again").hidden = Boolean(answer) || Boolean(chart.map);
    if (answer) showMap(answer, of);
  }
}

// What was chosen stays so.
function showMap(map, of) {
  note(map.ids.length ? "" : "No record has a vector: there is nothing to draw.");
  if (!map.ids.length) return;
  const { chosen } = chart;
  const places = new Map(map.ordinals.map((ordinal, place) => [ordinal, place]));
  Object.assign(chart, { map, of, places, texts: null, told: null, pressed: -1, found: null, chosen: null });
  offer("column", map.columns);
  offer("method", map.methods, (name) => name.toUpperCase());
  offer("by", map.colours);
  $("plane").hidden = $("choices").hidden = $("find").hidden = false;
  fitMap();
  points.show(map.x, map.y);
  put("caption", captionOf(map));
  offerTakes();
  select([]);
  tell(null);
  repaint();
  searchAgain();
  colourMap();
  readTexts();
  if (chosen) choose(chosen);
}

function captionOf({ ids, shares, num_embedded: all }) {
  const axes = shares.length
    ? `The two directions of greatest variance: ${percent(shares[0], 1)} across, ${percent(shares[1], 1)} up.`
    : "UMAP by cosine: neighbours lie together, while far distances say little.";
  const drawn = isPart()
    ? `${COUNT.format(ids.length)} of ${COUNT.format(all)} records, chosen at random.`
    : `${COUNT.format(all)} records.`;
  return `${drawn} ${axes}`;
}

function offer(id, names, title = (name) => name) {
  const known = [...$(id).options].map((option) => option.value);
  $(id).parentElement.hidden = names.length < 2 && id !== "by"; // which says what the colours are
  if (known.join("\n") === names.join("\n")) return;
  $(id).replaceChildren(...names.map((name) => new Option(title(name), name)));
}

async function readTexts() {
  const { map } = chart;
  const texts = await tried(chart.source.texts(chart.of));
  if (chart.map === map) chart.texts = texts;
}

// ---- colours

async function colourMap() {
  const [map, by] = [chart.map, $("by").value];
  const told = await tried(chart.source.colours(chart.of, by));
  if (chart.map !== map || by !== $("by").value) return;
  if (told) note("");
  Object.assign(chart, { told, pressed: -1 });
  repaint();
}

function repaint() {
  if (!chart.map) return;
  chart.colours = { ...palette(chart.told), name: chart.told ? $("by").value : "" };
  $("colours").replaceChildren(...legendItems(chart.colours, chart.pressed, press));
  put("chosen-value", chart.chosen?.place >= 0 ? tellValue(chart.chosen.place) : "");
  paint();
}

function paint() {
  if (!chart.map) return;
  const lit = litPlaces();
  points.paint(chart.colours, lit);
  offerLit(lit);
}

function press(entry) {
  chart.pressed = entry;
  repaint();
  $("colours").querySelectorAll("button")[entry]?.focus();
}

// ---- one record and its neighbours

// A record by its ordinal and id, whether it is drawn or not; null for none.
async function choose(record) {
  const { map } = chart;
  chart.chosen = record && { ...record, place: placeOf(record.ordinal) };
  const { chosen } = chart;
  points.mark(chosen && spotOf(chosen), []);
  tell(record ? [] : null);
  if (!record) return;
  const isStill = () => chart.chosen === chosen && chart.map === map;
  if (chosen.place < 0) await findSpot(chosen, isStill);
  const answer = chart.source.nearest && (await tried(chart.source.nearest(chart.of, chosen.ordinal)));
  if (!isStill()) return;
  if (!answer) return put("near-title", "");
  note("");
  tell(answer);
  points.mark(spotOf(chosen), answer.slice(1).map(({ ordinal }) => placeOf(ordinal)).filter((near) => near >= 0));
}

function spotOf(chosen) {
  if (chosen.place < 0) return chosen.spot ? { ...chosen.spot, place: -1 } : null;
  return { x: chart.map.x[chosen.place], y: chart.map.y[chosen.place], place: chosen.place };
}

// Where a record belongs that is not drawn, and how that is known.
async function findSpot(chosen, isStill) {
  const spot = await tried(chart.source.spot(chart.of, chosen.ordinal));
  if (!spot || !isStill()) return;
  const beside = spot.beside && `${spot.beside.id}, the most similar of those that are drawn (${spot.beside.similarity.toFixed(3)})`;
  chosen.spot = spot;
  chosen.how = spot.beside ? `Not among the records drawn: the diamond marks ${beside}.`
    : "Not among the records drawn: the diamond marks its own place on this plane.";
  put("chosen-place", chosen.how);
  points.mark(spotOf(chosen), []);
}

// `answer` is the record and its neighbours; [] while they are looked for, null when none is chosen.
function tell(answer) {
  $("chosen").hidden = !answer;
  showUnchosen();
  if (!answer) return;
  const { chosen } = chart;
  const [itself, ...near] = answer;
  put("chosen-id", chosen.id);
  put("chosen-value", chosen.place >= 0 ? tellValue(chosen.place) : "");
  put("chosen-place", chosen.how || "");
  put("chosen-text", (chosen.place >= 0 && chart.texts?.[chosen.place]) || itself?.beginning || chosen.excerpt || "");
  const grey = isPart() ? ", of all records" : "";
  put("near-title", itself ? `Nearest by cosine${grey}` : chart.source.nearest ? "Looking for its neighbours…" : "");
  $("near").replaceChildren(...near.map(nearItem));
}

function showUnchosen() {
  $("unchosen").hidden = Boolean(chart.chosen) || Boolean(chart.found);
}

function nearItem({ ordinal, id, similarity, beginning }) {
  const [item, button] = [make("li", ""), make("button", "", "plain")];
  button.type = "button";
  button.append(make("span", id), make("span", similarity.toFixed(3), "number"));
  if (beginning) button.append(make("small", beginning));
  button.addEventListener("click", () => choose({ ordinal, id }));
  item.append(button);
  return item;
}

// ---- the tools

function setLasso(on) {
  gestures.setLasso(on);
  $("lasso").setAttribute("aria-pressed", String(on));
}

$("again").addEventListener("click", drawMap);
$("column").addEventListener("change", drawMap);
$("method").addEventListener("change", drawMap);
$("by").addEventListener("change", colourMap);
$("lasso").addEventListener("click", () => setLasso(!gestures.lasso));
$("closer").addEventListener("click", () => points.zoom(1.4));
$("farther").addEventListener("click", () => points.zoom(1 / 1.4));
$("whole").addEventListener("click", () => points.reset());
$("png").addEventListener("click", () => savePng(points, chart.title));
$("svg").addEventListener("click", () => saveSvg(points, chart.title));
addEventListener("resize", fitMap);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
