// The rate of the last minutes, as a line.

import { COUNT, duration } from "./words.js";

export function drawSpark(drawing, samples) {
  const rates = samples.slice(1).map(([time, done], at) => {
    const [before, was] = samples[at];
    return [time, Math.max(0, done - was) / Math.max(time - before, 0.001)];
  });
  drawing.replaceChildren();
  if (rates.length < 2) return;
  const [first, last] = [rates[0][0], rates.at(-1)[0]];
  const most = Math.max(...rates.map(([, rate]) => rate)) || 1;
  drawing.setAttribute("viewBox", "0 0 100 20");
  const peak = COUNT.format(Math.round(most));
  drawing.setAttribute("aria-label", `Rate over ${duration(last - first)}, at most ${peak} a second`);
  const across = (time) => (100 * (time - first) / (last - first)).toFixed(2);
  const points = rates.map(([time, rate]) => `${across(time)},${(19 - 18 * rate / most).toFixed(2)}`);
  for (const [name, path] of [["area", `M0,20L${points.join("L")}L100,20Z`], ["line", `M${points.join("L")}`]]) {
    const drawn = document.createElementNS("http://www.w3.org/2000/svg", "path");
    drawn.setAttribute("class", name);
    drawn.setAttribute("d", path);
    drawing.append(drawn);
  }
}
