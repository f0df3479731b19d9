// What the server says of itself, asked again and again, and kept for the charts.

import { get } from "./api.js";
import { figuresOf } from "./figures.js";

const SECONDS = 2;
const KEPT = 150;

/** The last answers: `info` of the server, `samples` of its figures (oldest first), and what kept us from asking. */
export const live = { base: "v1", info: null, samples: [], error: null };
const listeners = new Set();

/** Call `listener` after each answer until the signal aborts, and once at once if there is one already. */
export function follow(listener, signal) {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
  if (live.info || live.error) listener();
}

/** Ask now. */
export async function refresh() {
  try {
    const [info, stats] = await Promise.all([get(`${live.base}/server`), get(`${live.base}/server/stats`)]);
    live.info = info;
    live.error = null;
    const sample = { at: Number(stats.time), figures: figuresOf(stats) };
    // Another server may answer now, one whose clock is behind.
    if (live.samples.at(-1)?.at > sample.at) live.samples.length = 0;
    if (live.samples.at(-1)?.at !== sample.at) live.samples.push(sample);
    if (live.samples.length > KEPT) live.samples.shift();
  } catch (error) {
    live.error = error;
  }
  for (const listener of listeners) listener();
}

/** Ask every two seconds from now on, but not while nobody sees the page. */
export function start(base) {
  live.base = base;
  const again = async () => {
    if (!document.hidden) await refresh();
    setTimeout(again, SECONDS * 1000);
  };
  return again();
}

/** Whether the caller's token, or the lack of one, has this role. */
export const may = (role) => Boolean(live.info?.roles?.includes(role));

/** A counter per second over some samples, as a function of a place among them; null where the server does not tell. */
export const rate = (name, span = 1) => (samples, index) => {
  const now = samples[index];
  const before = samples[Math.max(0, index - span)];
  if (!(name in now.figures && name in before.figures)) return null;
  const passed = now.at - before.at;
  if (passed <= 0 || passed > (span + 3) * SECONDS) return null;
  return Math.max(0, (now.figures[name] - before.figures[name]) / passed);
};

/** A figure as it is, likewise. */
export const gauge = (name) => (samples, index) => samples[index].figures[name] ?? null;

/** The newest value of such a function; null where the server does not tell. */
export const latest = (value) => (live.samples.length ? value(live.samples, live.samples.length - 1) : null);
