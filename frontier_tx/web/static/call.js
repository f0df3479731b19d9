// Forms that call a method of a peer, or send a message, and tell what came of it.

import { ApiError, part, send } from "./api.js";
import { bytes, h, milliseconds, notice, say, shown } from "./dom.js";

const SHOWN = 64 * 1024;
const MARGIN = 5_000;

const encoders = {
  text: (text) => new TextEncoder().encode(text),
  json(text) {
    if (text.trim()) JSON.parse(text);
    return new TextEncoder().encode(text);
  },
  hex(text) {
    const digits = text.replace(/0x|[\s:,]/gi, "");
    if (/[^0-9a-f]/i.test(digits)) throw new SyntaxError("only the digits 0 to 9 and a to f belong here");
    if (digits.length % 2) throw new SyntaxError("the number of digits is odd, but two make a byte");
    return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  },
};

/** Fields for a body in one of three forms; `take()` gives its bytes and media type, or throws SyntaxError. */
function bodyFields(prefix, label) {
  const text = h("textarea", { id: `${prefix}-body`, rows: "4", spellcheck: "false", autocomplete: "off" });
  const choice = Object.entries({ text: "Text", json: "JSON", hex: "Hex" }).map(([form, name]) =>
    h("label", {}, h("input", { type: "radio", name: `${prefix}-form`, value: form, checked: form === "text" }),
      ` ${name}`));
  const fields = [
    h("label", { for: text.id }, label),
    text,
    h("fieldset", { class: "row" }, h("legend", { class: "unseen" }, "What the body is written in"), choice),
  ];
  const take = () => {
    const form = choice.map((each) => each.firstChild).find((input) => input.checked).value;
    const type = form === "json" ? "application/json" : "application/octet-stream";
    return { body: encoders[form](text.value), type };
  };
  return { fields, take };
}

/** Bytes as text where they are UTF-8, else in hex, with what may be done with them. */
export function payload(data) {
  const modes = { Text: asText, JSON: asJson, Hex: asHex };
  const possible = Object.entries(modes).map(([name, write]) => [name, write(data)])
    .filter(([, text]) => text !== null);
  const text = h("pre", { class: "payload", tabindex: "0", "aria-label": "Answer" });
  const show = (content) => text.replaceChildren(content);
  const first = possible.find(([name]) => name === "JSON") ?? possible[0];
  show(first[1]);
  const link = h("a", { class: "button", download: "answer.bin", href: URL.createObjectURL(new Blob([data])) }, "Save");
  return h("div", {}, text, data.length > SHOWN && h("p", { class: "quiet" }, `The first ${bytes(SHOWN)} are shown.`),
    h("div", { class: "row" }, possible.map(([name, content]) =>
      h("button", { type: "button", "aria-pressed": String(name === first[0]), onclick: (event) => {
        show(content);
        for (const each of event.target.parentNode.querySelectorAll("button")) {
          each.setAttribute("aria-pressed", String(each === event.target));
        }
      } }, name)), link));
}

function asText(data) {
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true });
    return shown(decoder.decode(data.subarray(0, SHOWN), { stream: data.length > SHOWN }), SHOWN)
      .replaceAll("\\u000a", "\n").replaceAll("\\u0009", "\t");
  } catch {
    return null;
  }
}

function asJson(data) {
  const text = data.length > SHOWN ? null : asText(data);
  try {
    const value = JSON.parse(new TextDecoder().decode(data));
    // Numbers that JavaScript cannot hold must not be shown wrong: then the text stands as it came.
    return text !== null && typeof value === "object" && !/\d{16}/.test(text)
      ? shown(JSON.stringify(value, null, 2), SHOWN).replaceAll("\\u000a", "\n") : null;
  } catch {
    return null;
  }
}

