// The words and numbers of the page, and the two ways in which it writes them.

export const COUNT = new Intl.NumberFormat("en");

export const $ = (id) => document.getElementById(id);

// Only what differs is written: what stays the same is not read out again.
export function put(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

export function make(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

// Percent and rates are written as words.py writes them; of less than one percent a digit more.
export function percent(part, whole) {
  const share = whole ? part / whole : 1;
  if (share > 0 && share < 0.01) return `${(100 * share).toPrecision(1)}%`;
  return share >= 1 ? "100%" : `${Math.min(Math.round(100 * share), 99)}%`;
}

export function perSecond(rate) {
  return rate >= 10 || !rate ? COUNT.format(Math.round(rate)) : rate.toFixed(1);
}

export function duration(seconds) {
  const all = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  if (hours) return `${hours} h ${String(minutes).padStart(2, "0")} min`;
  return minutes ? `${minutes} min ${String(rest).padStart(2, "0")} s` : `${rest} s`;
}

export function clock(milliseconds) {
  return new Date(milliseconds).toLocaleTimeString("en-GB");
}

export function tellShard(cell) {
  const lines = [`shard ${cell.index}: ${cell.state}`, `${COUNT.format(cell.done)} of ${COUNT.format(cell.total)} done`];
  if (cell.quarantined) lines.push(`${COUNT.format(cell.quarantined)} quarantined`);
  if (cell.worker) lines.push(cell.state === "running" ? `held by ${cell.worker}` : `last held by ${cell.worker}`);
  if (cell.attempts > 1) lines.push(`attempt ${cell.attempts} since its last commit`);
  if (cell.losses) lines.push(`came to an early end ${cell.losses === 1 ? "once" : `${cell.losses} times`}`);
  if (cell.error) lines.push(cell.error);
  return lines;
}

// Beside the pointer and within the window; no text, no tip.
export function showTip(tip, event, text) {
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const box = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
  const below = event.clientY + 18 + box.height < innerHeight;
  tip.style.left = `${left}px`;
  tip.style.top = `${below ? event.clientY + 18 : event.clientY - box.height - 10}px`;
}
