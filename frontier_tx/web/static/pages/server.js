// The server itself: version, log level, draining, and the configuration in effect.

import { act, get } from "../api.js";
import { ask, card, dateAndTime, duration, h, mono, notice, shown, tell } from "../dom.js";
import { follow, live, may, refresh } from "../live.js";
import { facts } from "./peer.js";

const LEVELS = ["debug", "info", "warn", "error"];

/** A nested value as lines of YAML, for reading. */
export function written(value, depth = 0) {
  const space = "  ".repeat(depth);
  if (Array.isArray(value)) return value.map((each) => `${space}- ${inner(each, depth).trimStart()}`).join("");
  return Object.entries(value).sort().map(([name, each]) => {
    const text = inner(each, depth);
    return `${space}${shown(name)}:${nested(each) ? "\n" : " "}${text}`;
  }).join("");
}

const nested = (value) => value !== null && typeof value === "object" && Object.keys(value).length > 0;

function inner(value, depth) {
  if (nested(value)) return written(value, depth + 1);
  if (value !== null && typeof value === "object") return Array.isArray(value) ? "[]\n" : "{}\n";
  return `${value === "" ? '""' : shown(value ?? "null", 2000)}\n`;
}

/** The page of a server. */
export function serverPage(base, name) {
  return ({ signal }) => {
    const place = h("div");
    const about = h("div");
    const config = h("pre", { class: "payload", tabindex: "0", "aria-label": "Configuration" }, "…");
    const level = h("select", { id: "level" }, LEVELS.map((each) => h("option", { value: each }, each)));
    let known = null;

    async function attempt(work, done) {
      try {
        await work();
        tell(place, "good", done);
      } catch (error) {
        tell(place, "bad", error.message);
      }
      refresh();
    }
    const drain = h("button", { type: "button", class: "danger", onclick: async () => {
      const result = "It takes no more connections, tells everybody who is connected to go elsewhere, and stops.";
      const sure = await ask(`Drain ${name}?`, result, "Drain");
      if (sure) attempt(() => act("POST", `${base}/server/drain`), `${name} is draining.`);
    } }, "Drain");
    const set = h("button", { type: "button", onclick: () => {
      const done = `The log level is ${level.value} until the next start.`;
      attempt(() => act("PUT", `${base}/server/log-level`, { level: level.value }), done);
    } }, "Set");

    follow(() => {
      const { info } = live;
      if (!info) return;
      if (info.log_level !== known) {
        known = info.log_level;
        if (!LEVELS.includes(known)) level.append(h("option", { value: known }, known));
        level.value = known;
      }
      drain.disabled = info.draining;
      const addresses = Object.entries(info.addresses ?? {}).filter(([, all]) => all.length).map(([side, all]) =>
        [`Listens for ${side}`, mono([all].flat().map((each) => shown(each)).join(", "))]);
      const waits = info.not_ready ? `not ready: ${shown(info.not_ready)}` : "serving";
      about.replaceChildren(facts([
        ["Version", shown(info.version)],
        ["Id", info.frontier_id ? mono(shown(info.frontier_id)) : null],
        ["Started", `${dateAndTime(info.started)}, ${duration(info.uptime_seconds)} ago`],
        ["State", info.draining ? "draining" : waits],
        ...addresses,
        ["You may", (info.roles ?? []).join(", ") || "nothing"],
      ]));
    }, signal);
    get(`${base}/server/config`, {}, signal).then(
      (answer) => config.replaceChildren(written(answer)),
      (error) => signal.aborted || config.replaceWith(notice("bad", error.message)));

    const acts = [
      h("div", { class: "row" }, h("label", { for: "level" }, "Log level"), level, set),
      h("div", { class: "row" }, drain),
    ];
    return { title: "Server", node: [place, h("div", { class: "columns" },
      h("div", {}, card("about", "About", about), may("act") && card("acts", "Act", acts)),
      card("config", "Configuration in effect", config))] };
  };
}
