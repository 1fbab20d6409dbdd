// The members of the pool as a graph: a ring of servers, and a line from each server to each member that it knows.

const SVG = "http://www.w3.org/2000/svg";
const MOST_NAMED = 40;

export function membersOf(model) {
  // A member is identified with a server on this page by one of its addresses, or by its name if that is unique.
  const nodes = new Map(), known = new Map(), names = new Map();
  for (const server of model.servers.values()) names.set(server.name, (names.get(server.name) ?? 0) + 1);
  for (const server of model.servers.values()) {
    const {host, cmd_port: port} = server.row;
    const name = names.get(server.name) > 1 ? `${server.name} ${host ?? ""}` : server.name;
    nodes.set(server.key, {name, isUp: server.row.is_up, isShown: true});
    for (const address of [server.key, host, `${host}:${port}`]) known.set(address, server.key);
    if (names.get(server.name) === 1) known.set(server.name, server.key);
  }
  const edges = [];
  for (const server of model.servers.values()) {
    for (const member of server.members) {
      const place = [...member.addresses, member.name].find((each) => known.has(each));
      const to = known.get(place) ?? member.id ?? member.addresses[0] ?? "?";
      const isNamed = member.name && member.name !== "default";
      const name = (isNamed ? member.name : member.addresses[0]) ?? "?";
      if (to === server.key) continue;
      if (!nodes.has(to)) nodes.set(to, {name, isUp: !member.is_gone, isShown: false});
      edges.push({from: server.key, to, member, server});
    }
  }
  return {nodes, edges};
}

export function drawGraph(place, {nodes, edges}) {
  const width = Math.max(260, Math.round(place.clientWidth));
  const shape = JSON.stringify([width, [...nodes], edges.map(({from, to, member}) => [from, to, member.is_gone])]);
  if (place.dataset.shape === shape) return;
  place.dataset.shape = shape;
  const count = nodes.size;
  const height = count > 2 ? 290 : 90, middle = [width / 2, height / 2];
  const across = count > 2 ? Math.min(width / 2 - 100, 340) : 60, down = count > 2 ? height / 2 - 24 : 0;
  const at = new Map([...nodes.keys()].map((key, index) => {
    const angle = (2 * Math.PI * index) / Math.max(1, count) - (count > 2 ? Math.PI / 2 : Math.PI);
    return [key, count === 1 ? middle : [middle[0] + across * Math.cos(angle), middle[1] + down * Math.sin(angle)]];
  }));
  const picture = make("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": summary(nodes, edges)});
  for (const {from, to, member} of edges) {
    const [[x1, y1], [x2, y2]] = [at.get(from), at.get(to)];
    picture.append(make("line", {x1, y1, x2, y2, class: member.is_gone ? "edge gone" : "edge"}));
  }
  for (const [key, node] of nodes) {
    const [x, y] = at.get(key);
    const circle = make("circle", {cx: x, cy: y, r: count > 80 ? 4 : 8, class: node.isShown ? (node.isUp ? "node" : "node down") : "node known"});
    const title = make("title", {});
    title.textContent = node.name;
    circle.append(title);
    picture.append(circle);
    if (count <= MOST_NAMED) {
      const isRight = x >= middle[0] - 1;
      const text = make("text", {x: x + (isRight ? 13 : -13), y: y + 4, "text-anchor": isRight ? "start" : "end"});
      text.textContent = node.name.length > 18 ? `${node.name.slice(0, 17)}…` : node.name;
      picture.append(text);
    }
  }
  place.replaceChildren(picture);
}

function summary(nodes, edges) {
  const shown = [...nodes.values()].filter((node) => node.isShown).length;
  return `${nodes.size} servers in the pool, ${shown} of them on this page. The table below lists all of them.`;
}

function make(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
