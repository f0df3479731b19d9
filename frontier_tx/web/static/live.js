// What the server says of itself, asked again and again, and kept for the charts.

import { get } from "./api.js";

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
    if (live.samples.length && Number(live.samples.at(-1).time) > Number(stats.time)) live.samples.length = 0;
    live.samples.push({ at: Date.now() / 1000, counters: stats.counters ?? {}, gauges: stats.gauges ?? {} });
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

/** A counter per second, as a function of a place in the samples. */
export const rate = (...names) => (samples, index) => {
  const now = samples[index];
  const before = samples[index - 1];
  if (!before || now.at - before.at > 4 * SECONDS) return null;
  const known = names.filter((name) => name in now.counters);
  if (!known.length) return null;
  const grown = known.reduce((sum, name) => sum + Number(now.counters[name]) - Number(before.counters[name] ?? 0), 0);
  return Math.max(0, grown / (now.at - before.at));
};

/** A gauge, likewise. */
export const gauge = (name) => (samples, index) => {
  const value = samples[index].gauges[name];
  return value === undefined || value === null ? null : Number(value);
};

/** The newest value of such a function; null where the server does not tell. */
export const latest = (value) => (live.samples.length ? value(live.samples, live.samples.length - 1) : null);
