// Which of the server's figures (those of /metrics) stand behind the numbers and charts of the page.

/** The sum of a figure over those of its labels that count; null where the server has none of this name. */
function sum(table, name, counts = () => true) {
  let total = null;
  for (const [key, value] of Object.entries(table ?? {})) {
    if ((key === name || key.startsWith(`${name}{`)) && counts(key)) total = (total ?? 0) + Number(value);
  }
  return total;
}

/** The largest quantile of a histogram over its labels, in milliseconds. */
function quantile({ quantiles }, name, share) {
  const found = Object.entries(quantiles ?? {}).filter(([key]) => key.startsWith(`${name}{`)
    && key.includes(`quantile="${share}"`));
  return found.length ? 1000 * Math.max(...found.map(([, value]) => Number(value))) : null;
}

const together = (...values) => values.reduce((total, value) => (value === null ? total : (total ?? 0) + value), null);

const failed = (key) => !key.includes('outcome="ok"');

const READ = {
  calls: ({ counters }) => sum(counters, "frontier_calls_total"),
  messages: ({ counters }) => sum(counters, "frontier_messages_total"),
  failures: ({ counters }) =>
    together(sum(counters, "frontier_calls_total", failed), sum(counters, "frontier_messages_total", failed)),
  received: ({ counters }) => sum(counters, "frontier_received_bytes_total"),
  sent: ({ counters }) => sum(counters, "frontier_sent_bytes_total"),
  streams: ({ gauges }) => sum(gauges, "frontier_streams"),
  pending: ({ gauges }) => sum(gauges, "frontier_pending"),
  held: ({ gauges }) => sum(gauges, "frontier_held_bytes"),
  callHalf: (stats) => quantile(stats, "frontier_call_seconds", "0.5"),
  callMost: (stats) => quantile(stats, "frontier_call_seconds", "0.99"),
  questions: ({ counters }) => sum(counters, "control_plane_requests_total"),
  redisHalf: (stats) => quantile(stats, "frontlas_redis_seconds", "0.5"),
  redisMost: (stats) => quantile(stats, "frontlas_redis_seconds", "0.99"),
  redisCommands: ({ counters }) => sum(counters, "frontlas_registry_redis_commands_total"),
};

/** Those figures of an answer that the page shows. */
export function figuresOf(stats) {
  return Object.fromEntries(Object.entries(READ).map(([name, read]) => [name, read(stats)])
    .filter(([, value]) => value !== null));
}
