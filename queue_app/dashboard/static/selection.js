// The records that were selected on the map, and taking them away.

import { chart, drawnOf, isPart, tried } from "./chart.js";
import { saveBlob } from "./picture.js";
import { $, COUNT, put } from "./words.js";

const BREAKS = /\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]/g;
const TYPES = { ids: "ids.txt", csv: "selection.csv", fasta: "selection.fasta" };

// `onSelected` is told when others are selected, `lit` says which places are lit, null for all.
export function startSelection({ onSelected, lit }) {
  $("select-lit").addEventListener("click", () => setSelection([...(lit() || [])], onSelected));
  $("select-none").addEventListener("click", () => setSelection([], onSelected));
  $("copy-ids").addEventListener("click", copyIds);
  $("take-ids").addEventListener("click", () => take("ids"));
  for (const kind of ["csv", "fasta"]) $(`take-${kind}`).addEventListener("click", () => take(kind));
  return (places) => setSelection(places, onSelected);
}

function setSelection(places, onSelected) {
  chart.selected = [...places].sort((one, other) => one - other);
  const count = chart.selected.length;
  $("selection").hidden = !count;
  put("selected", count ? `${COUNT.format(count)} selected${isPart() ? `, of the ${drawnOf()} records that are drawn` : ""}` : "");
  put("copied", "");
  onSelected(chart.selected);
}

// How many are lit, where not all are: they can be selected without a pointer.
export function offerLit(lit) {
  $("select-lit").hidden = !lit || !lit.size;
  put("select-lit", lit ? `Select what is lit (${COUNT.format(lit.size)})` : "");
}

// What can be taken away of this map.
export function offerTakes() {
  $("take-csv").hidden = !chart.source.takes.includes("csv");
  $("take-fasta").hidden = !chart.source.takes.includes("fasta") || chart.map.is_text;
}

// A line break inside an id is a blank, as in the ids that lie beside an output.
function ids() {
  return chart.selected.map((place) => `${chart.map.ids[place].replace(BREAKS, " ")}\n`).join("");
}

async function copyIds() {
  try {
    await navigator.clipboard.writeText(ids());
    put("copied", `${COUNT.format(chart.selected.length)} ids copied`);
  } catch {
    put("copied", "this browser does not let a page copy here; take the ids as a file");
  }
}

async function take(kind) {
  const ordinals = chart.selected.map((place) => chart.map.ordinals[place]);
  const blob = kind === "ids" ? new Blob([ids()], { type: "text/plain" }) : await tried(chart.source.take(chart.of, kind, ordinals));
  if (blob) saveBlob(blob, TYPES[kind]);
}
