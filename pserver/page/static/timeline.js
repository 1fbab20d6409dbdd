// Jobs by slot: a lane for each slot and a bar for each job, drawn on a canvas. Only visible lanes are drawn, and only
// when something moves by a pixel, so invisible lanes cost nothing.

import {BEGIN, END, IS_PROGRAM, LABEL, OUTCOME, OUTCOMES, USER} from "./model.js";
import {clock, seconds} from "./format.js";
import {element} from "./table.js";

const AXIS = 22, MOST_HEIGHT = 416, COLOURS = 8;
const FAST_MS = 33; // shortest interval between two drawings
const CALM_MS = 1000; // the same for users who prefer reduced motion
const SPANS = [10, 30, 60, 120, 300, 900, 1800, 3600];
const TICKS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];

export class Timeline {
  constructor(model, parts) {
    this.model = model;
    Object.assign(this, parts); // scroll, space, canvas, tip, legend, server, colour, spanChoice
    this.context = this.canvas.getContext("2d");
    this.span = 60;
    this.back = 0; // seconds before now at the right edge
    this.frozen = null; // the time at the right edge while paused
    this.colours = new Map();
    this.lanes = [];
    this.isDirty = true;
    this.drawnAt = 0;
    this.cost = 0;
    this.frames = [];
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.listen();
    this.readColours();
    requestAnimationFrame((at) => this.frame(at));
  }

  listen() {
    const redraw = () => { this.isDirty = true; };
    new ResizeObserver(redraw).observe(this.scroll);
    this.scroll.addEventListener("scroll", () => { redraw(); this.hideTip(); }, {passive: true});
    this.server.addEventListener("change", () => this.update());
    this.colour.addEventListener("change", () => { this.colours.clear(); this.update(); });
    this.spanChoice.addEventListener("change", () => { this.setSpan(Number(this.spanChoice.value)); });
    this.scroll.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("pointermove", (event) => this.showTip(event));
    this.canvas.addEventListener("pointerdown", (event) => this.showTip(event));
    this.canvas.addEventListener("pointerleave", () => this.hideTip());
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const place = SPANS.findIndex((span) => span >= this.span);
    switch (event.key) {
      case "+": case "=": this.setSpan(SPANS[Math.max(0, place - 1)]); break;
      case "-": this.setSpan(SPANS[Math.min(SPANS.length - 1, place + 1)]); break;
      case "ArrowLeft": this.back = Math.min(3600 - this.span / 2, this.back + this.span / 10); break;
      case "ArrowRight": this.back = Math.max(0, this.back - this.span / 10); break;
      case "Home": this.back = 0; break;
      default: return;
    }
    event.preventDefault();
    this.isDirty = true;
  }

  setSpan(span) {
    this.span = span;
    if (![...this.spanChoice.options].some((option) => Number(option.value) === span)) {
      const option = element("option", "", seconds(span));
      option.value = String(span);
      this.spanChoice.append(option);
    }
    this.spanChoice.value = String(span);
    this.isDirty = true;
  }

  pause(isPaused) {
    this.frozen = isPaused ? this.model.now - this.back : null;
    this.isDirty = true;
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(name).trim();
    this.paint = {
      lane: get("--lane"), line: get("--line"), text: get("--text"), soft: get("--soft"), card: get("--card"),
      failed: get("--failed"), lost: get("--lost"),
      work: Array.from({length: COLOURS}, (_, place) => get(`--w${place}`)),
    };
    this.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    this.isDirty = true;
  }

  // To be called when the model has changed.
  update() {
    const chosen = this.server.value;
    const servers = [...this.model.servers.values()].filter((server) => !chosen || server.key === chosen);
    const slots = new Map(servers.map((server) =>
      [server, [...new Set([...server.slots, ...server.lanes.keys()])].sort((a, b) => a - b)]));
    this.lanes = servers.flatMap((server) => slots.get(server).map((slot, place) => ({server, slot, isFirst: place === 0})));
    this.isMany = this.lanes.length > 60;
    this.laneHeight = this.isMany ? 14 : 20;
    const height = AXIS + this.lanes.length * this.laneHeight + 4;
    const inner = Math.max(64, Math.min(MOST_HEIGHT, height));
    if (this.height !== inner) {
      this.height = inner;
      this.scroll.style.height = `${inner + 2}px`;
    }
    if (this.total !== height) {
      this.total = height;
      this.space.style.height = `${height}px`;
    }
    this.isDirty = true;
  }

