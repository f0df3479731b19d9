// Frontlas: the Frontiers of a cluster, and who is connected to which.

import { Chart } from "../chart.js";
import { get, part } from "../api.js";
import { ago, count, every, h, milliseconds, refill, rough, several, shown, tell } from "../dom.js";
import { List } from "../list.js";
import { gauge, live, may, rate } from "../live.js";
import { keepDrawn, lastEvents, tile } from "./overview.js";
import { kickButton } from "./peers.js";

const SECONDS = 3;
const CARDS = 60;
const BASE = "cluster/v1";

const perSecond = (value) => `${rough(value)}/s`;

function status(frontier) {
  return [h("span", { class: `mark ${frontier.connected ? "here" : "away"}` }), frontier.connected ? "connected" : "gone"];
}

const linkTo = (id) => `#/edges?by=frontier_id&text=${part(id)}`;

/** The cluster at one look: sums, a card for each Frontier, and what came and went last. */
export function clusterPage({ signal }) {
  const place = h("div");
  const trouble = h("div");
  let frontiers = null;
  const sum = (name) => () => frontiers && frontiers.reduce((total, each) => total + (each.connected ? Number(each[name]) : 0), 0);
  const tiles = [
    tile("Frontiers", () => frontiers && frontiers.filter((each) => each.connected).length, count, "#/frontiers"),
    tile("Gone", () => frontiers && frontiers.filter((each) => !each.connected).length, count, "#/frontiers"),
    tile("Edges", () => live.info?.edges ?? sum("edges")(), count, "#/edges"),
    tile("Services", () => live.info?.services ?? sum("services")(), count, "#/services"),
  ];
  const charts = [
    new Chart("Questions", [{ label: "", value: rate("questions") }], perSecond),
    new Chart("Commands to Redis", [{ label: "", value: rate("redisCommands") }], perSecond),
    new Chart("Time of Redis", [{ label: "p50", value: gauge("redisHalf") }, { label: "p99", value: gauge("redisMost") }], milliseconds),
  ];
  const map = h("ul", { class: "map" });
  keepDrawn([...tiles, ...charts], trouble, signal);
  every(SECONDS, signal, async () => {
    try {
      ({ frontiers } = await get(`${BASE}/frontiers/details`, {}, signal));
      place.replaceChildren();
    } catch (error) {
      if (!signal.aborted) tell(place, "bad", error.message);
      return;
    }
    const most = Math.max(1, ...frontiers.map((each) => Number(each.edges)));
    const first = frontiers.toSorted((one, other) => Number(one.connected) - Number(other.connected) || Number(other.edges) - Number(one.edges));
    refill(map, first.slice(0, CARDS).map((frontier) => card(frontier, most)));
    if (first.length > CARDS) map.append(h("li", {}, h("a", { href: "#/frontiers" }, `${count(first.length - CARDS)} more`)));
    if (!first.length) map.append(h("li", { class: "quiet" }, "No Frontier has reported yet."));
    for (const each of tiles) each.update();
  });
  return { title: "Cluster", node: [
    place, trouble,
    h("dl", { class: "tiles" }, tiles.map(({ element }) => element)),
    h("section", { "aria-labelledby": "map" }, h("h2", { id: "map" }, "Frontiers"), map),
    h("section", { class: "charts", "aria-label": "Charts" }, charts.map(({ element }) => element)),
    lastEvents(BASE, signal),
  ] };
}

function card(frontier, most) {
  return h("li", { class: `card ${frontier.connected ? "" : "gone"}` },
    h("h3", {}, h("a", { href: linkTo(frontier.frontier_id) }, shown(frontier.frontier_id, 80) || "without an id")),
    h("p", {}, status(frontier), frontier.connected ? "" : [", seen ", ago(frontier.last_seen)]),
    share(frontier.edges, most),
    h("p", {}, `${several(frontier.edges, "edge")} · ${several(frontier.services, "service")}`),
    h("p", { class: "quiet" }, frontier.version ? `version ${shown(frontier.version, 40)}` : "version not told"));
}

function share(value, most) {
  return h("meter", { min: "0", max: String(most), value: String(Number(value)), "aria-label": "Edges, beside the Frontier that has most" }, count(value));
}

