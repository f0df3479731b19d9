// Elements, numbers and texts. Whatever peers sent reaches the page through here, as text and never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. Properties that begin with "on" are listeners; true is an empty attribute, null and false none. */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for a part of a drawing. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined
    && child !== false));
  return element;
}

/** Text in a quiet colour, and in letters of one width. */
export const quiet = (...children) => h("span", { class: "quiet" }, ...children);
export const mono = (...children) => h("span", { class: "mono break" }, ...children);

/** A part of a page with a heading. */
export const card = (id, title, ...children) =>
  h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), ...children);

/** A table with a name and heads (elements, or texts; ">" before one sets it to the right), which scrolls by itself. */
export function table(name, heads, rows) {
  const head = (text) => h("th", { scope: "col", class: text[0] === ">" ? "end" : null }, text.replace(">", ""));
  const first = h("tr", {}, heads.map((each) => (typeof each === "string" ? head(each) : each)));
  return h("div", { class: "sheet", role: "region", tabindex: "0", "aria-label": `Table of ${name}` },
    h("table", {}, h("caption", { class: "unseen" }, name), h("thead", {}, first), rows));
}

/** Cells of a row: texts and elements as they are, or pairs of a class and what is in the cell. */
export function row(cells, kind = "") {
  return h("tr", { class: kind || null }, cells.map((cell) =>
    (Array.isArray(cell) ? h("td", { class: cell[0] }, ...cell.slice(1)) : h("td", {}, cell))));
}

/** A row of a table that has nothing else to show, or not all. */
export const remark = (columns, text) => h("tr", {}, h("td", { colspan: String(columns), class: "quiet" }, text));

// Characters that are not seen, or that turn the direction of what follows, would let one peer look like another.
const UNSEEN = new RegExp("[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180e" +
  "\\u200b-\\u200f\\u2028-\\u202f\\u205f-\\u206f\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffc\\ufffe\\uffff" +
  "\\u{e0000}-\\u{e0fff}]", "gu");
const LONGEST = 300;

/** A peer's text with unseen characters written out, cut at `longest` characters. */
export function shown(text, longest = LONGEST) {
  const all = String(text ?? "");
  const kept = all.length > longest ? `${all.slice(0, longest)}…` : all;
  return kept.replace(UNSEEN, (character) => `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`);
}

const LANGUAGE = "en";
const whole = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(LANGUAGE, { maximumSignificantDigits: 3, notation: "compact" });
const clock = new Intl.DateTimeFormat(LANGUAGE, { hour: "2-digit", minute: "2-digit", second: "2-digit",
  hourCycle: "h23" });
const moment = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });

export const count = (value) => whole.format(Number(value ?? 0));
export const several = (value, one) => `${count(value)} ${one}${Number(value) === 1 ? "" : "s"}`;
export const rough = (value) => (Math.abs(value) < 10_000 ? trim(value) : short.format(value));
const trim = (value) => (value >= 100 || Number.isInteger(value) ? whole.format(value) : value.toPrecision(2)
  .replace(/\.0+$/, ""));

/** A number of bytes, in units of 1024. */
export function bytes(value) {
  let rest = Number(value ?? 0);
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (rest < 1024) return `${rough(rest)} ${unit}`;
    rest /= 1024;
  }
  return `${rough(rest)} TiB`;
}

/** A time of so many milliseconds. */
export function milliseconds(value) {
  if (value >= 1000) return `${rough(value / 1000)} s`;
  return `${rough(value)} ms`;
}

/** A number of seconds, in its two largest units. */
export function duration(value) {
  let rest = Math.max(0, Math.floor(Number(value ?? 0)));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    if (rest >= size || (unit === "s" && !parts.length)) parts.push(`${Math.floor(rest / size)} ${unit}`);
    rest %= size;
  }
  return parts.slice(0, 2).join(" ");
}

/** How long ago a time in Unix seconds was, as an element that also tells the time itself. */
export function ago(seconds) {
  const at = Number(seconds ?? 0);
  if (!at) return quiet("–");
  const date = new Date(at * 1000);
  return h("time", { datetime: date.toISOString(), title: moment.format(date) }, since(at));
}

function since(at) {
  const seconds = Date.now() / 1000 - at;
  return seconds < 2 ? "now" : `${duration(seconds)} ago`;
}

export const timeOfDay = (seconds) => clock.format(new Date(seconds * 1000));
export const dateAndTime = (seconds) => moment.format(new Date(Number(seconds) * 1000));

/** Tell users of screen readers what changed. */
export function say(text) {
  const said = document.getElementById("said");
  if (said.textContent !== text) said.textContent = text;
}

/** A line about something that went well, or did not. */
export const notice = (kind, ...children) => h("p", { class: `notice ${kind}` }, ...children);

/** Show such a line in `place`, and only it; also to those who do not see it. */
export function tell(place, kind, ...children) {
  const line = notice(kind, ...children);
  if (place.textContent === line.textContent) return;
  place.replaceChildren(line);
  say(line.textContent);
}

/** Put other children into an element; the link that had the focus has it again, if one with its address is there. */
export function refill(element, children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  element.replaceChildren(...children);
  if (focused) [...element.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
}

/** Ask a question before something that cannot be taken back; gives whether the answer was yes. */
export function ask(title, explanation, yes) {
  return new Promise((answer) => {
    const dialog = h("dialog", { "aria-labelledby": "question", "aria-describedby": "explanation" },
      h("h2", { id: "question" }, title),
      h("p", { id: "explanation" }, explanation),
      h("div", { class: "row end" },
        h("button", { type: "button", autofocus: true, onclick: () => dialog.close("") }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, yes)));
    const before = document.activeElement;
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before?.isConnected) before.focus();
      answer(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Call something every so many seconds until the page is left, but not while nobody sees it. */
export function every(seconds, signal, work) {
  let timer = null;
  const go = async () => {
    clearTimeout(timer);
    if (!document.hidden) await work();
    if (!signal.aborted) timer = setTimeout(go, seconds * 1000);
  };
  const seen = () => document.hidden || go();
  document.addEventListener("visibilitychange", seen, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  return go();
}
