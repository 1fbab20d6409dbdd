// Connects the parts of the page: the stream feeds the model, and each part shows its share of it.
// Data from servers goes into text nodes and attributes, never into markup.

import {Charts} from "./charts.js";
import {MEMBERS, QUEUE, SERVERS, WORK, sessionColumns} from "./columns.js";
import {bytes, count} from "./format.js";
import {drawGraph, membersOf} from "./graph.js";
import {BEGIN, Model} from "./model.js";
import {follow, post} from "./stream.js";
import {Table, element} from "./table.js";
import {Timeline} from "./timeline.js";

const NEWEST = 50; // jobs in the table
const get = (id) => document.getElementById(id);
const model = new Model();
let isPaused = false;

const timeline = new Timeline(model, {
  scroll: get("work-scroll"), space: get("work-space"), canvas: get("work-canvas"), tip: get("work-tip"),
  legend: get("work-legend"), server: get("work-server"), colour: get("work-colour"), spanChoice: get("work-span"),
});
const charts = new Charts(get("charts"));
const servers = new Table(get("servers-table"), SERVERS, {empty: "No servers yet"});
const queue = new Table(get("queue-table"), QUEUE, {empty: "No servers yet"});
const sessions = new Table(get("sessions-table"), sessionColumns(model, askToStop), {empty: "No sessions"});
const work = new Table(get("work-table"), WORK, {sortable: false, empty: "Nothing has run yet"});
const members = new Table(get("members-table"), MEMBERS, {sortable: false, empty: "This pool has no other members"});
window.pserverPage = {model, timeline}; // for tests and measurements

// --- output ---

// Parts off the screen are updated less often: hundreds of servers have thousands of cells.
const RARELY = 5;
const onScreen = new Set();
let turn = 0;
const observer = new IntersectionObserver((entries) => {
  for (const {target, isIntersecting} of entries) {
    if (isIntersecting) onScreen.add(target.id);
    else onScreen.delete(target.id);
  }
  if (!isPaused && model.servers.size) showAll(false);
}, {rootMargin: "100px"});
for (const section of document.querySelectorAll("main section[id]")) observer.observe(section);

function showAll(isWhole = true) {
  const all = [...model.servers.values()];
  turn++;
  const isDue = (id, place) => isWhole || onScreen.has(id) || turn % RARELY === place;
  showGlance();
  showChoices(all);
  timeline.update();
  timeline.showLegend();
  showWork();
  if (isDue("servers", 0)) servers.show(chosenServers(all));
  if (isDue("queue", 1)) queue.show(chosenServers(all));
  if (isDue("sessions", 2)) showSessions(all);
  if (isDue("hour", 3)) charts.show(model.steps());
  if (isDue("members", 4)) showMembers();
}

function chosenServers(all) {
  const find = get("servers-find").value.trim().toLowerCase();
  const found = all.filter(({name, row}) => !find || `${name} ${row.host ?? ""}`.toLowerCase().includes(find));
  return found.map((server) => [server.key, server]);
}

function showMembers() {
  const graph = membersOf(model);
  drawGraph(get("graph"), graph);
  members.show(graph.edges.map((edge) => [`${edge.from}\n\n${edge.to}`, edge]));
}

function showGlance() {
  const all = [...model.servers.values()], up = all.filter(({row}) => row.is_up).length;
  const failed = model.sum("jobs_failed") + model.sum("programs_failed");
  const lost = model.sum("jobs_lost") + model.sum("programs_lost");
  const facts = [
    ["Servers", String(up), up < all.length ? `of ${all.length}` : "", up < all.length],
    ["Busy slots", count(model.sum("slots_busy")), `of ${count(model.sum("slots"))}`],
    ["Waiting", count(model.sum("waiting")), ""],
    ["Jobs a minute", count(60 * model.rate(1)), ""],
    ["Jobs done", count(model.sum("jobs_done") + model.sum("programs_done")), ""],
    ["Failed, lost", `${count(failed)}, ${count(lost)}`, ""],
    ["Received", bytes(model.rate(2), true), ""],
    ["Sent", bytes(model.rate(3), true), ""],
  ];
  const place = get("glance");
  facts.forEach(([title, value, more, isBad], index) => {
    let box = place.children[index];
    if (!box) {
      box = element("div");
      const shown = element("dd");
      shown.append(element("span"), " ", element("small"));
      box.append(element("dt", "", title), shown);
      place.append(box);
    }
    const [, shown] = box.children;
    if (shown.firstElementChild.textContent !== value) shown.firstElementChild.textContent = value;
    if (shown.lastElementChild.textContent !== more) shown.lastElementChild.textContent = more;
    shown.className = isBad ? "bad" : "";
  });
}

