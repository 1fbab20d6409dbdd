// The state of the servers. Work is kept by slot, in the order of its start.

export const SLOT = 0, BEGIN = 1, END = 2, OUTCOME = 3, LABEL = 4, USER = 5, IS_PROGRAM = 6;
export const OUTCOMES = ["done", "failed", "lost", "running", "ended, outcome unknown"];
const MOST_WORK = 30000; // entries of all servers together
const KEPT_STEPS = 120;
const RATE_SECONDS = 10;
const SKEW_SECONDS = 2; // smaller differences between clocks are ignored

class Server {
  constructor(key) {
    this.key = key;
    this.row = {};
    this.slots = [];
    this.sessions = [];
    this.members = [];
    this.lanes = new Map(); // work by slot
    this.skew = 0; // seconds by which this browser's clock is ahead of the server's
    this.marks = []; // totals of the last seconds, for rates
  }

  take(told, now, mostWork) {
    if (told.row) Object.assign(this.row, told.row);
    for (const name of ["slots", "sessions", "members"]) if (told[name]) this[name] = told[name];
    const skew = now - (this.row.time ?? now);
    this.skew = Math.abs(skew) > SKEW_SECONDS ? skew : 0;
    for (const work of told.work ?? []) this.addWork(work);
    this.trim(mostWork);
    if (this.row.is_up) this.mark(now);
  }

  addWork(work) {
    let lane = this.lanes.get(work[SLOT]);
    if (!lane) this.lanes.set(work[SLOT], lane = []);
    let at = lane.length;
    while (at > 0 && lane[at - 1][BEGIN] > work[BEGIN]) at--;
    if (at > 0 && lane[at - 1][BEGIN] === work[BEGIN]) lane[at - 1] = work;
    else if (at === lane.length) lane.push(work);
    else lane.splice(at, 0, work);
  }

  trim(most) {
    let count = 0;
    for (const lane of this.lanes.values()) count += lane.length;
    if (count <= 1.2 * most) return;
    const share = Math.max(1, Math.ceil(most / this.lanes.size));
    for (const lane of this.lanes.values()) if (lane.length > share) lane.splice(0, lane.length - share);
  }

  mark(now) {
    const row = this.row;
    this.marks.push([now, (row.jobs_done ?? 0) + (row.programs_done ?? 0), row.bytes_in ?? 0, row.bytes_out ?? 0]);
    while (this.marks.length > 2 && this.marks[1][0] <= now - RATE_SECONDS) this.marks.shift();
  }

  // The growth per second: 1 jobs, 2 bytes in, 3 bytes out.
  rate(place) {
    if (!this.row.is_up) return null;
    const first = this.marks[0], last = this.marks.at(-1);
    if (!first || last[0] - first[0] < 0.5) return null;
    return Math.max(0, (last[place] - first[place]) / (last[0] - first[0]));
  }

  get name() {
    return this.row.name ?? this.key;
  }

  // The time of the latest figures, by this browser's clock.
  get until() {
    return (this.row.time ?? 0) + this.skew;
  }
}

export class Model {
  constructor() {
    this.servers = new Map();
    this.history = new Map();
    this.canStop = false;
    this.ahead = 0; // seconds by which this browser's clock is ahead of the page's
  }

  snapshot(data) {
    this.canStop = data.can_stop;
    const before = this.servers;
    this.servers = new Map();
    for (const key of Object.keys(data.servers)) {
      const server = new Server(key);
      server.marks = before.get(key)?.marks ?? [];
      this.servers.set(key, server);
    }
    this.history.clear();
    this.take(data);
  }

  changes(data) {
    for (const key of data.gone) this.servers.delete(key);
    for (const key of Object.keys(data.servers)) if (!this.servers.has(key)) this.servers.set(key, new Server(key));
    this.take(data);
  }

  take(data) {
    this.ahead = Date.now() / 1000 - data.now;
    const most = MOST_WORK / Math.max(1, this.servers.size);
    for (const [key, told] of Object.entries(data.servers)) this.servers.get(key).take(told, data.now, most);
    for (const step of data.history) this.history.set(step.at, step);
    const old = [...this.history.keys()].sort((a, b) => a - b).slice(0, -KEPT_STEPS);
    for (const at of old) this.history.delete(at);
  }

  get now() {
    return Date.now() / 1000 - this.ahead;
  }

  steps() {
    return [...this.history.values()].sort((a, b) => a.at - b.at);
  }

  sum(name) {
    let total = 0;
    for (const {row} of this.servers.values()) if (row.is_up) total += row[name] ?? 0;
    return total;
  }

  rate(place) {
    let total = 0;
    for (const server of this.servers.values()) if (server.row.is_up) total += server.rate(place) ?? 0;
    return total;
  }
}
