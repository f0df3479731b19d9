// The server's events, with a new connection whenever one ends.

import { events } from "./api.js";

const FIRST = 1_000;
const LONGEST = 30_000;

/**
 * Follow events until the signal aborts. `got(event)` gets each; `changed(state, error)` is told "live", "connecting"
 * or "refused". With `unseen` false a tab that is hidden does without, for a browser has few connections to one server.
 */
export async function followEvents(path, query, { got, changed, signal, unseen = true }) {
  let wait = FIRST;
  while (!signal.aborted) {
    if (!unseen && document.hidden) await next(document, "visibilitychange", signal);
    const stop = new AbortController();
    const hide = () => unseen || stop.abort();
    document.addEventListener("visibilitychange", hide);
    let error = null;
    try {
      changed("connecting", null);
      for await (const event of events(path, query, AbortSignal.any([signal, stop.signal]))) {
        if (event.kind === "open") changed("live", null);
        else got(event);
        wait = FIRST;
      }
    } catch (problem) {
      error = problem;
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
    if (signal.aborted) return;
    if (stop.signal.aborted) continue;
    if (error && error.status >= 400 && error.status < 500 && error.status !== 429) {
      changed("refused", error);
      return;
    }
    changed("connecting", error);
    await pause(wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(2 * wait, LONGEST);
  }
}

const next = (target, event, signal) => new Promise((over) => {
  target.addEventListener(event, over, { once: true });
  signal.addEventListener("abort", over, { once: true });
});

const pause = (milliseconds, signal) => new Promise((over) => {
  const timer = setTimeout(over, milliseconds);
  signal.addEventListener("abort", () => { clearTimeout(timer); over(); }, { once: true });
});