function showSessions(all) {
  const items = all.filter(({row}) => row.is_up).flatMap((server) =>
    server.sessions.map((session) => [`${server.key}\n${session.session}`, {server, session}]));
  sessions.show(items);
  const others = model.sum("others_sessions");
  const text = others ? `${count(others)} more sessions of other users, with ${count(model.sum("others_slots"))} slots.` : "";
  if (get("sessions-others").textContent !== text) get("sessions-others").textContent = text;
}

function showChoices(all) {
  const choice = get("work-server"), names = all.map(({key, name}) => `${key}\n${name}`).join("\n");
  if (choice.dataset.names === names) return;
  choice.dataset.names = names;
  const chosen = choice.value;
  const options = all.map(({key, name}) => {
    const option = element("option", "", name);
    option.value = key;
    return option;
  });
  choice.replaceChildren(choice.options[0], ...options);
  choice.value = model.servers.has(chosen) ? chosen : "";
}

function newestWork() {
  const found = [];
  for (const {server, slot} of timeline.lanes) {
    for (const each of (server.lanes.get(slot) ?? []).slice(-NEWEST)) found.push({server, slot, work: each, now: model.now});
  }
  return found.sort((a, b) => b.work[BEGIN] - a.work[BEGIN]).slice(0, NEWEST);
}

let summedAt = 0;
const many = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;

function showWork() {
  // A summary that changes all the time would be hard to read, and to hear from a screen reader.
  if (model.servers.size && Date.now() - summedAt > 10000) {
    summedAt = Date.now();
    const busy = model.sum("slots_busy");
    get("work-summary").textContent = `Shown: ${many(timeline.lanes.length, "slot")} of ${many(model.servers.size, "server")}. Busy at ${new Date().toLocaleTimeString("en-GB")}: ${count(busy)}.`;
  }
  if (!get("work-details").open) return;
  work.show(newestWork().map((item) => [`${item.server.key}\n${item.slot}\n${item.work[BEGIN]}`, item]));
}

// --- events ---

function hear(name, data) {
  if (name === "snapshot") model.snapshot(data);
  else if (name === "changes") model.changes(data);
  else if (name === "trouble") {
    say(`No data from the servers: ${data.error}`);
    return;
  }
  if (!isPaused) showAll(name === "snapshot");
}

let state = "";

function showState(now) {
  if (state === now) return;
  const words = {live: "Live", lost: "Reconnecting", refused: "The token is no longer valid"};
  get("state-text").textContent = words[now];
  get("light").className = now === "live" ? "live" : "lost";
  if (now !== "live") say(`${words[now]}.`);
  else if (state) say("Live again.");
  state = now;
}

let sayTimer = 0;

function say(text) {
  clearTimeout(sayTimer);
  get("said").textContent = text;
  if (!text.startsWith("The token")) sayTimer = setTimeout(() => { get("said").textContent = ""; }, 8000);
}

let asked = null;

function askToStop(server, session) {
  asked = {server, session};
  get("ask-text").textContent =
    `Session ${session.session} of ${session.user ?? "nobody"} on ${server.name} and all its jobs will end. Its client gets an error.`;
  get("ask").showModal();
  get("ask-no").focus();
}

get("ask-no").addEventListener("click", () => get("ask").close());
get("ask-yes").addEventListener("click", async () => {
  get("ask").close();
  const {server, session} = asked;
  try {
    say(await post("api/stop", {server: server.key, session: session.session}));
  } catch (error) {
    say(`Session ${session.session} was not stopped: ${error.message}`);
  }
});

get("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  get("pause").setAttribute("aria-pressed", String(isPaused));
  timeline.pause(isPaused);
  if (!isPaused) showAll();
});
addEventListener("resize", () => drawGraph(get("graph"), membersOf(model)));
get("servers-find").addEventListener("input", () => showAll());
get("work-details").addEventListener("toggle", showWork);

const THEMES = ["system", "light", "dark"];

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  get("theme-name").textContent = theme;
  get("theme").setAttribute("aria-label", `Theme: ${theme}`);
  timeline.readColours();
}

get("theme").addEventListener("click", () => {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % THEMES.length];
  setTheme(theme);
  try {
    sessionStorage.setItem("theme", theme);
  } catch {
    // Storage may be forbidden; then the choice lasts until the page is closed.
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => timeline.readColours());

try {
  setTheme(sessionStorage.getItem("theme") ?? "system");
} catch {
  setTheme("system");
}
follow(hear, showState);
