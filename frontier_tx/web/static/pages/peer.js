// One edge or one service: what it is, what it offers, what goes to and fro, and the forms that act on it.

import { get, part } from "../api.js";
import { callForm, messageForm } from "../call.js";
import { ago, bytes, card, count, every, h, mono, remark, row, several, shown, table, tell } from "../dom.js";
import { may } from "../live.js";
import { kick, SIDES } from "./peers.js";

const SECONDS = 2;
const NAMES = 500;
const STREAMS = 200;

/** Pairs of a name and a value, in the order given; what is null is left out. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) =>
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

    const kicker = h("button", { type: "button", class: "danger", onclick: async () => {
      if (await kick({ path, one: side.one, id, name: "", place })) refresh();
    } }, `Kick this ${side.one}`);

    function build(peer) {
      forms = may("call") ? callForm({ base, side: key, id, methods: peer.methods ?? [], signal }) : null;
      node.replaceChildren(
        h("div", {},
          card("about", "About", figures, may("act") && kicker),
          card("offers", "Methods", methods),
          key === "services" && card("takes", "Topics", topics),
          card("flows", "Streams", table("open streams", ["Stream", "With", ">In", ">Out"], streams))),
        may("call")
          ? h("div", {},
            card("calls", "Call a method", forms.element),
            card("sends", "Send a message", messageForm({ base, side: key, id, topics: peer.topics, signal })))
          : h("p", { class: "quiet" }, "Calls and messages need the role “call”, which you do not have."));
    }

    function show(peer) {
      if (!forms && !node.childElementCount) build(peer);
      const told = (name, write) => (peer[name] === undefined || peer[name] === "" ? null : write(peer[name]));
      const messages = several(peer.messages_pending, "message");
      figures.replaceChildren(facts([
        [side.label, peer[side.name] ? h("div", { class: "long" }, shown(peer[side.name], 4000)) : "none"],
        ["Address", mono(shown(peer.addr))],
        ["Frontier", told("frontier_id", shown)],
        ["Online since", ago(peer.create_time ?? peer.update_time)],
        ["Last heard", told("last_heard", ago)],
        ["Identity", told("identity", shown)],
        ["Listener", told("listener", shown)],
        ["Protocol", told("protocol", shown)],
        ["Bytes in, out", told("bytes_in", (value) => `${bytes(value)}, ${bytes(peer.bytes_out)}`)],
        ["Under way", told("calls_pending", (calls) => `${several(calls, "call")}, ${messages}`)],
        ["Waiting for it", told("messages_waiting", (value) => `${count(value)}, ${bytes(peer.waiting_bytes)}`)],
      ]));
      if (names(methods, peer.methods ?? [], forms && ((name) => forms.choose(name)))) forms?.learn(peer.methods ?? []);
      names(topics, peer.topics ?? [], null);
      const open = peer.streams ?? [];
      streams.replaceChildren(...open.slice(0, STREAMS).map(({ stream_id, peer: other, bytes_in, bytes_out }) =>
        row([["mono", stream_id], ["mono", shown(other)], ["end", bytes(bytes_in)], ["end", bytes(bytes_out)]])));
      if (!open.length) streams.append(remark(4, "None is open."));
      if (open.length > STREAMS) streams.append(remark(4, `${count(open.length - STREAMS)} more.`));
    }

    async function refresh() {
      try {
        const peer = await get(`${path}/details`, {}, signal);
        show(peer);
        if (peer.partial) tell(place, "bad", `Not all is known: ${shown(peer.partial, 1000)}`);
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
  const button = (name) => h("button", { type: "button", class: "tag", onclick: () => choose(name) }, shown(name, 120));
  const text = (name) => h("span", { class: "tag" }, shown(name, 120));
  list.replaceChildren(...all.slice(0, NAMES).map((name) => h("li", {}, choose ? button(name) : text(name))));
  if (!all.length) list.append(h("li", { class: "quiet" }, "None."));
  if (all.length > NAMES) list.append(h("li", { class: "quiet" }, `${count(all.length - NAMES)} more.`));
  return true;
}
