// One job on the screen.

const CELL = ["index", "state", "done", "quarantined", "total", "attempts", "losses", "worker", "error"];
const ALLOWED = { pause: ["running"], unpause: ["paused"], cancel: ["ingesting", "running", "paused", "failed"] };
const ENDED = ["done", "failed", "cancelled"];
const EVENTS_SHOWN = 200;
const SAMPLES_SHOWN = 450;

function showBoard(news) {
  if (news.whole) {
    Object.assign(page, { cells: [], samples: [] });
    $("events").replaceChildren();
  }
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
  showEvents(news.events);
  offerMap();
  showState();
  listQuarantine();
}

function showHead(about) {
  const { state, job, trouble } = page.status;
  put("title", about.title);
  put("state", state);
  $("state").dataset.state = state;
  const model = about.model && `${about.model}, ${about.dim} dimensions`;
  const parts = [`job ${job}`, model, about.inputs && `from ${about.inputs}`, about.output && `to ${about.output}`];
  put("about", parts.filter(Boolean).join(" · "));
  document.querySelectorAll("#controls button").forEach((button) => {
    button.disabled = Boolean(page.list?.away) || !ALLOWED[button.dataset.do].includes(state);
  });
  $("trouble").hidden = !trouble || hasEnded();
  put("trouble", trouble ? `Tried again: ${trouble}` : "");
}

function hasEnded() {
  return ENDED.includes(page.status?.state);
}

function showFigures() {
  const { sequences, shards, rate, eta_seconds: left, state } = page.status;
  const settled = sequences.done + sequences.quarantined;
  const share = percent(settled, sequences.total);
  const moving = rate > 0 && state === "running";
  put("settled", COUNT.format(settled));
  put("of-total", `of ${COUNT.format(sequences.total)}, ${share}`);
  put("rate", moving ? `${COUNT.format(rate >= 10 ? Math.round(rate) : Number(rate.toFixed(1)))}/s` : "–");
  put("left", hasEnded() ? "–" : moving && left !== null ? duration(left) : "–");
  put("ends", moving && left > 90 ? `until ${clock(Date.now() + left * 1000)}` : "");
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
  drawSpark();
}

function drawSpark() {
  const rates = page.samples.slice(1).map(([time, done], at) => {
    const [before, was] = page.samples[at];
    return [time, Math.max(0, done - was) / Math.max(time - before, 0.001)];
  });
  $("spark").replaceChildren();
  if (rates.length < 2) return;
  const [first, last] = [rates[0][0], rates.at(-1)[0]];
  const most = Math.max(...rates.map(([, rate]) => rate)) || 1;
  $("spark").setAttribute("viewBox", "0 0 100 20");
  const peak = COUNT.format(Math.round(most));
  $("spark").setAttribute("aria-label", `Rate over ${duration(last - first)}, at most ${peak} a second`);
  const across = (time) => (100 * (time - first) / (last - first)).toFixed(2);
  const points = rates.map(([time, rate]) => `${across(time)},${(19 - 18 * rate / most).toFixed(2)}`);
  for (const [name, path] of [["area", `M0,20L${points.join("L")}L100,20Z`], ["line", `M${points.join("L")}`]]) {
    const drawn = document.createElementNS("http://www.w3.org/2000/svg", "path");
    drawn.setAttribute("class", name);
    drawn.setAttribute("d", path);
    $("spark").append(drawn);
  }
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
  pick(Number($("pick").value));
}

function pick(index) {
  if (Number($("pick").value) !== index) $("pick").value = String(index);
  map.show(page.cells, index);
  const cell = page.cells[index];
  put("detail", cell ? tellShard(cell).join(" · ").replace(/^shard \d+: /, "") : "");
}

function showWorkers() {
  const { workers } = page.status;
  $("workers").tBodies[0].replaceChildren(...workers.map(workerRow));
  $("workers").parentElement.hidden = !workers.length;
  $("workers").parentElement.nextElementSibling.hidden = workers.length > 0;
}

function workerRow(worker) {
  const row = document.createElement("tr");
  const name = make("td", worker.name.split("@")[0]);
  name.title = `${worker.name}, process ${worker.pid}, its child ${worker.child_pid}`;
  const done = document.createElement("td");
  const cell = worker.shard === null ? undefined : page.cells[worker.shard];
  if (cell) {
    const bar = make("span", "", "small-bar");
    const part = document.createElement("i");
    part.style.width = `${100 * (cell.done + cell.quarantined) / (cell.total || 1)}%`;
    bar.append(part);
    done.append(bar, `${COUNT.format(cell.done + cell.quarantined)} of ${COUNT.format(cell.total)}`);
  }
  const idle = page.list.jobs.length > 1 ? "not at this job" : "idle"; // what it does elsewhere is not told here
  row.append(name, make("td", worker.device), make("td", worker.host), make("td", worker.shard ?? idle), done,
    make("td", worker.rate ? worker.rate.toFixed(1) : "–", "number"),
    make("td", String(worker.restarts), worker.restarts ? "number marked" : "number"));
  return row;
}

function showEvents(events) {
  for (const { time, kind, text } of events) {
    const item = make("li", "", kind);
    const when = make("time", clock(time * 1000));
    when.dateTime = new Date(time * 1000).toISOString();
    item.append(when, make("span", text));
    $("events").prepend(item);
  }
  while ($("events").children.length > EVENTS_SHOWN) $("events").lastElementChild.remove();
  $("events").nextElementSibling.hidden = $("events").children.length > 0;
}
