// The last hour, summed over all servers: a small line chart for each figure.

import {bytes, count, decimal} from "./format.js";
import {element} from "./table.js";

const WIDTH = 240, HEIGHT = 60;
const STEP = 30; // seconds

const CHARTS = [
  {title: "Busy slots", column: "busy_slots", show: decimal},
  {title: "Slots waited for", column: "waiting", show: decimal},
  {title: "Jobs a minute", column: "jobs_done", show: decimal, factor: 60, isRate: true},
  {title: "Failed a minute", column: "jobs_failed", show: decimal, factor: 60, isRate: true},
  {title: "Load", column: "load", show: decimal},
  {title: "Free memory", column: "memory_free", show: bytes},
  {title: "Received", column: "bytes_in", show: (value) => bytes(value, true), isRate: true},
  {title: "Sent", column: "bytes_out", show: (value) => bytes(value, true), isRate: true},
];

export class Charts {
  constructor(place) {
    this.charts = CHARTS.map((chart) => ({...chart, ...make(place, chart)}));
  }

  show(steps) {
    for (const chart of this.charts) {
      const points = steps.filter((step) => step[chart.column] !== undefined)
        .map((step) => [step.at, step[chart.column] * (chart.factor ?? 1)]);
      draw(chart, points);
    }
  }
}

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function make(place, {title}) {
  const figure = element("figure"), caption = element("figcaption"), value = element("b");
  caption.append(title, value);
  const picture = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title});
  const area = svg("path", {class: "chart-area"}), line = svg("path", {class: "chart-line"});
  picture.append(svg("path", {class: "chart-base", d: `M0 ${HEIGHT}H${WIDTH}`}), area, line);
  figure.append(caption, picture);
  place.append(figure);
  return {value, picture, area, line};
}

function draw(chart, points) {
  const last = points.at(-1);
  const values = points.map(([, value]) => value);
  const most = Math.max(0, ...values), least = Math.min(...values);
  const now = last ? chart.show(last[1]) : "";
  const label = last
    ? `${chart.title}, last hour: now ${now}, minimum ${chart.show(least)}, maximum ${chart.show(most)}`
    : `${chart.title}: no data yet`;
  if (chart.picture.getAttribute("aria-label") === label && chart.at === last?.[0]) return;
  chart.at = last?.[0];
  chart.picture.setAttribute("aria-label", label);
  chart.value.textContent = now;
  const begin = last ? last[0] - 119 * STEP : 0, scale = most || 1;
  let path = "", before = null, first = null;
  for (const [at, value] of points) {
    const x = ((at - begin) / (119 * STEP)) * WIDTH, y = HEIGHT - 2 - (value / scale) * (HEIGHT - 6);
    path += `${before !== null && at - before <= 2 * STEP ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    before = at;
    first ??= x;
  }
  chart.line.setAttribute("d", path);
  const isWhole = (path.match(/M/g) ?? []).length === 1;
  chart.area.setAttribute("d", isWhole && points.length > 1 ? `${path}L${WIDTH} ${HEIGHT}L${first.toFixed(1)} ${HEIGHT}Z` : "");
}