  frame(at) {
    requestAnimationFrame((next) => this.frame(next));
    if (document.hidden) return;
    const width = this.canvas.clientWidth || 1;
    const moves = this.frozen === null ? (1000 * this.span) / width : Infinity; // milliseconds per pixel
    const pause = this.calm.matches ? CALM_MS : Math.max(FAST_MS, moves, 8 * this.cost);
    if (at - this.drawnAt < (this.isDirty && !this.calm.matches ? FAST_MS : pause)) return;
    const begin = performance.now();
    this.draw();
    this.drawnAt = at;
    this.isDirty = false;
    this.cost = performance.now() - begin;
    this.frames.push(this.cost);
    if (this.frames.length > 600) this.frames.shift();
  }

  get right() {
    return this.frozen ?? this.model.now - this.back;
  }

  get gutter() {
    return Math.min(150, Math.max(84, this.canvas.clientWidth * 0.16));
  }

  draw() {
    const {canvas, context, paint} = this;
    const width = this.scroll.clientWidth, height = this.height ?? 64, ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = this.font;
    context.textBaseline = "middle";
    const left = this.gutter, end = this.right, begin = end - this.span;
    const scale = (width - left - 6) / this.span;
    const view = {left, width, height, begin, end, scale, x: (instant) => left + (instant - begin) * scale};
    const top = this.scroll.scrollTop;
    const first = Math.max(0, Math.floor(top / this.laneHeight)), most = Math.ceil(height / this.laneHeight) + 1;
    context.save();
    context.beginPath();
    context.rect(0, AXIS, width, height - AXIS);
    context.clip();
    const texts = [];
    for (let place = first; place < Math.min(this.lanes.length, first + most); place++) {
      this.drawLane(this.lanes[place], AXIS + place * this.laneHeight - top, view, texts, place === first);
    }
    context.fillStyle = paint.card;
    for (const [text, x, y] of texts) context.fillText(text, x, y);
    context.restore();
    this.drawAxis(view);
    if (!this.lanes.length) {
      context.fillStyle = paint.soft;
      context.fillText("No slots yet.", 12, AXIS + 18);
    }
  }

  drawLane(lane, y, view, texts, isTop) {
    const {context, paint} = this;
    const {server, slot} = lane, bar = this.laneHeight - 3;
    context.fillStyle = paint.lane;
    context.fillRect(view.left, y, view.width - view.left - 6, bar);
    const isNamed = lane.isFirst || isTop;
    context.fillStyle = isNamed ? paint.text : paint.soft;
    const label = isNamed ? `${server.name} · ${slot}` : String(slot);
    context.textAlign = "right";
    context.fillText(cut(label, view.left - 12), view.left - 7, y + bar / 2, view.left - 10);
    context.textAlign = "left";
    const works = server.lanes.get(slot);
    if (!works) return;
    let covered = Infinity; // everything right of this pixel is drawn
    for (let place = works.length - 1; place >= 0; place--) {
      const work = works[place];
      const from = work[BEGIN] + server.skew;
      const to = work[END] === null ? Math.max(from, server.row.is_up ? view.end : server.until) : work[END] + server.skew;
      if (from > view.end) continue;
      if (to < view.begin) break;
      const x0 = Math.round(Math.max(view.left, view.x(from))), x1 = Math.round(Math.min(view.width - 6, view.x(to)));
      if (x0 >= covered) continue;
      const wide = Math.max(1, x1 - x0 - (x1 - x0 > 3 ? 1 : 0));
      context.fillStyle = this.colourOf(work);
      context.globalAlpha = work[END] === null ? 0.72 : 1;
      context.fillRect(x0, y, wide, bar);
      context.globalAlpha = 1;
      const label = wide > 44 && work[LABEL] ? cut(work[LABEL], wide - 8) : "";
      if (work[OUTCOME] === 1 || work[OUTCOME] === 2) {
        this.hatch(x0, y, wide, bar);
        // Strokes behind the letters would make the label hard to read.
        if (label) context.fillRect(x0 + 1, y, Math.min(wide - 1, context.measureText(label).width + 6), bar);
      }
      if (label) texts.push([label, x0 + 4, y + bar / 2 + 0.5]);
      if (x1 === x0) covered = x0;
    }
  }

  // Not by colour alone: failed and lost jobs are hatched.
  hatch(x, y, width, height) {
    if (width < 4) return;
    const {context} = this;
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.strokeStyle = this.paint.card;
    context.lineWidth = 1.5;
    context.beginPath();
    for (let at = x - height; at < x + Math.min(width, 400); at += 7) {
      context.moveTo(at, y + height);
      context.lineTo(at + height, y);
    }
    context.stroke();
    context.restore();
  }

