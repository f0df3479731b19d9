// The first page: how many are here, what flows, how fast, and what came and went last.

import { Chart } from "../chart.js";
import { bytes, count, h, milliseconds, remark, rough, tell } from "../dom.js";
import { followEvents } from "../feed.js";
import { follow, gauge, latest, live, rate } from "../live.js";
import { eventRow, eventTable } from "./events.js";

const EVENTS = 8;
// Sums over many connections are some seconds old: over so many samples they grow evenly.
const SUMMED = 5;
const TOLD = /^((edge|service|frontier)_(online|offline)|draining|lost)$/;

/** The lines of a chart of a time. */
export const quantiles = (half, most) => [{ label: "p50", value: gauge(half) }, { label: "p99", value: gauge(most) }];

export const perSecond = (value) => `${rough(value)}/s`;
const bytesPerSecond = (value) => `${bytes(value)}/s`;

const charts = () => [
  new Chart("Calls", [{ label: "", value: rate("calls") }], perSecond),
  new Chart("Time of a call", quantiles("callHalf", "callMost"), milliseconds),
  new Chart("Messages", [{ label: "", value: rate("messages") }], perSecond),
  new Chart("Failures", [{ label: "", value: rate("failures") }], perSecond),
  new Chart("Bytes", [{ label: "in", value: rate("received", SUMMED) }, { label: "out", value: rate("sent", SUMMED) }],
    bytesPerSecond, 2),
  new Chart("Waiting in the gateway", [{ label: "", value: gauge("held") }], bytes, 2),
];

/** A figure with its name, of what `value()` gives; it hides while that is null. */
export function tile(name, value, format = count, href = null) {
  const figure = h("dd");
  const element = h("div", { class: "tile" }, h("dt", {}, href ? h("a", { href }, name) : name), figure);
  const update = () => {
    const now = value();
    element.hidden = now === null || now === undefined;
    if (!element.hidden) figure.textContent = format(now);
  };
  return { element, update };
}

/** Draw figures and charts anew after each answer of the server. */
export function keepDrawn(parts, place, signal) {
  follow(() => {
    for (const part of parts) part.update();
    if (live.error && live.error.status !== 401) tell(place, "bad", live.error.message);
    else place.replaceChildren();
  }, signal);
}

/** A table of the last few events. */
export function lastEvents(base, signal) {
  const rows = h("tbody", {}, remark(4, "Nothing came or went since this page was opened."));
  const waiting = [];
  let drawing = false;
  let any = false;
  const draw = () => {
    drawing = false;
    if (!any) rows.replaceChildren();
    any = true;
    rows.prepend(...waiting.splice(0).map(eventRow).reverse());
    while (rows.children.length > EVENTS) rows.lastChild.remove();
  };
  followEvents(`${base}/events`, {}, {
    signal,
    unseen: false,
    got(event) {
      if (!TOLD.test(event.kind)) return;
      waiting.push(event);
      if (waiting.length > EVENTS) waiting.shift();
      if (!drawing) setTimeout(draw, 200);
      drawing = true;
    },
    changed: () => {},
  });
  const all = h("a", { href: "#/events", class: "more" }, "all events");
  return h("section", { "aria-labelledby": "lately" }, h("h2", { id: "lately" }, "Latest ", all),
    eventTable("the latest events", rows));
}

/** The first page of Frontier. */
export function overviewPage({ signal }) {
  const place = h("div");
  const tiles = [
    tile("Edges", () => live.info?.edges, count, "#/edges"),
    tile("Services", () => live.info?.services, count, "#/services"),
    tile("Calls", () => latest(rate("calls")), perSecond),
    tile("Messages", () => latest(rate("messages")), perSecond),
    tile("Streams", () => latest(gauge("streams"))),
    tile("Under way", () => latest(gauge("pending"))),
  ];
  const drawn = charts();
  keepDrawn([...tiles, ...drawn], place, signal);
  return { title: "Overview", node: [
    place,
    h("dl", { class: "tiles" }, tiles.map(({ element }) => element)),
    h("section", { class: "charts", "aria-label": "Charts" }, drawn.map(({ element }) => element)),
    lastEvents("v1", signal),
  ] };
}
