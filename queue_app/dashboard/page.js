// The page: one stream of events in, what they say on the screen, three buttons out.

// `kept` says where the board was read: by the server, in the directory, or from memory; `from` and `listed`
// which of the records set aside are wanted and shown.
const page = { source: null, job: null, list: null, status: null, kept: "server", cells: [], samples: [] };
const map = new ShardMap($("map"), $("tip"), pick);

// ---- the stream

function follow(job) {
  page.source?.close();
  Object.assign(page, { job, status: null, kept: "server", cells: [], samples: [], from: 0, listed: "" });
  $("board").hidden = true;
  $("nothing").hidden = false;
  put("answer", "");
  history.replaceState(null, "", `/#${job}`); // the token leaves the address
  page.source = new EventSource(`/events?job=${encodeURIComponent(job)}`);
  page.source.addEventListener("jobs", (event) => showJobs(JSON.parse(event.data)));
  page.source.addEventListener("board", (event) => showBoard(JSON.parse(event.data)));
  page.source.onerror = () => {
    const over = page.source.readyState === EventSource.CLOSED;
    showLink("away", over ? "ended: open the address that holdfast dashboard prints" : "no connection, trying again");
  };
  page.source.onopen = () => showState();
}

function showLink(kind, text) {
  $("link").dataset.kind = kind;
  put("link", text);
}

function showState() {
  if (!page.list) return;
  $("link").title = page.list.away;
  const fromDisk = page.kept === "directory" ? "; read from the directory" : "";
  if (!page.list.away) showLink("live", "live");
  else if (fromDisk && hasEnded()) showLink("wait", `its server has ended${fromDisk}`);
  else showLink("away", `the server is away${fromDisk || ", trying again"}`);
}

// ---- the jobs

function showJobs(list) {
  page.list = list;
  put("server", list.server);
  $("jobs").hidden = list.jobs.length < 2;
  put("nothing", list.jobs.length ? "Looking at the job…" : "No job yet.");
  $("nothing").hidden = Boolean(page.status);
  listJobs(list.jobs);
  showState();
  if (!list.jobs.some((job) => job.job === page.job)) {
    const first = (...states) => list.jobs.find((job) => states.includes(job.state));
    const next = first("running") || first("ingesting", "paused") || list.jobs.at(-1);
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
    button.lastElementChild.textContent = `${job.state || "not known to the server"}${share}`;
  });
}

function jobItem(job) {
  const item = make("li", "");
  const button = make("button", job.title);
  item.dataset.job = job.job;
  button.type = "button";
  button.title = job.job;
  button.append(make("small", ""));
  button.addEventListener("click", () => follow(job.job));
  item.append(button);
  return item;
}

// ---- what was set aside

async function listQuarantine() {
  const { sequences, shards, job } = page.status;
  const wanted = `${job} ${page.from} ${sequences.quarantined} ${shards.done} ${page.kept}`;
  const unreachable = page.list.away && page.kept !== "directory";
  if (wanted === page.listed || unreachable) return;
  page.listed = wanted;
  let answer = { start: 0, num_entries: 0, entries: [] };
  if (sequences.quarantined) {
    const response = await fetch(`/jobs/${job}/quarantine?from=${page.from}`).catch(() => null);
    if (!response?.ok) { page.listed = ""; return; }
    answer = await response.json();
  }
  if (page.listed === wanted) showQuarantine(answer);
}

function showQuarantine({ start, num_entries: all, entries }) {
  $("quarantine").tBodies[0].replaceChildren(...entries.map((entry) => {
    const row = document.createElement("tr");
    row.append(make("td", entry.id), make("td", COUNT.format(entry.length), "number"), make("td", entry.reason));
    return row;
  }));
  $("quarantine").parentElement.hidden = !entries.length;
  const waiting = page.status.sequences.quarantined - all;
  $("no-quarantine").hidden = waiting <= 0 && all > 0;
  const more = `${COUNT.format(waiting)} more will be listed when their shards are done.`;
  put("no-quarantine", waiting > 0 ? more : "No record is set aside.");
  $("pager").hidden = all <= entries.length;
  const [first, last] = [start + 1, start + entries.length].map((number) => COUNT.format(number));
  put("range", entries.length ? `${first} to ${last} of ${COUNT.format(all)}` : "");
  $("back").disabled = start === 0;
  $("forth").disabled = start + entries.length >= all;
}

function turn(by) {
  page.from = Math.max(0, page.from + by);
  listQuarantine();
}

// ---- the controls

async function act(what) {
  if (what === "cancel" && !await isSure()) return;
  say("note", "…");
  const response = await fetch(`/jobs/${page.job}/${what}`, { method: "POST" }).catch(() => null);
  const answer = await response?.json().catch(() => null);
  if (response?.ok) return say("note", `Asked to ${what}: the job is ${answer.state}.`);
  const why = answer?.error || (response ? `refused (${response.status})` : "no connection");
  return say("bad", `Could not ${what}: ${why}.`);
}

function isSure() {
  const dialog = $("confirm");
  dialog.returnValue = "no"; // what Escape leaves it at
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

function say(kind, text) {
  $("answer").dataset.kind = kind;
  put("answer", text);
}

document.querySelectorAll("#controls button").forEach((button) => {
  button.addEventListener("click", () => act(button.dataset.do));
});
$("pick").addEventListener("input", () => {
  $("detail").ariaLive = "polite";
  pick(Number($("pick").value));
});
$("back").addEventListener("click", () => turn(-50));
$("forth").addEventListener("click", () => turn(50));
follow(location.hash.slice(1));
