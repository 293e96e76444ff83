// The map of a finished job's embeddings: asked for by a button, coloured, searched, and its points told of.

import { legendItems, palette } from "./legend.js";
import { PointMap } from "./points.js";
import { page } from "./state.js";
import { $, COUNT, make, percent, put } from "./words.js";

const FOUND_SHOWN = 50;
const AGAIN_MILLISECONDS = 400;

// `map` and `told` are the server's answers, `of` what the map is of while another one may be wanted already;
// `pressed` is an entry of the legend, `chosen` the place of a point.
const chart = { job: null, asked: 0, of: {}, map: null, told: null, colours: null, pressed: -1, chosen: -1 };
const points = new PointMap($("points"), $("tip"), { onPick: choose, tell: tellPoint });

// ---- the map

export function offerMap() {
  if (chart.job !== page.job) {
    Object.assign(chart, { job: page.job, asked: chart.asked + 1, of: {}, map: null });
    $("plane").hidden = $("choices").hidden = true;
    $("draw").hidden = $("draw-hint").hidden = false;
    note("");
  }
  $("embeddings").hidden = page.status.state !== "done";
}

async function drawMap() {
  const asked = chart.asked += 1;
  $("draw").hidden = $("draw-hint").hidden = true;
  note("Asking for the map…");
  const of = chart.map ? { column: $("column").value, method: $("method").value } : {};
  let answer = await askMap("map", of);
  while (asked === chart.asked && answer && !answer.made) {
    note(`Drawing the map: ${answer.step}${answer.share === null ? "…" : `, ${percent(answer.share, 1)}`}`);
    await new Promise((resolve) => { setTimeout(resolve, AGAIN_MILLISECONDS); });
    answer = await askMap("map", of);
  }
  if (asked !== chart.asked) return;
  if (answer) showMap(answer, of);
  else $("draw").hidden = Boolean(chart.map);
}

// The point that was chosen stays so.
function showMap(map, of) {
  note(map.ids.length ? "" : "No record has a vector: there is nothing to draw.");
  if (!map.ids.length) return;
  const chosen = map.ordinals.indexOf(chart.map?.ordinals[chart.chosen]);
  Object.assign(chart, { map, of, told: null, chosen: -1, pressed: -1 });
  offer("column", map.columns);
  offer("method", map.methods, (name) => name.toUpperCase());
  offer("by", map.colours);
  $("plane").hidden = $("choices").hidden = false;
  points.show(map.x, map.y);
  put("caption", captionOf(map));
  tell(null);
  repaint();
  search();
  colourMap();
  if (chosen >= 0) choose(chosen);
}

// Whether there are records that are not drawn.
function isPart() {
  return chart.map.ids.length < chart.map.num_embedded;
}

