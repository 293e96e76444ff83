// The page: one stream of events in, what they say on the screen.

import { forgetAside, listAside } from "./aside.js";
import { showBoard } from "./board.js";
import { say, showControls } from "./controls.js";
import { hasEnded, page } from "./state.js";
import { $, make, percent, put } from "./words.js";

let stream = null;

// ---- the stream

function follow(job) {
  stream?.close();
  Object.assign(page, { job, status: null, kept: "server", cells: [], samples: [] });
  forgetAside();
  $("board").hidden = true;
  $("nothing").hidden = false;
  say("note", "");
  history.replaceState(null, "", `#${job}`);
  stream = new EventSource(`events?job=${encodeURIComponent(job)}`);
  stream.addEventListener("jobs", (event) => showJobs(JSON.parse(event.data)));
  stream.addEventListener("board", (event) => {
    showBoard(JSON.parse(event.data));
    showState();
    listAside();
  });
  stream.onerror = () => {
    const over = stream.readyState === EventSource.CLOSED;
    $("link").hidden = false;
    showLink("away", over ? "ended: open the address that holdfast dashboard prints" : "no connection, trying again");
  };
  stream.onopen = () => showState();
}

function showLink(kind, text) {
  $("link").dataset.kind = kind;
  put("link", text);
}

function showState() {
  if (!page.list) return;
  $("link").title = page.list.away;
  if (page.status) showControls();
  const fromDisk = page.kept === "directory" ? "; read from the directory" : "";
  $("link").hidden = page.status?.state === "done" && page.kept === "directory";
  if (!page.list.away) showLink("live", "live");
  else if (fromDisk && hasEnded()) showLink("wait", "read from the directory");
  else showLink("away", `the server is away${fromDisk || ", trying again"}`);
}

// ---- the jobs

function showJobs(list) {
  page.list = list;
  $("jobs").hidden = list.jobs.length < 2;
  put("nothing", list.jobs.length ? "Looking at the job…" : "No job yet. It appears here as soon as it is begun.");
  $("nothing").hidden = Boolean(page.status);
  listJobs(list.jobs);
  showState();
  if (!list.jobs.some((job) => job.job === page.job)) {
    const first = (...states) => list.jobs.find((job) => states.includes(job.state));
    const next = first("running") || first("ingesting", "paused", "stopped") || list.jobs.at(-1);
    if (next) follow(next.job); else $("board").hidden = true;
  }
}

// Buttons stay while their jobs do: a new one would lose the focus.
function listJobs(jobs) {
  const list = $("jobs").firstElementChild;
  const there = new Map([...list.children].map((item) => [item.dataset.job, item]));
  const items = jobs.map((job) => there.get(job.job) || jobItem(job));
  const same = items.length === there.size && items.every((item, at) => item === list.children[at]);
  if (!same) list.replaceChildren(...items);
  jobs.forEach((job, at) => {
    const share = job.total ? `, ${percent(job.settled, job.total)}` : "";
    const button = items[at].firstElementChild;
    button.setAttribute("aria-current", String(job.job === page.job));
    button.lastElementChild.textContent = `${job.state || "nothing is known of it"}${share}`;
  });
}

function jobItem(job) {
  const item = make("li", "");
  const button = make("button", job.title);
  item.dataset.job = job.job;
  button.type = "button";
  button.title = job.directory || job.job;
  button.append(make("small", ""));
  button.addEventListener("click", () => follow(job.job));
  item.append(button);
  return item;
}

addEventListener("hashchange", () => follow(location.hash.slice(1)));
follow(location.hash.slice(1));