/** All Frontiers as a table. */
export function frontiersPage({ signal }) {
  const place = h("div");
  const rows = h("tbody");
  const summary = h("p", { class: "quiet summary" });
  every(SECONDS, signal, async () => {
    try {
      const { frontiers } = await get(`${BASE}/frontiers/details`, {}, signal);
      place.replaceChildren();
      refill(rows, frontiers.map((each) => h("tr", { class: each.connected ? "" : "gone" },
        h("td", { class: "break" }, h("a", { href: linkTo(each.frontier_id) }, shown(each.frontier_id, 80) || "without an id")),
        h("td", {}, status(each)), h("td", { class: "end" }, count(each.edges)), h("td", { class: "end" }, count(each.services)),
        h("td", {}, shown(each.version, 40) || "–"), h("td", {}, ago(each.last_seen)),
        h("td", { class: "mono" }, shown(each.advertised_sb_addr)), h("td", { class: "mono" }, shown(each.advertised_eb_addr)))));
      if (!frontiers.length) rows.append(h("tr", {}, h("td", { colspan: "8", class: "quiet" }, "No Frontier has reported yet.")));
      summary.textContent = `${several(frontiers.length, "Frontier")}, ${count(frontiers.filter((each) => !each.connected).length)} gone`;
    } catch (error) {
      if (!signal.aborted) tell(place, "bad", error.message);
    }
  });
  const heads = ["Id", "State", "Edges", "Services", "Version", "Last seen", "For services", "For edges"];
  return { title: "Frontiers", node: [place, summary,
    h("div", { class: "sheet", role: "region", tabindex: "0", "aria-label": "Table of Frontiers" },
      h("table", {}, h("caption", { class: "unseen" }, "Frontiers"),
        h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col", class: /^(Edges|Services)$/.test(name) ? "end" : "" }, name)))), rows))] };
}

const FIELDS = {
  edges: [{ key: "meta", label: "meta begins with" }, { key: "edge_id", label: "id" }, { key: "frontier_id", label: "Frontier" }, { key: "addr", label: "address begins with" }],
  services: [{ key: "service", label: "name begins with" }, { key: "frontier_id", label: "Frontier" }, { key: "addr", label: "address begins with" }],
};

/** Edges or services of the whole cluster, by Frontier. */
export function clusterPeersPage(key) {
  return ({ route, signal }) => {
    const edges = key === "edges";
    const place = h("div");
    const id = edges ? "edge_id" : "service_id";
    const columns = [
      { name: "Id", kind: "mono", fixed: true, cell: (row) => (edges ? h("a", { href: `#/edges/${part(row.edge_id)}` }, row.edge_id) : shown(row.service_id ?? "–")) },
      { name: edges ? "Meta" : "Name", kind: "wide clip", cell: (row) => shown(row.meta ?? row.service ?? "") || h("span", { class: "quiet" }, "–") },
      { name: "Frontier", fixed: true, cell: (row) => h("a", { href: `#/${key}?by=frontier_id&text=${part(row.frontier_id)}` }, shown(row.frontier_id, 80)) },
      { name: "Address", kind: "mono spare", cell: (row) => shown(row.addr) },
      { name: "Online since", kind: "spare", cell: (row) => ago(row.update_time) },
    ];
    if (edges && may("act")) {
      columns.push({ name: h("span", { class: "unseen" }, "Actions"), kind: "spare end", fixed: true, cell: (row) => kickButton({
        path: `${BASE}/edges/${part(row.edge_id)}`, one: "edge", id: row.edge_id, name: row.meta, place, after: () => list.removed(),
      }) });
    }
    const list = new List({
      what: key, columns, fields: FIELDS[key], route, signal,
      id: (row) => `${row[id]} ${row.frontier_id}`,
      empty: `No Frontier has any ${key}.`,
      async load({ field, text, size, cursor }, aborted) {
        if (field === "edge_id" && text) return one(text, aborted);
        const answer = await get(`${BASE}/${key}/search`, { count: size, cursor, [field]: text }, aborted);
        return { rows: answer[key], cursor: Number(answer.cursor ?? 0) ? answer.cursor : 0 };
      },
    });
    return { title: edges ? "Edges" : "Services", node: [place, list.element] };
  };
}

async function one(id, signal) {
  try {
    return { rows: [await get(`${BASE}/edges/${part(id)}/details`, {}, signal)], cursor: 0 };
  } catch (error) {
    if (error.status === 404) return { rows: [], cursor: 0 };
    throw error;
  }
}
