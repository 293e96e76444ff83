// One job on the screen.

import { showFinished } from "./finished.js";
import { STATES, ShardMap } from "./shards.js";
import { drawSpark } from "./spark.js";
import { hasEnded, page } from "./state.js";
import { $, COUNT, clock, duration, make, perSecond, percent, put, tellShard } from "./words.js";

const CELL = ["index", "state", "done", "quarantined", "total", "attempts", "losses", "worker", "error"];
const NUMBERS = ["Sequences/s", "Tokens/s", "Packed", "Wait"];
const GPU_NUMBERS = ["GPU", "Memory"];
const EVENT_LOOKS = { recovered: "good", failed: "bad" }; // of the kinds in events.py; all others warn
const SAMPLES_SHOWN = 450;

const map = new ShardMap($("map"), $("tip"), pick);

export function showBoard(news) {
  if (news.whole) Object.assign(page, { cells: [], samples: [] });
  for (const values of news.cells) {
    page.cells[values[0]] = Object.fromEntries(CELL.map((name, at) => [name, values[at]]));
  }
  page.samples = [...page.samples, ...news.samples].slice(-SAMPLES_SHOWN);
  Object.assign(page, { status: news.status, kept: news.source });
  $("board").hidden = false;
  $("nothing").hidden = true;
  showHead(news.about);
  showFigures();
  showShards();
  showWorkers();
  showEvents(news.whole);
  showFinished(news.about);
}

function showHead(about) {
  const { state, job, trouble } = page.status;
  put("title", about.title);
  put("state", state);
  $("state").dataset.state = state;
  const model = about.model && `${about.model}, ${about.dim} dimensions`;
  const to = about.output && state !== "done" && `to ${about.output}`; // of a finished one it stands with its vectors
  const parts = [`job ${job}`, model, about.inputs && `from ${about.inputs}`, to];
  put("about", parts.filter(Boolean).join(" · "));
  $("trouble").hidden = !trouble || hasEnded();
  put("trouble", trouble ? `Tried again: ${trouble}` : "");
}

function showFigures() {
  const { sequences, shards, rate, eta_seconds: left, state } = page.status;
  const settled = sequences.done + sequences.quarantined;
  const share = percent(settled, sequences.total);
  const moving = rate > 0 && state === "running";
  $("pace").hidden = $("rest").hidden = hasEnded();
  put("settled", COUNT.format(settled));
  put("of-total", `of ${COUNT.format(sequences.total)}, ${share}`);
  put("rate", moving ? `${perSecond(rate)}/s` : "–");
  put("left", moving && left !== null ? duration(left) : "–");
  put("ends", moving && left > 90 ? `until ${clock(Date.now() + left * 1000).slice(0, -3)}` : "");
  put("shards-done", COUNT.format(shards.done));
  put("of-shards", `of ${COUNT.format(shards.total)}`);
  put("quarantined", COUNT.format(sequences.quarantined));
  put("share", sequences.quarantined ? percent(sequences.quarantined, sequences.total) : "");
  const [done, aside] = $("bar").children;
  done.style.width = `${100 * sequences.done / (sequences.total || 1)}%`;
  aside.style.width = `${100 * sequences.quarantined / (sequences.total || 1)}%`;
  $("bar").setAttribute("aria-valuenow", String(Math.floor(100 * settled / (sequences.total || 1))));
  $("bar").setAttribute("aria-valuetext", `${share}, ${state}`);
  document.title = `${hasEnded() ? state : share} · ${$("title").textContent} · Holdfast`;
  drawSpark($("spark"), page.samples);
}

function showShards() {
  const { shards } = page.status;
  const lost = page.cells.filter((cell) => cell.losses).length;
  const counts = [...STATES.map((state) => [state, shards[state], state]), ["lost", lost, "with an early end"]];
  const items = counts.filter(([, count]) => count).map(([name, count, text]) => {
    const item = make("li", "", name);
    item.append(document.createElement("i"), `${COUNT.format(count)} ${text}`);
    return item;
  });
  $("legend").replaceChildren(...items);
  $("pick").max = String(Math.max(0, page.cells.length - 1));
  $("detail").ariaLive = "off"; // each second's progress is not to be read out
  showPicked();
}

function pick(index) {
  $("pick").value = String(index);
  showPicked();
}

