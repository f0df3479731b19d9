// Small charts of the last minutes, with one line for each value.

import { duration, h, svg, timeOfDay } from "./dom.js";
import { live } from "./live.js";

const WIDTH = 300;
const HEIGHT = 72;
const SECONDS = [30, 60, 120, 300];

/** A chart of `lines` (`{label, value}`, see live.js), whose numbers `format` writes and whose scale
 * counts by `base`; it hides where the server does not tell. */
export class Chart {
  constructor(title, lines, format, base = 10) {
    this.title = title;
    this.lines = lines;
    this.format = format;
    this.base = base;
    this.span = SECONDS[0];
    this.chosen = null;
    this.paths = lines.map((_, index) => stroke(`line line${index}`));
    this.area = svg("path", { class: "area" });
    this.cursor = stroke("cursor");
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      stroke("base", `M0 ${HEIGHT}H${WIDTH}`), this.area, this.paths, this.cursor);
    this.most = h("span", { class: "most quiet", "aria-hidden": "true" });
    this.values = lines.map(() => h("b"));
    this.begin = h("span");
    this.when = h("span");
    this.element = h("figure", { class: "chart", hidden: true },
      h("figcaption", {}, h("h2", {}, title),
        h("p", { class: "legend" }, lines.map(({ label }, index) =>
          h("span", {}, h("i", { class: `key key${index}` }), label ? `${label} ` : "", this.values[index])))),
      h("div", { class: "plot" }, this.picture, this.most),
      h("p", { class: "axis quiet", "aria-hidden": "true" }, this.begin, this.when));
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => this.point(null));
  }

  point(event) {
    const box = this.picture.getBoundingClientRect();
    this.chosen = event && box.width ? (event.clientX - box.left) / box.width : null;
    this.update();
  }

  /** Draw what is known by now. */
  update() {
    const { samples } = live;
    const newest = samples.at(-1)?.at ?? 0;
    this.span = SECONDS.find((each) => each >= newest - (samples[0]?.at ?? 0)) ?? SECONDS.at(-1);
    const x = (at) => WIDTH * (1 - (newest - at) / this.span);
    const all = this.lines.map(({ value }) => samples.map((_, index) => value(samples, index)));
    const known = all.flat().filter((value) => value !== null);
    this.element.hidden = !known.length;
    if (!known.length) return;
    const top = nice(Math.max(...known), this.base);
    const y = (value) => HEIGHT - (value / top) * (HEIGHT - 6);
    for (const [index, values] of all.entries()) this.paths[index].setAttribute("d", path(values, samples, x, y));
    this.area.setAttribute("d", all.length === 1 ? under(path(all[0], samples, x, y)) : "");
    this.most.textContent = this.format(top);
    this.label(samples, all, known);
  }

  label(samples, all, known) {
    let index = samples.length - 1;
    this.cursor.setAttribute("d", "");
    this.when.textContent = "now";
    this.begin.textContent = `${duration(this.span)} ago`;
    if (this.chosen !== null) {
      const at = samples.at(-1).at - this.span * (1 - this.chosen);
      const away = (each) => Math.abs(samples[each].at - at);
      index = samples.reduce((best, _, each) => (away(each) < away(best) ? each : best), index);
      const x = WIDTH * (1 - (samples.at(-1).at - samples[index].at) / this.span);
      this.cursor.setAttribute("d", `M${x} 0V${HEIGHT}`);
      this.when.textContent = timeOfDay(samples[index].at);
    }
    const texts = all.map((values) => (values[index] === null ? "–" : this.format(values[index])));
    for (const [each, text] of texts.entries()) this.values[each].textContent = text;
    const now = this.lines.map(({ label }, each) => `${label} ${texts[each]}`.trim()).join(", ");
    this.picture.setAttribute("aria-label",
      `${this.title}: now ${now}; at most ${this.format(Math.max(...known))} in the last ${duration(this.span)}`);
  }
}

const stroke = (kind, d = "") => svg("path", { class: kind, d, "vector-effect": "non-scaling-stroke" });

function path(values, samples, x, y) {
  let text = "";
  let drawing = false;
  values.forEach((value, index) => {
    if (value !== null) text += `${drawing ? "L" : "M"}${x(samples[index].at).toFixed(1)} ${y(value).toFixed(1)}`;
    drawing = value !== null;
  });
  return text;
}

// Closes each unbroken part of a line along the base.
function under(line) {
  return line.split("M").slice(1).map((piece) => {
    const points = piece.split("L");
    const ends = [points[0], points.at(-1)].map((point) => point.split(" ")[0]);
    return `M${ends[0]} ${HEIGHT}L${points.join("L")}L${ends[1]} ${HEIGHT}Z`;
  }).join("");
}

// The next round number: of a scale by 1024 those are the powers of two.
function nice(most, base) {
  if (most <= 0) return 1;
  if (base === 2) return 2 ** Math.ceil(Math.log2(most));
  const size = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].find((step) => step * size >= most) * size;
}
