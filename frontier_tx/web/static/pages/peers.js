// The tables of edges and of services, on Frontier.

import { act, get, part } from "../api.js";
import { ago, ask, h, quiet, shown, tell } from "../dom.js";
import { List } from "../list.js";
import { may } from "../live.js";

/** What differs between the two kinds of peers. */
export const SIDES = {
  edges: { one: "edge", id: "edge_id", name: "meta", title: "Edges", label: "Meta" },
  services: { one: "service", id: "service_id", name: "service", title: "Services", label: "Name" },
};

const FIELDS = {
  edges: [
    { key: "meta", label: "meta begins with" }, { key: "edge_id", label: "id" },
    { key: "addr", label: "address begins with" }, { key: "rpc", label: "method" },
  ],
  services: [
    { key: "service", label: "name begins with" }, { key: "addr", label: "address begins with" },
    { key: "rpc", label: "method" }, { key: "topic", label: "topic" },
  ],
};

/** The head of a column of buttons. */
export const ACTIONS = () => h("span", { class: "unseen" }, "Actions");

/** Ask whether a peer shall go, and send it away; gives whether it is gone. Says what happened in `place`. */
export async function kick({ path, one, id, name, place }) {
  const whose = name ? `“${shown(name, 80)}”` : `${one} ${id}`;
  const result = `The connection of ${whose} is closed and its calls fail. It may connect again at once.`;
  const sure = await ask(`Kick ${one} ${id}?`, result, "Kick");
  if (!sure) return false;
  try {
    await act("DELETE", path);
    tell(place, "good", `The connection of ${one} ${id} is closed.`);
    return true;
  } catch (error) {
    tell(place, "bad", `The ${one} ${id} was not kicked: ${error.message}`);
    return false;
  }
}

/** A button that kicks the peer of a row. */
export function kickButton({ path, one, id, name, place, after }) {
  const press = async () => {
    if (await kick({ path, one, id, name, place })) after();
  };
  return h("button", { type: "button", class: "small", "aria-label": `Kick ${one} ${id}`, onclick: press }, "Kick");
}

/** The page of all edges, or of all services. */
export function peersPage(key) {
  return ({ route, signal }) => {
    const side = SIDES[key];
    const place = h("div");
    const link = (id) => h("a", { href: `#/${key}/${part(id)}` }, id);
    const kicker = ({ [side.id]: id, [side.name]: name }) => kickButton({
      path: `v1/${key}/${part(id)}`, one: side.one, id, name, place, after: () => list.removed(),
    });
    const called = ({ [side.name]: name }) => shown(name) || quiet("none");
    const columns = [
      { name: "Id", order: side.id, kind: "mono", fixed: true, cell: (each) => link(each[side.id]) },
      { name: side.label, order: side.name, kind: "wide clip", cell: called },
      { name: "Address", order: "addr", kind: "mono spare", cell: (each) => shown(each.addr) },
      { name: "Online since", order: "create_time", kind: "spare", cell: (each) => ago(each.create_time) },
    ];
    if (may("act")) columns.push({ name: ACTIONS(), kind: "spare end", fixed: true, cell: kicker });
    const list = new List({
      what: key, columns, fields: FIELDS[key], order: "-create_time", route, signal,
      id: (each) => each[side.id],
      empty: `No ${side.one} is connected.`,
      async load({ field, text, order, page, size }, aborted) {
        // The server would refuse such an id, and rightly; here it is what somebody is about to type.
        if (field === side.id && text && !/^\d+$/.test(text)) return { rows: [], count: 0 };
        const answer = await get(`v1/${key}`, { page, page_size: size, order, [field]: text }, aborted);
        return { rows: answer[key], count: answer.count };
      },
    });
    return { title: side.title, node: [place, list.element] };
  };
}