function showPicked() {
  const index = $("pick").value === "" ? -1 : Number($("pick").value);
  const cell = page.cells[index];
  map.show(page.cells, index);
  const none = index < 0 ? "Click a square, or type its number." : "There is no such shard.";
  put("detail", cell ? tellShard(cell).join(" · ").replace(/^shard \d+: /, "") : none);
}

function showWorkers() {
  const { workers } = page.status;
  const withGpu = workers.some(({ figures }) => figures?.gpu_memory_bytes);
  const heads = ["Worker", "Device", "Shard", "Progress", ...NUMBERS, ...(withGpu ? GPU_NUMBERS : []), "Restarts"];
  const at = heads.indexOf(NUMBERS[0]);
  $("workers").tHead.rows[0].replaceChildren(...heads.map((name, place) => headCell(name, place >= at)));
  $("workers").tBodies[0].replaceChildren(...workers.map((worker) => workerRow(worker, withGpu)));
  $("workers").parentElement.hidden = !workers.length;
  $("no-workers").hidden = workers.length > 0;
  put("no-workers", page.list?.away ? "Who is at work is not known while the server is away." : "No worker is at work.");
  $("crew").hidden = hasEnded() && !workers.length;
}

function headCell(name, isNumber) {
  const cell = make("th", name, isNumber ? "number" : "");
  cell.scope = "col";
  return cell;
}

function workerRow(worker, withGpu) {
  const row = document.createElement("tr");
  const name = make("th", worker.name);
  name.scope = "row";
  name.title = `process ${worker.pid}, its child ${worker.child_pid}`;
  const idle = page.list?.jobs.length > 1 ? "not at this job" : "idle"; // what it does elsewhere is not told here
  const numbers = worker.shard === null ? [] : figuresOf(worker.figures || {});
  const shown = [...numbers, "", "", "", "", "", ""].slice(0, NUMBERS.length + (withGpu ? GPU_NUMBERS.length : 0));
  const shard = worker.trouble ? make("td", "cannot begin", "marked") : make("td", worker.shard ?? idle);
  row.append(name, make("td", worker.device), shard, progressCell(worker),
    ...shown.map((text) => make("td", text, "number")),
    make("td", String(worker.restarts), worker.restarts ? "number marked" : "number"));
  return row;
}

function progressCell({ shard, shard_done: done, shard_total: total, trouble }) {
  const cell = document.createElement("td");
  if (trouble) cell.append(`${trouble.text} (tried ${COUNT.format(trouble.times)} times)`);
  if (shard === null) return cell;
  const bar = make("span", "", "small-bar");
  const part = document.createElement("i");
  part.style.width = `${100 * done / (total || 1)}%`;
  bar.append(part);
  cell.append(bar, `${COUNT.format(done)} of ${COUNT.format(total)}`);
  return cell;
}

// In the order of NUMBERS and GPU_NUMBERS.
function figuresOf(figures) {
  const share = (value) => (value === null || value === undefined ? "" : `${Math.round(100 * value)}%`);
  const rate = (value) => (value === undefined ? "" : perSecond(value));
  const { gpu_memory_bytes: used, gpu_memory_total_bytes: all } = figures;
  const memory = used && all ? `${Math.round(used / 1e9)} of ${Math.round(all / 1e9)} GB` : "";
  return [rate(figures.sequences_per_second), rate(figures.tokens_per_second), share(figures.fill),
    share(figures.wait_share), share(figures.gpu_share), memory];
}

// Those that are new, so that only these are read out; `whole`: of another job, or after a while.
function showEvents(whole) {
  const { events } = page.status;
  const keyOf = ({ time, text }) => `${time} ${text}`;
  const newest = whole ? undefined : $("events").firstElementChild?.dataset.key;
  const known = events.findLastIndex((event) => keyOf(event) === newest);
  if (known < 0) $("events").replaceChildren();
  for (const event of events.slice(known + 1)) {
    const item = make("li", "", EVENT_LOOKS[event.kind] || "warn");
    const when = make("time", clock(event.time * 1000));
    when.dateTime = new Date(event.time * 1000).toISOString();
    item.dataset.key = keyOf(event);
    item.append(when, make("span", event.text));
    $("events").prepend(item);
  }
  while ($("events").children.length > events.length) $("events").lastElementChild.remove();
  $("no-events").hidden = events.length > 0;
}

$("pick").addEventListener("input", () => {
  $("detail").ariaLive = "polite";
  showPicked();
});
