// One edge or one service: what it is, what it offers, what goes to and fro, and the forms that act on it.

import { get, part } from "../api.js";
import { callForm, messageForm } from "../call.js";
import { ago, bytes, count, every, h, several, shown, tell } from "../dom.js";
import { may } from "../live.js";
import { kick, SIDES } from "./peers.js";

const SECONDS = 2;

/** Pairs of a name and a value, in the order given; what is null is left out. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** The page of one peer. `base` is the root of the API: `v1`, or `cluster/v1`. */
export function peerPage(key, base = "v1") {
  return ({ route, signal }) => {
    const side = SIDES[key];
    const [id] = route.parts;
    const path = `${base}/${key}/${part(id)}`;
    const place = h("div");
    const figures = h("div");
    const methods = h("ul", { class: "tags" });
    const topics = h("ul", { class: "tags" });
    const streams = h("tbody");
    const node = h("div", { class: "columns" });
    let forms = null;
    let gone = false;

    const kicked = async () => {
      if (await kick({ path, one: side.one, id, name: "", place })) refresh();
    };

    function build(peer) {
      forms = may("call") ? callForm({ base, side: key, id, methods: peer.methods ?? [], signal }) : null;
      node.replaceChildren(
        h("div", {},
          h("section", { class: "card", "aria-labelledby": "about" }, h("h2", { id: "about" }, "About"), figures,
            may("act") && h("button", { type: "button", class: "danger", onclick: kicked }, `Kick this ${side.one}`)),
          h("section", { class: "card", "aria-labelledby": "offers" }, h("h2", { id: "offers" }, "Methods"), methods),
          key === "services" && h("section", { class: "card", "aria-labelledby": "takes" }, h("h2", { id: "takes" }, "Topics"), topics),
          h("section", { class: "card", "aria-labelledby": "flows" }, h("h2", { id: "flows" }, "Streams"),
            h("div", { class: "sheet", role: "region", tabindex: "0", "aria-label": "Table of streams" },
              h("table", {}, h("caption", { class: "unseen" }, "Open streams"),
                h("thead", {}, h("tr", {}, ["Stream", "With", "In", "Out"].map((name, index) => h("th", { scope: "col", class: index > 1 ? "end" : "" }, name)))), streams)))),
        h("div", {},
          forms && h("section", { class: "card", "aria-labelledby": "calls" }, h("h2", { id: "calls" }, "Call a method"), forms.element),
          may("call") && h("section", { class: "card", "aria-labelledby": "sends" },
            h("h2", { id: "sends" }, "Send a message"), messageForm({ base, side: key, id, topics: peer.topics, signal })),
          !may("call") && h("p", { class: "quiet" }, "Calls and messages need the role “call”, which you do not have.")));
    }

    function show(peer) {
      if (!forms && !node.childElementCount) build(peer);
      figures.replaceChildren(facts([
        [side.label, peer[side.name] ? h("div", { class: "long" }, shown(peer[side.name], 4000)) : "none"],
        ["Address", h("span", { class: "mono" }, shown(peer.addr))],
        ["Frontier", peer.frontier_id === undefined ? null : shown(peer.frontier_id)],
        ["Online since", ago(peer.create_time ?? peer.update_time)],
        ["Last heard", peer.last_heard === undefined ? null : ago(peer.last_heard)],
        ["Identity", peer.identity ? h("span", { class: "break" }, shown(peer.identity)) : null],
        ["Listener", peer.listener ? shown(peer.listener) : null],
        ["Protocol", peer.protocol ? shown(peer.protocol) : null],
        ["Bytes in, out", peer.bytes_in === undefined ? null : `${bytes(peer.bytes_in)}, ${bytes(peer.bytes_out)}`],
        ["Under way", peer.calls_pending === undefined ? null : `${several(peer.calls_pending, "call")}, ${several(peer.messages_pending, "message")}`],
        ["Waiting for it", peer.messages_waiting === undefined ? null : `${count(peer.messages_waiting)}, ${bytes(peer.waiting_bytes)}`],
      ]));
      if (names(methods, peer.methods ?? [], forms && ((name) => forms.choose(name)))) forms?.learn(peer.methods ?? []);
      names(topics, peer.topics ?? [], null);
      const open = peer.streams ?? [];
      streams.replaceChildren(...open.slice(0, 200).map((stream) => h("tr", {},
        h("td", { class: "mono" }, stream.stream_id), h("td", { class: "mono" }, shown(stream.peer)),
        h("td", { class: "end" }, bytes(stream.bytes_in)), h("td", { class: "end" }, bytes(stream.bytes_out)))));
      if (!open.length) streams.append(h("tr", {}, h("td", { colspan: "4", class: "quiet" }, "None is open.")));
      if (open.length > 200) streams.append(h("tr", {}, h("td", { colspan: "4", class: "quiet" }, `${count(open.length - 200)} more.`)));
    }

    async function refresh() {
      try {
        show(await get(`${path}/details`, {}, signal));
        if (gone) tell(place, "good", `The ${side.one} is online again.`);
        gone = false;
      } catch (error) {
        if (signal.aborted) return;
        const first = !gone;
        gone = error.status === 404;
        const text = gone ? `No ${side.one} with the id ${id} is online.` : error.message;
        if (!gone || (first && !place.querySelector(".good"))) tell(place, "bad", shown(text));
        node.classList.toggle("stale", true);
        return;
      }
      node.classList.toggle("stale", false);
    }

    every(SECONDS, signal, refresh);
    return { title: `${side.one[0].toUpperCase()}${side.one.slice(1)} ${shown(id, 60)}`, node: [place, node] };
  };
}

/** Write names into a list, as buttons where they can be chosen; says whether they are others than before. */
function names(list, all, choose) {
  const same = list.dataset.names === JSON.stringify(all);
  if (same && list.childElementCount) return false;
  list.dataset.names = JSON.stringify(all);
  list.replaceChildren(...all.slice(0, 500).map((name) => h("li", {}, choose
    ? h("button", { type: "button", class: "tag", title: "Fill in the form with this method", onclick: () => choose(name) }, shown(name, 120))
    : h("span", { class: "tag" }, shown(name, 120)))));
  if (!all.length) list.append(h("li", { class: "quiet" }, "None."));
  if (all.length > 500) list.append(h("li", { class: "quiet" }, `${count(all.length - 500)} more.`));
  return true;
}
