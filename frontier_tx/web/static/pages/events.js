// What comes and goes, as it happens.

import { part } from "../api.js";
import { count, dateAndTime, h, quiet, row, say, several, shown, table, tell, timeOfDay } from "../dom.js";
import { followEvents } from "../feed.js";

const KEPT = 200;
const PAUSE = 200;

const WORDS = { frontier_online: "Frontier online", frontier_offline: "Frontier offline" };
const WORDS_OF_STATE = { live: "Live", connecting: "Connecting …", refused: "Not connected" };
const GROUPS = {
  Edges: /^edge_/,
  Services: /^service_/,
  "Methods and topics": /^(method|topic)_/,
  Others: /^(?!edge_|service_|method_|topic_)/,
};

/** One event as a row of a table. */
export function eventRow({ kind, data }) {
  const time = data.time ? Number(data.time) : Date.now() / 1000;
  if (kind === "lost") {
    const text = `${data.count === undefined ? "Events" : several(data.count, "event")} lost: this page was too slow.`;
    return h("tr", { class: "lost" }, h("td", {}, timeOfDay(time)), h("td", { colspan: "3" }, text));
  }
  const [side, id] = data.edge_id !== undefined ? ["edges", data.edge_id] : ["services", data.service_id];
  const at = data.frontier_id ? shown(data.frontier_id, 80) : "";
  const mark = h("span", { class: `mark ${/offline|gone|draining/.test(kind) ? "away" : "here"}` });
  return row([
    h("time", { title: dateAndTime(time) }, timeOfDay(time)),
    ["kind", mark, WORDS[kind] ?? shown(kind).replaceAll("_", " ")],
    ["mono", id === undefined ? at : h("a", { href: `#/${side}/${part(id)}` }, shown(id))],
    ["wide clip", shown(data.method ?? data.topic ?? data.meta ?? data.service ?? ""),
      id !== undefined && at ? quiet(` at ${at}`) : "", data.reason ? quiet(` ${shown(data.reason)}`) : ""],
  ]);
}

/** A table of such rows. */
export const eventTable = (name, rows) => table(name, ["Time", "Event", "Who", "What"], rows);

/** The page of live events. */
export function eventsPage(base = "v1") {
  return ({ signal }) => {
    const rows = h("tbody");
    const summary = h("p", { class: "quiet summary" });
    const place = h("div");
    const waiting = [];
    let seen = 0;
    let lost = 0;
    let passed = 0;
    let state = "connecting";
    let paused = false;
    let drawing = false;
    let took = 0;
    const wanted = new Set(Object.keys(GROUPS));

    const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
      pause.textContent = paused ? "Go on" : "Pause";
      draw();
    } }, "Pause");
    const filter = (name) => h("label", {}, h("input", { type: "checkbox", checked: true, onchange: (event) => {
      if (event.target.checked) wanted.add(name);
      else wanted.delete(name);
      for (const line of rows.children) line.hidden = !taken(line.dataset.kind);
    } }), ` ${name}`);
    const taken = (kind) => kind === "lost" || [...wanted].some((name) => GROUPS[name].test(kind));

    function draw() {
      drawing = false;
      const begun = performance.now();
      if (!paused) {
        const lines = waiting.splice(0).map((event) => {
          const line = eventRow(event);
          line.dataset.kind = event.kind;
          line.hidden = !taken(event.kind);
          return line;
        });
        rows.prepend(...lines.reverse());
        while (rows.children.length > KEPT) rows.lastChild.remove();
      }
      summary.textContent = [WORDS_OF_STATE[state], several(seen, "event"), lost && `${several(lost, "event")} lost`,
        passed && `${count(passed)} not shown`,
        paused && `${count(waiting.length)} waiting`].filter(Boolean).join(" · ");
      took = performance.now() - begun;
    }
    function later() {
      if (drawing) return;
      drawing = true;
      // Not for each event, for a thousand edges may come in one second; and most of the time is for the reader.
      setTimeout(draw, Math.max(PAUSE, 5 * took));
    }
    followEvents(`${base}/events`, {}, {
      signal,
      got(event) {
        if (event.kind === "lost") {
          lost += Number(event.data.count ?? 1);
          say(`${several(lost, "event")} lost`);
        } else {
          seen += 1;
        }
        waiting.push(event);
        if (waiting.length > KEPT) {
          waiting.shift();
          passed += 1;
        }
        later();
      },
      changed(now, error) {
        if (state !== now) say(WORDS_OF_STATE[now]);
        state = now;
        if (error) tell(place, "bad", error.message);
        else if (now === "live") place.replaceChildren();
        later();
      },
    });
    draw();
    const clear = h("button", { type: "button", onclick: () => {
      rows.replaceChildren();
      waiting.length = 0;
      draw();
    } }, "Clear");
    const legend = h("legend", { class: "unseen" }, "Which events are shown");
    const filters = h("fieldset", { class: "row" }, legend, Object.keys(GROUPS).map(filter));
    return { title: "Events", node: [
      h("div", { class: "row" }, filters, pause, clear),
      place, summary, eventTable("events, newest first", rows),
    ] };
  };
}