function captionOf({ ids, shares, num_embedded: all }) {
  const axes = shares.length
    ? `The two directions of greatest variance: ${percent(shares[0], 1)} of it across, ${percent(shares[1], 1)} up.`
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

// The answer, or null, and why is said.
async function askMap(what, wanted) {
  const query = new URLSearchParams(wanted);
  const response = await fetch(`jobs/${chart.job}/${what}?${query}`).catch(() => null);
  const answer = await response?.json().catch(() => null);
  if (response?.ok && answer) return answer;
  const why = answer?.error || (response ? `the server failed (${response.status})` : "no connection");
  note(`${chart.map ? "" : "No map: "}${why}`, "bad");
  return null;
}

function note(text, kind = "note") {
  $("map-note").dataset.kind = kind;
  put("map-note", text);
}

// ---- colours

async function colourMap() {
  const [map, by] = [chart.map, $("by").value];
  const told = await askMap("map/colours", { ...chart.of, by });
  if (chart.map !== map || by !== $("by").value) return;
  if (told) note("");
  Object.assign(chart, { told, pressed: -1 });
  repaint();
}

function repaint() {
  if (!chart.map) return;
  chart.colours = palette(chart.told);
  $("colours").replaceChildren(...legendItems(chart.colours, chart.pressed, press));
  put("chosen-value", chart.chosen < 0 ? "" : tellValue(chart.chosen));
  points.paint(chart.colours, litPlaces());
}

function press(entry) {
  chart.pressed = entry;
  repaint();
  $("colours").querySelectorAll("button")[entry]?.focus();
}

// What is searched for and pressed in the legend, or null for all.
function litPlaces() {
  const entry = chart.colours?.entries[chart.pressed];
  const wanted = searched();
  if (!entry && !wanted) return null;
  const places = wanted || chart.map.ids.map((_, place) => place);
  return new Set(entry ? places.filter(entry.holds) : places);
}

// ---- search

function searched() {
  const text = $("search").value.trim().toLowerCase();
  if (!text) return null;
  return chart.map.ids.flatMap((id, place) => (id.toLowerCase().includes(text) ? [place] : []));
}

function search() {
  const found = searched();
  const shown = (found || []).slice(0, FOUND_SHOWN);
  $("found").replaceChildren(...shown.map((place) => pointItem(place, chart.map.ids[place], "")));
  const more = found && found.length > shown.length ? `, ${COUNT.format(shown.length)} listed` : "";
  const among = isPart() ? ` among the ${COUNT.format(chart.map.ids.length)} drawn` : "";
  put("hits", found ? `${COUNT.format(found.length)} found${among}${more}` : "");
  $("found").hidden = !shown.length;
  points.paint(chart.colours, litPlaces());
}

function pointItem(place, text, number) {
  const [item, button] = [make("li", ""), make("button", "", "plain")];
  button.type = "button";
  button.append(make("span", text));
  if (number) button.append(make("span", number, "number"));
  button.disabled = place < 0;
  if (place < 0) button.title = "not among the records that are drawn";
  button.addEventListener("click", () => choose(place));
  item.append(button);
  return item;
}

// ---- one point and its neighbours

function tellPoint(place) {
  return [chart.map.ids[place], tellValue(place)].filter(Boolean).join("\n");
}

function tellValue(place) {
  return chart.told ? `${$("by").value}: ${chart.colours.tell(place)}` : "";
}

async function choose(place) {
  chart.chosen = place;
  points.mark(place, []);
  tell(place < 0 ? null : []);
  if (place < 0) return;
  const { map } = chart;
  const answer = await askMap("map/nearest", { ...chart.of, of: map.ordinals[place] });
  if (chart.chosen !== place || chart.map !== map) return;
  if (!answer) {
    put("near-title", "");
    return;
  }
  note("");
  tell(answer);
  points.mark(place, answer.slice(1).map(({ ordinal }) => placeOf(ordinal)).filter((near) => near >= 0));
}

function placeOf(ordinal) {
  return chart.map.ordinals.indexOf(ordinal);
}

// `answer` is the record and its neighbours; [] while they are looked for, null when no point is chosen.
function tell(answer) {
  $("chosen").hidden = !answer;
  $("unchosen").hidden = Boolean(answer);
  if (!answer) return;
  const [itself, ...near] = answer;
  put("chosen-id", chart.map.ids[chart.chosen]);
  put("chosen-value", tellValue(chart.chosen));
  put("chosen-text", itself?.beginning || "");
  const grey = isPart() ? ", of all records; those in grey are not drawn" : "";
  put("near-title", itself ? `Nearest by cosine${grey}` : "Looking for its neighbours…");
  $("near").replaceChildren(...near.map((each) => {
    const item = pointItem(placeOf(each.ordinal), each.id, each.similarity.toFixed(3));
    if (each.beginning) item.firstElementChild.append(make("small", each.beginning));
    return item;
  }));
}

$("draw").addEventListener("click", drawMap);
$("column").addEventListener("change", drawMap);
$("method").addEventListener("change", drawMap);
$("by").addEventListener("change", colourMap);
$("search").addEventListener("input", search);
$("search").addEventListener("keydown", (event) => {
  const [first] = searched() || [];
  if (event.key === "Enter" && first !== undefined) choose(first);
});
$("closer").addEventListener("click", () => points.zoom(1.4));
$("farther").addEventListener("click", () => points.zoom(1 / 1.4));
$("whole").addEventListener("click", () => points.reset());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
