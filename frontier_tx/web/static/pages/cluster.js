// Frontlas: the Frontiers of a cluster, and who is connected to which.

import { get, part } from "../api.js";
import { Chart } from "../chart.js";
import { ago, count, every, h, milliseconds, quiet, refill, remark, row, several, shown, table, tell } from "../dom.js";
import { List } from "../list.js";
import { live, may, rate } from "../live.js";
import { keepDrawn, lastEvents, perSecond, quantiles, tile } from "./overview.js";
import { ACTIONS, kickButton } from "./peers.js";

const SECONDS = 3;
const CARDS = 60;
const STEPS = 20;
const BASE = "cluster/v1";

const holder = (id, key = "edges") =>
  h("a", { href: `#/${key}?by=frontier_id&text=${part(id)}` }, shown(id, 80) || "without an id");

function status({ connected }) {
  return [h("span", { class: `mark ${connected ? "here" : "away"}` }), connected ? "connected" : "gone"];
}

/** The cluster at one look: sums, a card for each Frontier, and what came and went last. */
export function clusterPage({ signal }) {
  const place = h("div");
  const trouble = h("div");
  let frontiers = null;
  const there = () => frontiers?.filter((each) => each.connected);
  const sum = (name) => there()?.reduce((total, each) => total + Number(each[name]), 0);
  const tiles = [
    tile("Frontiers", () => there()?.length, count, "#/frontiers"),
    tile("Gone", () => frontiers && frontiers.length - there().length, count, "#/frontiers"),
    tile("Edges", () => live.info?.edges ?? sum("edges"), count, "#/edges"),
    tile("Services", () => live.info?.services ?? sum("services"), count, "#/services"),
  ];
  const charts = [
    new Chart("Questions", [{ label: "", value: rate("questions") }], perSecond),
    new Chart("Commands to Redis", [{ label: "", value: rate("redisCommands") }], perSecond),
    new Chart("Time of Redis", quantiles("redisHalf", "redisMost"), milliseconds),
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
    const first = frontiers.toSorted((one, other) => one.connected - other.connected || other.edges - one.edges);
    refill(map, first.slice(0, CARDS).map((frontier) => onMap(frontier, most)));
    const more = first.length > CARDS ? h("a", { href: "#/frontiers" }, `${count(first.length - CARDS)} more`) : null;
    if (more) map.append(h("li", {}, more));
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

function onMap(frontier, most) {
  const label = "Edges, beside the Frontier that has most";
  const bar = { min: "0", max: String(most), value: String(Number(frontier.edges)), "aria-label": label };
  return h("li", { class: `card ${frontier.connected ? "" : "gone"}` },
    h("h3", {}, holder(frontier.frontier_id)),
    h("p", {}, status(frontier), frontier.connected ? "" : [", seen ", ago(frontier.last_seen)]),
    h("meter", bar, count(frontier.edges)),
    h("p", {}, `${several(frontier.edges, "edge")} · ${several(frontier.services, "service")}`),
    h("p", { class: "quiet" }, frontier.version ? `version ${shown(frontier.version, 40)}` : "version not told"));
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
      refill(rows, frontiers.map((each) => row([
        ["break", holder(each.frontier_id)], ["", ...status(each)], ["end", count(each.edges)],
        ["end", count(each.services)], shown(each.version, 40) || "–", ago(each.last_seen),
        ["mono", shown(each.advertised_sb_addr)], ["mono", shown(each.advertised_eb_addr)],
      ], each.connected ? "" : "gone")));
      if (!frontiers.length) rows.append(remark(8, "No Frontier has reported yet."));
      const gone = frontiers.filter((each) => !each.connected).length;
      summary.textContent = `${several(frontiers.length, "Frontier")}, ${count(gone)} gone`;
    } catch (error) {
      if (!signal.aborted) tell(place, "bad", error.message);
    }
  });
  const heads = ["Id", "State", ">Edges", ">Services", "Version", "Last seen", "For services", "For edges"];
  return { title: "Frontiers", node: [place, summary, table("Frontiers", heads, rows)] };
}

const WHERE = [{ key: "frontier_id", label: "Frontier" }, { key: "addr", label: "address begins with" }];
const FIELDS = {
  edges: [{ key: "meta", label: "meta begins with" }, { key: "edge_id", label: "id" }, ...WHERE],
  services: [{ key: "service", label: "name begins with" }, ...WHERE],
};

/** Edges or services of the whole cluster, by Frontier. */
export function clusterPeersPage(key) {
  return ({ route, signal }) => {
    const edges = key === "edges";
    const place = h("div");
    const id = edges ? "edge_id" : "service_id";
    const link = (each) => h("a", { href: `#/edges/${part(each)}` }, each);
    const kicker = ({ edge_id, meta }) => kickButton({
      path: `${BASE}/edges/${part(edge_id)}`, one: "edge", id: edge_id, name: meta, place, after: () => list.removed(),
    });
    const called = ({ meta, service }) => shown(meta ?? service) || quiet("none");
    const columns = [
      { name: "Id", kind: "mono", fixed: true, cell: (each) => (edges ? link(each.edge_id) : shown(each.service_id)) },
      { name: edges ? "Meta" : "Name", kind: "wide clip", cell: called },
      { name: "Frontier", fixed: true, cell: (each) => holder(each.frontier_id, key) },
      { name: "Address", kind: "mono spare", cell: (each) => shown(each.addr) },
      { name: "Online since", kind: "spare", cell: (each) => ago(each.update_time) },
    ];
    if (edges && may("act")) columns.push({ name: ACTIONS(), kind: "spare end", fixed: true, cell: kicker });
    const list = new List({
      what: key, columns, fields: FIELDS[key], route, signal,
      id: (each) => `${each[id]} ${each.frontier_id}`,
      empty: `No Frontier has any ${key}.`,
      async load({ field, text, size, cursor }, aborted) {
        if (field === "edge_id" && text) return one(text, aborted);
        const rows = [];
        let next = cursor;
        // A step may find little, or nothing, before the end.
        for (let step = 0; step < STEPS && rows.length < size; step += 1) {
          const query = { count: size - rows.length, cursor: next, [field]: text };
          const answer = await get(`${BASE}/${key}/search`, query, aborted);
          rows.push(...answer[key]);
          next = Number(answer.cursor) ? answer.cursor : 0;
          if (!next) break;
        }
        return { rows, cursor: next };
      },
    });
    return { title: edges ? "Edges" : "Services", node: [place, list.element] };
  };
}

async function one(id, signal) {
  if (!/^\d+$/.test(id)) return { rows: [], cursor: 0 };
  try {
    return { rows: [await get(`${BASE}/edges/${part(id)}/details`, {}, signal)], cursor: 0 };
  } catch (error) {
    if (error.status === 404) return { rows: [], cursor: 0 };
    throw error;
  }
}
