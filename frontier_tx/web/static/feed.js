// The server's events, with a new connection whenever one ends.

import { events } from "./api.js";

const FIRST = 1_000;
const LONGEST = 30_000;

/** Follow events until the signal aborts. `got(event)` gets each; `changed(state, error)` is told "live", "connecting" or "refused". */
export async function followEvents(path, query, { got, changed, signal }) {
  let wait = FIRST;
  while (!signal.aborted) {
    let error = null;
    try {
      changed("connecting", null);
      const stream = events(path, query, signal);
      for await (const event of stream) {
        if (event.kind === "open") changed("live", null);
        else got(event);
        wait = FIRST;
      }
    } catch (problem) {
      error = problem;
    }
    if (signal.aborted) return;
    if (error && error.status >= 400 && error.status < 500 && error.status !== 429) {
      changed("refused", error);
      return;
    }
    changed("connecting", error);
    await pause(wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(2 * wait, LONGEST);
  }
}

function pause(milliseconds, signal) {
  return new Promise((over) => {
    const timer = setTimeout(over, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); over(); }, { once: true });
  });
}
