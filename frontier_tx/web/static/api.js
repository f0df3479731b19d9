// Requests to the server. Paths are relative to the page, so that a proxy may serve it under any prefix.

const KEY = "frontier token";
const PATIENCE = 15_000;

/** What the server, or the way to it, refused: `status` is 0 where no answer came. */
export class ApiError extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

/** The token of this tab; it ends with the tab. */
export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** Ids and names as a part of a path. */
export const part = (text) => encodeURIComponent(text);

async function fetched(path, { method = "GET", query = {}, body, type, signal } = {}) {
  const wanted = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== "" && value !== null && value !== undefined) wanted.set(name, value);
  }
  const text = wanted.toString();
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (type) headers["Content-Type"] = type;
  let response;
  try {
    response = await fetch(text ? `${path}?${text}` : path, { method, headers, body, signal, cache: "no-store",
      redirect: "error" });
  } catch (error) {
    throw gone(error);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

function gone(error) {
  if (error.name === "TimeoutError") return new ApiError(0, "TIMEOUT", "The server took too long to answer.");
  if (error.name === "AbortError") return error;
  return new ApiError(0, "UNREACHABLE", "The server does not answer. Is it running, and does a proxy stand between?");
}

async function refusal(response) {
  let { reason, message } = { reason: "", message: "" };
  try {
    ({ reason, message } = JSON.parse(await response.text()));
  } catch {
    // Not every refusal is one of ours: a proxy has its own.
  }
  if (response.status === 401) window.dispatchEvent(new CustomEvent("unauthenticated", { detail: message }));
  return new ApiError(response.status, reason || "", message || `${response.status} ${response.statusText}`);
}

const within = (signal, wait = PATIENCE) =>
  signal ? AbortSignal.any([signal, AbortSignal.timeout(wait)]) : AbortSignal.timeout(wait);

/** Ask for JSON. */
export async function get(path, query, signal) {
  return answered(await fetched(path, { query, signal: within(signal) }), (response) => response.json());
}

/** Do something: the answer is JSON, and mostly empty. */
export async function act(method, path, query) {
  return answered(await fetched(path, { method, query, signal: within(null, 60_000) }), (response) => response.text());
}

/** Send bytes and give the bytes of the answer, however long that takes. */
export async function send(path, query, body, type, signal) {
  const response = await fetched(path, { method: "POST", query, body, type, signal });
  return { bytes: new Uint8Array(await answered(response, () => response.arrayBuffer())),
    type: response.headers.get("Content-Type") };
}

async function answered(response, read) {
  try {
    return await read(response);
  } catch (error) {
    throw error instanceof SyntaxError ? new ApiError(response.status, "", "The answer is no JSON.") : gone(error);
  }
}

/** Server-sent events as they come: `{kind, data}`, after an "open" of our own. An EventSource cannot send a token. */
export async function* events(path, query, signal) {
  const response = await fetched(path, { query, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    yield { kind: "open", data: null };
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block);
        if (event) yield event;
      }
    }
  } catch (error) {
    throw gone(error);
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(block) {
  let kind = null;
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (name === "event") kind = value;
    else if (name === "data") data.push(value);
  }
  if (!data.length) return null;
  try {
    const event = JSON.parse(data.join("\n"));
    return { kind: kind ?? event.kind ?? "message", data: event };
  } catch {
    return null;
  }
}
