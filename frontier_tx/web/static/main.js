// Finds the page that the address names, shows it, and asks for a token where the server wants one.

import { token } from "./api.js";
import { h, notice, say, shown } from "./dom.js";
import { follow, live, refresh, start } from "./live.js";
import { clusterPage, clusterPeersPage, frontiersPage } from "./pages/cluster.js";
import { eventsPage } from "./pages/events.js";
import { overviewPage } from "./pages/overview.js";
import { peerPage } from "./pages/peer.js";
import { peersPage } from "./pages/peers.js";
import { serverPage } from "./pages/server.js";

const PRODUCTS = {
  frontier: {
    name: "Frontier",
    base: "v1",
    menu: { "": "Overview", edges: "Edges", services: "Services", events: "Events", server: "Server" },
    pages: {
      "": overviewPage,
      edges: peersPage("edges"),
      "edges/": peerPage("edges"),
      services: peersPage("services"),
      "services/": peerPage("services"),
      events: eventsPage("v1"),
      server: serverPage("v1", "Frontier"),
    },
  },
  frontlas: {
    name: "Frontlas",
    base: "cluster/v1",
    menu: {
      "": "Cluster", frontiers: "Frontiers", edges: "Edges", services: "Services", events: "Events", server: "Server",
    },
    pages: {
      "": clusterPage,
      frontiers: frontiersPage,
      edges: clusterPeersPage("edges"),
      "edges/": peerPage("edges", "cluster/v1"),
      services: clusterPeersPage("services"),
      events: eventsPage("cluster/v1"),
      server: serverPage("cluster/v1", "Frontlas"),
    },
  },
};

const WHICH_TOKEN = "It is one of access.tokens in the server's configuration. Only this tab keeps it.";

const product = PRODUCTS[document.documentElement.dataset.product] ?? PRODUCTS.frontier;
const place = (id) => document.getElementById(id);
const main = place("main");
let leaving = new AbortController();
let asking = null;

function routeOf(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [key, ...parts] = path.split("/").filter(Boolean).map(decoded);
  const keep = (values) => {
    const kept = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== ""));
    history.replaceState(null, "", `#/${path}${kept.size ? `?${kept}` : ""}`);
  };
  return { key: key ?? "", parts, query: new URLSearchParams(query), keep };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show(focus = true) {
  leaving.abort();
  leaving = new AbortController();
  const route = routeOf(location.hash);
  const lost = notice("bad", "This address leads nowhere. ", h("a", { href: "#/" }, "Go to the first page."));
  const page = product.pages[route.parts.length ? `${route.key}/` : route.key];
  const { title, node } = page ? page({ route, signal: leaving.signal }) : { title: "No such page", node: lost };
  const heading = h("h1", { tabindex: "-1" }, title);
  main.replaceChildren(heading, ...[node].flat().filter(Boolean));
  document.title = `${title} · ${product.name}`;
  for (const link of place("pages").querySelectorAll("a")) {
    if (link.dataset.key === route.key) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (focus) {
    heading.focus();
    scrollTo(0, 0);
  }
}

function state() {
  const { info, error } = live;
  const [kind, text] = error ? ["bad", error.status ? "No access" : "No answer"] :
    info?.draining ? ["warn", "Draining"] : info?.not_ready ? ["warn", "Not ready"] : ["good", "Serving"];
  const element = place("state");
  if (element.textContent !== text) element.replaceChildren(h("span", { class: `mark ${kind}` }), text);
  if (info) place("identity").textContent = shown(info.frontier_id ?? "", 60);
  place("leave").hidden = !token.get();
}

function signIn(reason) {
  if (asking) return;
  const input = h("input", {
    id: "token", type: "password", autocomplete: "off", required: true, autofocus: true,
    // A header could not carry other characters.
    pattern: "\\s*[!-~]+\\s*", title: "letters, digits and signs of ASCII, without spaces",
  });
  const form = h("form", { class: "stack", onsubmit: async (event) => {
    event.preventDefault();
    token.set(input.value.trim());
    asking.close();
  } },
  h("h2", { id: "signin" }, `${product.name} asks for a token`),
  reason && token.get() ? notice("bad", shown(reason)) : h("p", {}, WHICH_TOKEN),
  h("label", { for: "token" }, "Token"), input,
  h("div", { class: "row end" }, h("button", { class: "main" }, "Sign in")));
  asking = h("dialog", { "aria-labelledby": "signin" }, form);
  asking.addEventListener("close", async () => {
    asking.remove();
    asking = null;
    await refresh();
    if (!asking) show();
  });
  document.body.append(asking);
  asking.showModal();
}

function header() {
  place("product").textContent = product.name;
  place("pages").replaceChildren(...Object.entries(product.menu).map(([key, name]) =>
    h("li", {}, h("a", { href: `#/${key}`, "data-key": key }, name))));
  place("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  place("leave").addEventListener("click", () => {
    token.forget();
    say("Signed out");
    location.reload();
  });
}

header();
window.addEventListener("unauthenticated", (event) => signIn(event.detail));
window.addEventListener("hashchange", () => show());
follow(state, new AbortController().signal);
await start(product.base);
show(false);
