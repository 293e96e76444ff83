// Pause, unpause and cancel.

import { page } from "./state.js";
import { $, put } from "./words.js";

const ALLOWED = { pause: ["running"], unpause: ["paused"], cancel: ["ingesting", "running", "paused", "failed"] };
const buttons = [...document.querySelectorAll("#controls button")];

// Asked for, and not yet to be seen on the screen.
let awaited = null;

// What may be asked for now.
export function showControls() {
  const { state } = page.status;
  for (const button of buttons) {
    button.disabled = Boolean(page.list?.away) || !ALLOWED[button.dataset.do].includes(state);
  }
  $("controls").hidden = !Object.values(ALLOWED).flat().includes(state);
  if (state === awaited) say("note", "");
}

// `job` is the one that was on the screen: another may have taken its place by the time of the answer.
async function act(what) {
  const { job } = page;
  if (what === "cancel" && !await isSure()) return;
  say("note", "…");
  const response = await fetch(`jobs/${job}/${what}`, { method: "POST" }).catch(() => null);
  const answer = await response?.json().catch(() => null);
  if (response?.ok) {
    if (page.job !== job || page.status?.state === answer.state) return say("note", "");
    say("note", `Asked to ${what}…`);
    awaited = answer.state;
    return;
  }
  const why = answer?.error || (response ? `refused (${response.status})` : "no connection");
  say("bad", `Could not ${what}: ${why}.`);
}

function isSure() {
  const dialog = $("confirm");
  put("confirm-title", `Cancel ${$("title").textContent}?`);
  dialog.returnValue = "no"; // what Escape leaves it at
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

export function say(kind, text) {
  awaited = null;
  $("answer").dataset.kind = kind;
  put("answer", text);
}

for (const button of buttons) button.addEventListener("click", () => act(button.dataset.do));