function asHex(data) {
  const lines = [];
  for (let at = 0; at < Math.min(data.length, SHOWN / 16); at += 16) {
    const row = [...data.subarray(at, at + 16)];
    const digits = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    const letters = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${digits}  ${letters}`);
  }
  return lines.join("\n");
}

/**
 * A form that calls a method of a peer. `side` is "edges" or "services", `base` the root of the API; `choose(method)`
 * fills in a name, `learn(methods)` offers them.
 */
export function callForm({ base, side, id, methods, signal }) {
  const who = one(side);
  const method = h("input", { id: "call-method", required: true, list: "methods", autocomplete: "off",
    spellcheck: "false", value: methods[0] ?? "" });
  const timeout = h("input", { id: "call-timeout", type: "number", min: "0.1", max: "3600", step: "any", value: "30",
    required: true });
  const known = h("datalist", { id: "methods" });
  const { fields, take } = bodyFields("call", "Request");
  const learn = (names) => known.replaceChildren(...names.map((name) => h("option", { value: name })));
  learn(methods);
  const form = transfer({
    fields: [
      h("div", { class: "pair" },
        h("div", {}, h("label", { for: method.id }, "Method"), method, known),
        h("div", { class: "narrow" }, h("label", { for: timeout.id }, "Timeout, seconds"), timeout)),
      fields,
    ],
    go: "Call",
    signal,
    async work(abort) {
      const { body, type } = take();
      const seconds = Number(timeout.value);
      const patience = AbortSignal.any([abort, AbortSignal.timeout(seconds * 1000 + MARGIN)]);
      return send(`${base}/${side}/${part(id)}/rpcs/${part(method.value)}`,
        { timeout: `${Math.round(seconds * 1000)}ms` }, body, type, patience);
    },
    done: (answer, took) => [notice("good", `Answered in ${took}, ${bytes(answer.bytes.length)}.`),
      payload(answer.bytes)],
    failed: (error, took) => blame(error, who, took),
  });
  return { element: form, learn, choose: (name) => { method.value = name; fields[1].focus(); } };
}

/** A form that sends a peer a message. */
export function messageForm({ base, side, id, topics = [], signal }) {
  const who = one(side);
  const topic = h("input", { id: "message-topic", list: "topics", autocomplete: "off", spellcheck: "false",
    value: topics[0] ?? "" });
  const { fields, take } = bodyFields("message", "Message");
  return transfer({
    fields: [h("div", {}, h("label", { for: topic.id }, "Topic"), topic,
      h("datalist", { id: "topics" }, topics.map((name) => h("option", { value: name })))), fields],
    go: "Send",
    signal,
    async work(abort) {
      const { body, type } = take();
      return send(`${base}/${side}/${part(id)}/messages`, { topic: topic.value }, body, type,
        AbortSignal.any([abort, AbortSignal.timeout(60_000)]));
    },
    done: (_, took) => notice("good", `The ${who} has acknowledged it after ${took}.`),
    failed: (error, took) => blame(error, who, took),
  });
}

const one = (side) => (side === "edges" ? "edge" : "service");

function blame(error, who, took) {
  if (error instanceof SyntaxError) return notice("bad", `Nothing was sent: ${error.message}.`);
  if (error.name === "AbortError") return notice("bad", `Given up after ${took}.`);
  if (error.reason.endsWith("_ERROR")) {
    return notice("bad", h("strong", {}, `The ${who} answered with an error`), ` after ${took}: `,
      h("span", { class: "mono" }, shown(error.message, 4000)));
  }
  return notice("bad", h("strong", {}, `No answer of the ${who}`), ` after ${took}: ${shown(error.message, 4000)}`,
    h("span", { class: "quiet" }, ` (${error.status || "no status"}${error.reason ? ` ${error.reason}` : ""})`));
}

function transfer({ fields, go, work, done, failed, signal }) {
  const outcome = h("div", { class: "outcome" });
  const start = h("button", { class: "main" }, go);
  const stop = h("button", { type: "button", hidden: true }, "Give up");
  const form = h("form", { class: "stack" }, fields, h("div", { class: "row" }, start, stop), outcome);
  const forget = () => {
    for (const link of outcome.querySelectorAll("a[download]")) URL.revokeObjectURL(link.href);
  };
  signal.addEventListener("abort", forget);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const abort = new AbortController();
    stop.onclick = () => abort.abort();
    start.disabled = true;
    stop.hidden = false;
    forget();
    outcome.replaceChildren(h("p", { class: "quiet" }, "Waiting for the answer …"));
    const begun = performance.now();
    const took = () => milliseconds(performance.now() - begun);
    try {
      const answer = await work(AbortSignal.any([abort.signal, signal]));
      outcome.replaceChildren(...[done(answer, took())].flat());
    } catch (error) {
      if (!(error instanceof ApiError || error instanceof SyntaxError || error.name === "AbortError")) throw error;
      outcome.replaceChildren(failed(error, took()));
    } finally {
      if (document.activeElement === stop) start.focus();
      start.disabled = false;
      stop.hidden = true;
      say(outcome.firstChild?.textContent ?? "");
    }
  });
  return form;
}
