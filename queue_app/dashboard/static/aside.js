// The quarantined records, a page at a time.

import { page } from "./state.js";
import { $, COUNT, make, put } from "./words.js";

const PAGE_SIZE = 50; // as aside.py

// `from` and `shown` say which of them are wanted, and which are asked for or on the screen.
const aside = { from: 0, shown: "" };

export function forgetAside() {
  Object.assign(aside, { from: 0, shown: "" });
}

export async function listAside() {
  const { sequences, shards, job } = page.status;
  const wanted = `${job} ${aside.from} ${sequences.quarantined} ${shards.done} ${page.kept}`;
  const unreachable = page.list.away && page.kept !== "directory";
  if (wanted === aside.shown || unreachable) return;
  aside.shown = wanted;
  let answer = { start: 0, num_entries: 0, entries: [] };
  if (sequences.quarantined) {
    const response = await fetch(`jobs/${job}/quarantine?from=${aside.from}`).catch(() => null);
    if (!response?.ok) { aside.shown = ""; return; }
    answer = await response.json();
  }
  if (aside.shown === wanted) showAside(answer);
}

function showAside({ start, num_entries: all, entries }) {
  $("quarantine").tBodies[0].replaceChildren(...entries.map((entry) => {
    const row = document.createElement("tr");
    row.append(make("td", entry.id), make("td", COUNT.format(entry.length), "number"), make("td", entry.reason));
    return row;
  }));
  $("quarantine").parentElement.hidden = !entries.length;
  const waiting = page.status.sequences.quarantined - all;
  $("no-quarantine").hidden = waiting <= 0 && all > 0;
  const more = `${COUNT.format(waiting)} more will be listed when their shards are done.`;
  put("no-quarantine", waiting > 0 ? more : "No record is quarantined.");
  $("pager").hidden = all <= entries.length;
  const [first, last] = [start + 1, start + entries.length].map((number) => COUNT.format(number));
  put("range", entries.length ? `${first} to ${last} of ${COUNT.format(all)}` : "");
  $("back").disabled = start === 0;
  $("forth").disabled = start + entries.length >= all;
}

function turn(by) {
  aside.from = Math.max(0, aside.from + by);
  listAside();
}

$("back").addEventListener("click", () => turn(-PAGE_SIZE));
$("forth").addEventListener("click", () => turn(PAGE_SIZE));
