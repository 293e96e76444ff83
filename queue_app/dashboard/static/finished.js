// A finished job: where its vectors are, its map, its card, and what is quarantined.

import { closeMap, fitMap, isMapOf, openMap } from "./embeddings.js";
import { markdownNodes } from "./markdown.js";
import { serverSource } from "./source.js";
import { page } from "./state.js";
import { $, COUNT, make, percent, put } from "./words.js";

let shown = ""; // the job whose work was folded away

export function showFinished(about) {
  const { state, job } = page.status;
  const isDone = state === "done";
  $("facts").hidden = !isDone;
  $("embeddings").hidden = !isDone;
  $("work-title").hidden = !isDone;
  $("board").dataset.state = state;
  if (!isDone) {
    $("work").open = true;
    shown = "";
    closeMap();
    return;
  }
  if (shown !== job) $("work").open = false;
  shown = job;
  tellVectors(about);
  $("card").hidden = !about.card;
  put("card-none", about.card ? "" : "not written yet, or not seen from here");
  tellQuarantined();
  $("html").href = `jobs/${job}/map.html`;
  if (about.ragged) put("map-note", "No map: every token has a vector, and no record one. Embed with --pool mean for a map.");
  else if (isMapOf(job)) fitMap();
  else openMap(serverSource(job), about.title);
}

function tellVectors({ output, columns, dim, ragged, dtype, read }) {
  const rows = COUNT.format(page.status.sequences.done);
  const several = columns.length > 1 ? `${columns.length} columns of ` : "";
  put("vectors-path", output || "in a directory that is not seen from here");
  put("vectors-shape", dim ? `${several}${rows}${ragged ? " × tokens" : ""} × ${COUNT.format(dim)}, ${dtype}` : "");
  put("vectors-read", read);
  $("vectors-copy").hidden = !read;
}

function tellQuarantined() {
  const { quarantined, total } = page.status.sequences;
  put("aside-count", quarantined ? `${COUNT.format(quarantined)} of ${COUNT.format(total)} (${percent(quarantined, total)})` : "none");
  $("aside-show").hidden = !quarantined;
}

async function copyLine() {
  const line = $("vectors-read");
  try {
    await navigator.clipboard.writeText(line.textContent);
    put("vectors-copied", "copied");
  } catch {
    getSelection().selectAllChildren(line); // not over plain http from elsewhere: then by hand
    put("vectors-copied", "selected");
  }
}

async function showCard() {
  const response = await fetch(`jobs/${page.job}/card`).catch(() => null);
  const answer = await response?.json().catch(() => null);
  const text = answer?.card || answer?.error || "No connection.";
  $("card-text").replaceChildren(...markdownNodes(text));
  $("card-dialog").showModal();
  $("card-dialog").scrollTop = 0;
}

function showQuarantined() {
  $("work").open = true;
  $("quarantine-title").focus();
  $("quarantine-title").scrollIntoView({ block: "start" });
}

$("vectors-copy").addEventListener("click", copyLine);
$("card").addEventListener("click", showCard);
$("aside-show").addEventListener("click", showQuarantined);
