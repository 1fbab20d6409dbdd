// The columns of the tables of servers, sessions, jobs and members.

import {bytes, clock, count, decimal, percent, seconds} from "./format.js";
import {BEGIN, END, IS_PROGRAM, LABEL, OUTCOME, OUTCOMES, USER} from "./model.js";
import {element} from "./table.js";

const number = (title, value, show, more = {}) =>
  ({title, value, show: (item) => show(value(item)), isNumber: true, ...more});
const name = {title: "Server", value: (server) => server.name, show: (server) => server.name, isHead: true};

function ended({row}) {
  const parts = [row.jobs_done, row.jobs_failed, row.programs_done, row.programs_failed];
  return parts.reduce((sum, each) => sum + (each ?? 0), 0);
}

const sumOf = (row, ...names) => names.every((each) => row[each] == null) ? null : names.reduce((sum, each) => sum + (row[each] ?? 0), 0);
const average = (field) => (server) => ended(server) && server.row[field] != null ? server.row[field] / ended(server) : null;

export function stateOf({row}) {
  if (!row.is_up) return row.error || "does not answer";
  return row.admission && row.admission !== "open" ? row.admission : "up";
}

function slots(cell, {row}) {
  let meter = cell.firstElementChild, text = cell.lastElementChild;
  if (!meter) {
    meter = element("meter");
    meter.min = 0;
    text = element("span");
    meter.setAttribute("aria-hidden", "true");
    cell.append(meter, text);
  }
  const total = row.slots ?? 0, busy = row.slots_busy ?? 0;
  if (meter.max !== Math.max(1, total)) meter.max = Math.max(1, total);
  if (meter.value !== busy) meter.value = busy;
  const said = row.slots == null ? "" : `${busy} of ${total}`;
  if (text.textContent !== said) text.textContent = said;
}

const below = (part, whole, warn, bad) => ({row}) => {
  if (row[part] == null || !row[whole]) return "";
  const share = row[part] / row[whole];
  return share < bad ? "bad" : share < warn ? "warn" : "";
};

export const SERVERS = [
  name,
  {title: "Host", value: ({row}) => row.host ?? "", show: ({row}) => row.host, wide: true},
  {title: "State", value: stateOf, show: stateOf, className: (server) => !server.row.is_up ? "bad wraps" : stateOf(server) === "up" ? "good" : "warn"},
  {title: "Busy slots", value: ({row}) => row.slots_busy, fill: slots},
  number("Waiting", ({row}) => row.waiting, count),
  number("Jobs", ({row}) => sumOf(row, "jobs_done", "programs_done"), count),
  number("Failed", ({row}) => sumOf(row, "jobs_failed", "programs_failed"), count, {className: ({row}) => sumOf(row, "jobs_failed", "programs_failed") ? "warn" : ""}),
  number("Lost", ({row}) => sumOf(row, "jobs_lost", "programs_lost"), count, {wide: true, className: ({row}) => sumOf(row, "jobs_lost", "programs_lost") ? "bad" : ""}),
  number("Jobs a minute", (server) => server.rate(1) === null ? null : 60 * server.rate(1), count),
  number("Load", ({row}) => row.load, decimal, {className: ({row}) => row.load > 2 * row.processors ? "warn" : ""}),
  number("Processors", ({row}) => row.processors, count, {wide: true}),
  number("Free memory", ({row}) => row.memory_free, bytes, {className: below("memory_free", "memory_total", 0.1, 0.05)}),
  number("of", ({row}) => row.memory_total, bytes, {wide: true}),
  number("Free disk", ({row}) => row.disk_free, bytes, {wide: true, className: below("disk_free", "disk_total", 0.1, 0.03)}),
  number("Sessions", ({row}) => sumOf(row, "sessions_now", "others_sessions"), count, {wide: true}),
  number("Failed logins", ({row}) => row.logins_failed, count, {wide: true}),
  number("Running for", ({row}) => row.started == null || row.time == null ? null : row.time - row.started, seconds, {wide: true}),
  {title: "Version", value: ({row}) => row.version ?? "", show: ({row}) => row.version, wide: true},
];

