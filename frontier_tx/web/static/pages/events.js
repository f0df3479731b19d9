// What comes and goes, as it happens.

import { part } from "../api.js";
import { count, dateAndTime, h, say, several, shown, tell, timeOfDay } from "../dom.js";
import { followEvents } from "../feed.js";

const KEPT = 500;

const WORDS = {
  edge_online: "edge online", edge_offline: "edge offline", service_online: "service online", service_offline: "service offline",
  method_registered: "method registered", method_gone: "method gone", topic_listed: "topic listed", topic_gone: "topic gone",
  frontier_online: "Frontier online", frontier_offline: "Frontier offline", draining: "draining", lost: "events lost",
};
const WORDS_OF_STATE = { live: "Live", connecting: "Connecting …", refused: "Not connected" };
const GROUPS = { Edges: /^edge_/, Services: /^service_/, "Methods and topics": /^(method|topic)_/, Others: /^(?!edge_|service_|method_|topic_)/ };

/** One event as a row of a table. */
export function eventRow({ kind, data }) {
  const time = data.time ? Number(data.time) : Date.now() / 1000;
  if (kind === "lost") {
    return h("tr", { class: "lost" }, h("td", {}, timeOfDay(time)),
      h("td", { colspan: "3" }, `${several(data.count, "event")} lost: this page was too slow.`));
  }
  const [side, id] = data.edge_id !== undefined ? ["edges", data.edge_id] : ["services", data.service_id];
  const what = data.method ?? data.topic ?? data.meta ?? data.service ?? "";
  return h("tr", {},
    h("td", { title: dateAndTime(time) }, timeOfDay(time)),
    h("td", { class: "kind" }, h("span", { class: `mark ${/offline|gone|draining/.test(kind) ? "away" : "here"}` }), WORDS[kind] ?? shown(kind)),
    h("td", { class: "mono" }, id === undefined || id === "0" ? shown(data.frontier_id ?? "") : h("a", { href: `#/${side}/${part(id)}` }, shown(id))),
    h("td", { class: "wide clip" }, shown(what), id !== undefined && data.frontier_id && h("span", { class: "quiet" }, ` at ${shown(data.frontier_id, 80)}`), data.reason && h("span", { class: "quiet" }, ` ${shown(data.reason)}`)));
}

/** The heads of such a table. */
export const eventHeads = () => h("thead", {}, h("tr", {}, ["Time", "Event", "Who", "What"].map((name) => h("th", { scope: "col" }, name))));

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
    const wanted = new Set(Object.keys(GROUPS));

    const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
      pause.textContent = paused ? "Go on" : "Pause";
      draw();
    } }, "Pause");
    const filters = Object.keys(GROUPS).map((name) => h("label", {}, h("input", { type: "checkbox", checked: true, onchange: (event) => {
      if (event.target.checked) wanted.add(name);
      else wanted.delete(name);
      for (const row of rows.children) row.hidden = !taken(row.dataset.kind);
    } }), ` ${name}`));
    const taken = (kind) => kind === "lost" || Object.entries(GROUPS).some(([name, pattern]) => wanted.has(name) && pattern.test(kind));

    function draw() {
      drawing = false;
      if (!paused) {
        const lines = waiting.splice(0).map((event) => {
          const row = eventRow(event);
          row.dataset.kind = event.kind;
          row.hidden = !taken(event.kind);
          return row;
        });
        rows.prepend(...lines.reverse());
        while (rows.children.length > KEPT) rows.lastChild.remove();
      }
      summary.textContent = [WORDS_OF_STATE[state], several(seen, "event"), lost && `${several(lost, "event")} lost`, passed && `${count(passed)} not shown`,
        paused && `${count(waiting.length)} waiting`].filter(Boolean).join(" · ");
    }
    function later() {
      if (drawing) return;
      drawing = true;
      // Not for each event: a thousand edges may come in one second.
      setTimeout(draw, 200);
    }
    followEvents(`${base}/events`, {}, {
      signal,
      got(event) {
        if (event.kind === "lost") {
          lost += Number(event.data.count ?? 0);
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
    return { title: "Events", node: [
      h("div", { class: "row" }, h("fieldset", { class: "row" }, h("legend", { class: "unseen" }, "Which events are shown"), filters), pause,
        h("button", { type: "button", onclick: () => { rows.replaceChildren(); waiting.length = 0; draw(); } }, "Clear")),
      place, summary,
      h("div", { class: "sheet", role: "region", tabindex: "0", "aria-label": "Table of events, newest first" },
        h("table", {}, h("caption", { class: "unseen" }, "Events, newest first"), eventHeads(), rows)),
    ] };
  };
}
