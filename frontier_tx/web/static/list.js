// Tables of what may be many: the server searches, sorts and cuts pages, the page asks again while it is looked at.

import { ApiError } from "./api.js";
import { count, every, h, remark, row, say, table, tell } from "./dom.js";

const PAGE = 50;
const SECONDS = 5;
const TYPING = 250;

/**
 * A table with a search field and pages.
 *
 * `columns` are `{name, cell(row), order, kind, fixed}`: `order` is what the server sorts by, a fixed cell never
 * changes. `fields` are the searches, `{key, label}`. `load({field, text, order, page, size, cursor}, signal)` gives
 * `{rows, count}`, or `{rows, cursor}` where pages follow one another by cursors; `id(row)` names a row. The state
 * stands in the address, so that it can be kept and sent around.
 */
export class List {
  constructor({ what, columns, fields, order = "", load, id, empty, route, signal }) {
    Object.assign(this, { what, columns, fields, load, id, empty, route, signal });
    const { query } = route;
    this.state = {
      field: fields.some(({ key }) => key === query.get("by")) ? query.get("by") : fields[0].key,
      text: query.get("text") ?? "",
      order: columns.some((column) => column.order && column.order === query.get("order")?.slice(1))
        ? query.get("order") : order,
      page: Math.max(1, Number.parseInt(query.get("page") ?? "1", 10) || 1),
      size: PAGE,
    };
    this.cursors = [0];
    this.rows = new Map();
    this.asked = 0;
    this.build();
    every(SECONDS, signal, () => this.refresh());
  }

  build() {
    const { state } = this;
    this.by = h("select", { id: "by", onchange: () => this.search() },
      this.fields.map(({ key, label }) => h("option", { value: key, selected: key === state.field }, label)));
    this.text = h("input", { id: "text", type: "search", value: state.text, autocomplete: "off", spellcheck: "false",
      oninput: () => this.typed() });
    this.heads = this.columns.map((column) => this.head(column));
    this.body = h("tbody");
    this.summary = h("p", { class: "quiet summary" });
    this.problem = h("div");
    this.before = h("button", { type: "button", onclick: () => this.turn(-1) }, "Previous page");
    this.after = h("button", { type: "button", onclick: () => this.turn(1) }, "Next page");
    this.sheet = table(this.what, this.heads, this.body);
    const submit = (event) => {
      event.preventDefault();
      this.search();
    };
    this.element = h("section", { "aria-label": this.what },
      h("form", { class: "row search", role: "search", onsubmit: submit },
        h("label", { for: "by" }, "Search by"), this.by,
        h("label", { for: "text", class: "unseen" }, "Text to search"), this.text),
      this.problem,
      this.sheet,
      h("div", { class: "row pages" }, this.summary, this.before, this.after));
    this.sorted();
  }

  head({ name, order, kind = "" }) {
    if (!order) return h("th", { scope: "col", class: kind }, name);
    return h("th", { scope: "col", class: kind, "data-order": order },
      h("button", { type: "button", class: "sort", onclick: () => this.sort(order) }, name,
        h("span", { "aria-hidden": "true" })));
  }

  typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.search(), TYPING);
  }

  search() {
    clearTimeout(this.typing);
    const [field, text] = [this.by.value, this.text.value.trim()];
    if (field === this.state.field && text === this.state.text) return;
    this.go({ field, text, page: 1 });
  }

  sort(order) {
    this.go({ order: (this.state.order === `-${order}` ? "+" : "-") + order, page: 1 });
    this.sorted();
  }

  sorted() {
    for (const head of this.heads) {
      const { order } = head.dataset;
      if (!order) continue;
      const direction = this.state.order.slice(1) === order ? this.state.order[0] : "";
      if (direction) head.setAttribute("aria-sort", direction === "-" ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
      head.querySelector("span").textContent = { "-": " ↓", "+": " ↑" }[direction] ?? "";
    }
  }

  turn(pages) {
    this.go({ page: this.state.page + pages });
  }

  go(change) {
    Object.assign(this.state, change);
    if (this.state.page === 1) this.cursors = [0];
    const { field, text, order, page } = this.state;
    this.route.keep({ by: text ? field : "", text, order, page: page > 1 && this.cursors.length === 1 ? page : "" });
    this.refresh(true);
  }

  /** Ask for the page again; `wanted` says that the user did. */
  async refresh(wanted = false) {
    const number = ++this.asked;
    this.running?.abort();
    this.running = new AbortController();
    this.element.setAttribute("aria-busy", String(wanted));
    try {
      const cursor = this.cursors[this.state.page - 1] ?? 0;
      const answer = await this.load({ ...this.state, cursor }, AbortSignal.any([this.signal, this.running.signal]));
      if (number !== this.asked) return;
      if (!answer.rows.length && this.state.page > 1 && answer.count) {
        this.go({ page: Math.ceil(answer.count / PAGE) });
        return;
      }
      this.fill(answer, wanted);
      this.problem.replaceChildren();
    } catch (error) {
      if (number !== this.asked || this.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      tell(this.problem, "bad", error.message);
    }
    this.element.setAttribute("aria-busy", "false");
  }

  /** A row is gone, and with it what had the focus. */
  removed() {
    this.sheet.focus();
    this.refresh();
  }

  fill({ rows, count: total, cursor }, wanted) {
    const old = this.rows;
    this.rows = new Map(rows.map((record) => [this.id(record), this.line(old.get(this.id(record)), record)]));
    const lines = [...this.rows.values()];
    // Rows that stay are not moved unless they must be, for they may hold the focus.
    for (const [index, line] of lines.entries()) {
      const there = this.body.children[index] ?? null;
      if (there !== line) this.body.insertBefore(line, there);
    }
    while (this.body.children.length > lines.length) this.body.lastChild.remove();
    const none = this.state.text ? "Nothing found." : this.empty;
    if (!lines.length) this.body.append(remark(this.columns.length, none));
    const first = (this.state.page - 1) * PAGE + 1;
    const more = total === undefined ? Boolean(cursor) : first + rows.length - 1 < total;
    if (cursor) this.cursors[this.state.page] = cursor;
    this.before.disabled = this.state.page <= 1;
    this.after.disabled = !more;
    const known = total === undefined ? `${count(rows.length)} ${this.what} on page ${count(this.state.page)}` :
      `${count(first)} to ${count(first + rows.length - 1)} of ${count(total)} ${this.what}`;
    this.summary.textContent = rows.length ? known : `No ${this.what}`;
    if (wanted) say(this.summary.textContent);
  }

  line(line, record) {
    if (!line) return row(this.columns.map(({ kind = "", cell }) => [kind, cell(record)]));
    for (const [index, { fixed, cell }] of this.columns.entries()) {
      if (!fixed) line.children[index].replaceChildren(cell(record));
    }
    return line;
  }
}