export const QUEUE = [
  name,
  number("Waiting", ({row}) => row.waiting, count),
  number("Free slots", ({row}) => row.slots_free, count),
  number("Run time", average("processing_seconds"), seconds),
  number("Queue time", average("queue_seconds"), seconds),
  number("Transfer time", average("transfer_seconds"), seconds),
  number("Received", ({row}) => row.bytes_in, bytes),
  number("now", (server) => server.rate(2), (value) => bytes(value, true)),
  number("Sent", ({row}) => row.bytes_out, bytes),
  number("now", (server) => server.rate(3), (value) => bytes(value, true)),
  number("Busy", ({row}) => row.slots ? (row.slots_busy ?? 0) / row.slots : null, percent, {wide: true}),
];

export function sessionColumns(model, onStop) {
  const of = ({session}) => session;
  return [
    {title: "Session", value: (item) => of(item).session, show: (item) => String(of(item).session ?? ""), isHead: true},
    {title: "User", value: (item) => of(item).user ?? "", show: (item) => of(item).user ?? ""},
    {title: "Network", value: (item) => of(item).network ?? "", show: (item) => of(item).network ?? "", wide: true},
    {title: "From", value: (item) => of(item).from ?? "", show: (item) => of(item).from ?? "", wide: true},
    {title: "Nodes", value: (item) => of(item).nodes.length, show: (item) => of(item).nodes.join(", "), wide: true},
    {title: "Server", value: ({server}) => server.name, show: ({server}) => server.name},
    number("For", ({server, session}) => session.since == null || server.row.time == null ? null : Math.max(0, server.row.time - session.since), seconds, {wide: true}),
    number("Slots", (item) => of(item).slots, count, {wide: true}),
    number("Memory", (item) => of(item).memory, bytes, {wide: true}),
    number("Received", (item) => of(item).bytes_in, bytes, {wide: true}),
    number("Sent", (item) => of(item).bytes_out, bytes, {wide: true}),
    {title: "Client", value: clientState, show: clientState, wide: true},
    {title: "Stop", fill: (cell, item) => stopButton(cell, item, model, onStop)},
  ];
}

function clientState({session}) {
  const state = session.detached ? "detached" : session.orphaned ? "vanished, may come back" : "connected";
  return session.is_alone ? `${state}, uses the server exclusively` : state;
}

function stopButton(cell, {server, session}, model, onStop) {
  const may = model.canStop && session.session != null;
  if (!may) {
    if (cell.textContent) cell.replaceChildren();
    return;
  }
  let button = cell.firstElementChild;
  if (!button) {
    button = element("button", "danger", "Stop");
    button.type = "button";
    button.addEventListener("click", () => onStop(server, session));
    cell.append(button);
  }
  const label = `Stop session ${session.session} of ${session.user ?? "nobody"} at ${server.name}`;
  if (button.getAttribute("aria-label") !== label) button.setAttribute("aria-label", label);
}

export const WORK = [
  {title: "Begun", show: ({work}) => clock(work[BEGIN]), isHead: true},
  {title: "Job", show: ({work}) => work[LABEL] || (work[IS_PROGRAM] ? "a program" : "a job")},
  {title: "Took", show: ({work, server, now}) => seconds(Math.max(0, (work[END] ?? now - server.skew) - work[BEGIN])), isNumber: true},
  {title: "Outcome", show: ({work}) => OUTCOMES[work[OUTCOME]], className: ({work}) => ["good", "bad", "bad", "", ""][work[OUTCOME]]},
  {title: "User", show: ({work}) => work[USER] ?? ""},
  {title: "Server", show: ({server}) => server.name},
  {title: "Slot", show: ({slot}) => String(slot), isNumber: true},
];

export const MEMBERS = [
  {title: "Server", show: ({server}) => server.name, isHead: true},
  {title: "Knows", show: ({member}) => member.name ?? "?"},
  {title: "Address", show: ({member}) => member.addresses.join(", ")},
  {title: "Slots", show: ({member}) => count(member.slots), isNumber: true},
  {title: "Last heard from", show: ({member}) => member.heard == null ? "never" : member.heard < 60 ? "just now" : `${seconds(member.heard)} ago`, className: ({member}) => member.is_gone ? "bad" : ""},
];