  drawAxis(view) {
    const {context, paint} = this;
    const step = TICKS.find((each) => each * view.scale > 78) ?? 3600;
    context.fillStyle = paint.soft;
    context.strokeStyle = paint.line;
    context.lineWidth = 1;
    context.textAlign = "center";
    context.beginPath();
    for (let at = Math.ceil(view.begin / step) * step; at <= view.end; at += step) {
      const x = Math.round(view.x(at)) + 0.5;
      context.moveTo(x, AXIS - 4);
      context.lineTo(x, AXIS);
      if (x > view.left + 24 && x < view.width - 30) context.fillText(clock(at), x, AXIS / 2);
    }
    context.stroke();
    context.textAlign = "left";
  }

  colourOf(work) {
    if (work[OUTCOME] === 1) return this.paint.failed;
    if (work[OUTCOME] === 2 || work[OUTCOME] === 4) return this.paint.lost;
    return this.paint.work[this.numberOf(work)];
  }

  numberOf(work) {
    const kind = this.colour.value;
    const name = kind === "outcome" ? OUTCOMES[work[OUTCOME]] : (kind === "user" ? work[USER] : work[LABEL]);
    if (!name) return COLOURS - 1; // a job that has just started gets its name a moment later
    let number = this.colours.get(name);
    if (number === undefined) {
      if (this.colours.size > 500) return COLOURS - 1;
      number = Math.min(this.colours.size, COLOURS - 1);
      this.colours.set(name, number);
      this.isLegendOld = true;
    }
    return number;
  }

  showLegend() {
    if (!this.isLegendOld) return;
    this.isLegendOld = false;
    const names = [...this.colours.keys()];
    const entries = names.slice(0, COLOURS - 1).map((name, place) => [`w${place}`, name]);
    if (names.length === COLOURS) entries.push([`w${COLOURS - 1}`, names[COLOURS - 1]]);
    if (names.length > COLOURS) entries.push([`w${COLOURS - 1}`, `${names.length - COLOURS + 1} others`]);
    entries.push(["failed", "failed"], ["lost", "lost"]);
    this.legend.replaceChildren(...entries.map(([className, name]) => {
      const item = element("li");
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("width", "14");
      svg.setAttribute("height", "12");
      svg.setAttribute("aria-hidden", "true");
      const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      rect.setAttribute("width", "14");
      rect.setAttribute("height", "12");
      rect.setAttribute("rx", "2");
      rect.setAttribute("class", className);
      svg.append(rect);
      item.append(svg, name);
      return item;
    }));
  }

  workAt(x, y) {
    const place = Math.floor((y - AXIS + this.scroll.scrollTop) / this.laneHeight);
    const lane = y > AXIS ? this.lanes[place] : undefined;
    if (!lane || x < this.gutter) return null;
    const scale = (this.scroll.clientWidth - this.gutter - 6) / this.span;
    const instant = this.right - this.span + (x - this.gutter) / scale - lane.server.skew, slack = 2 / scale;
    const works = lane.server.lanes.get(lane.slot) ?? [];
    for (let index = works.length - 1; index >= 0; index--) {
      const work = works[index];
      if (work[BEGIN] - slack <= instant && (work[END] === null || work[END] + slack >= instant)) return {lane, work};
      if (work[END] !== null && work[END] + slack < instant) break;
    }
    return null;
  }

  showTip(event) {
    const box = this.canvas.getBoundingClientRect();
    const found = this.workAt(event.clientX - box.left, event.clientY - box.top);
    if (!found) {
      this.hideTip();
      return;
    }
    this.tip.textContent = describe(found.lane, found.work, this.model.now);
    this.tip.hidden = false;
    const section = this.scroll.parentElement.getBoundingClientRect();
    const x = Math.min(event.clientX - section.left + 14, section.width - this.tip.offsetWidth - 8);
    this.tip.style.left = `${Math.max(4, x)}px`;
    this.tip.style.top = `${event.clientY - section.top + 16}px`;
  }

  hideTip() {
    this.tip.hidden = true;
  }
}

function cut(text, room) {
  const most = Math.floor(room / 6.4);
  return text.length <= most ? text : most > 3 ? `${text.slice(0, most - 1)}…` : "";
}

export function describe({server, slot}, work, now) {
  const end = work[END] ?? now - server.skew;
  return [
    `${work[LABEL] || (work[IS_PROGRAM] ? "a program" : "a job")}${work[USER] ? ` of ${work[USER]}` : ""}`,
    `${OUTCOMES[work[OUTCOME]]}, ${seconds(Math.max(0, end - work[BEGIN]))}, started ${clock(work[BEGIN])}`,
    `${server.name}, slot ${slot}`,
  ].join("\n");
}
