"""From single runs to medians, ratios, a table and limits. No I/O but reading a limits file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateways import Trouble
from benchmarks.load import Line

# metric in tables and limits: fields of gwload with their units, the first that a case has is taken
METRICS: dict[str, list[tuple[str, str]]] = {
    "cpu": [
        ("cpu_us_per_op", "us/op"),
        ("cpu_ms_per_mb", "ms/MB"),
        ("cpu_s_per_1000_edges_minute", "s/1000e/min"),
    ],
    "ops": [("mb_per_s", "MB/s"), ("ops_per_s", "/s")],
    "p50": [("p50_ms", "ms")],
    "p99": [("p99_ms", "ms")],
    "p999": [("p999_ms", "ms")],
    "rss": [("rss_mib", "MiB")],
    "mem": [("kib_per_edge", "KiB/edge")],
}
MORE_IS_BETTER = {"ops"}
SHOWN = ("cpu", "ops", "p99", "rss", "mem")


@dataclass(frozen=True)
class Run:
    """One case against one gateway; `side` 0 is the gateway measured, 1 the one it is compared with."""

    round: int
    turn: int
    case: str
    side: int
    result: Line


@dataclass(frozen=True)
class Row:
    """Medians of a metric by side; `ratio` is measured / compared, `low` and `high` those of single turns."""

    case: str
    metric: str
    unit: str
    values: list[list[float | None]]
    medians: list[float | None]
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Limit:
    """`case` may be `*`; the ratio must be at most `ratio`, or at least where more is better."""

    case: str
    metric: str
    ratio: float


def value_of(case: str, metric: str, line: Line) -> tuple[float, str] | None:
    """Value and unit of a metric in one line of gwload."""
    if metric == "ops" and case == "idle":
        return None
    for field, unit in METRICS[metric]:
        if line.get(field) is not None:
            return float(line[field]), unit
    return None


def short(value: float | None) -> str:
    """A number with about three significant digits."""
    if value is None:
        return "-"
    for limit, form in ((0.1, "%.4f"), (1, "%.3f"), (10, "%.2f"), (100, "%.1f")):
        if abs(value) < limit:
            return form % value
    return str(round(value))


def in_words(case: str, line: Line) -> str:
    """One run as a line of text."""
    found = [(metric, value_of(case, metric, line)) for metric in SHOWN]
    text = ", ".join(f"{metric} {short(got[0])} {got[1]}" for metric, got in found if got)
    if line.get("retried"):
        text += f"  (second try; {line['retried']})"
    if line["errors"]:
        text += f"  ERRORS {line['errors']}: {line.get('error', '')}"
    return text


def summarise(cases: Sequence[str], sides: int, runs: Sequence[Run]) -> list[Row]:
    """Rows for every case and metric that at least one run has; runs with errors do not count."""
    rows = []
    for case in cases:
        for metric in METRICS:
            unit = None
            values: list[list[float | None]] = [[] for _ in range(sides)]
            for run in runs:
                if run.case != case:
                    continue
                got = None if run.result["errors"] else value_of(case, metric, run.result)
                values[run.side].append(got[0] if got else None)
                unit = got[1] if got else unit
            if unit is None:
                continue
            rows.append(_row(case, metric, unit, values))
    return rows


def _row(case: str, metric: str, unit: str, values: list[list[float | None]]) -> Row:
    medians = [
        statistics.median(known) if (known := [x for x in column if x is not None]) else None for column in values
    ]
    if len(values) < 2:
        return Row(case, metric, unit, values, medians)
    pairs = [ours / other for ours, other in zip(values[0], values[1], strict=False) if ours is not None and other]
    ratio = medians[0] / medians[1] if medians[0] is not None and medians[1] else None
    return Row(case, metric, unit, values, medians, ratio, min(pairs, default=None), max(pairs, default=None))


def table(rows: Sequence[Row], names: Sequence[str], everything: bool) -> str:
    """The rows as text, one line each."""
    two = len(names) == 2
    lines = [
        f"{'case':<12} {'':<5} {'':<12}"
        + "".join(f" {name[:11]:>11}" for name in names)
        + ("      ratio" if two else "")
        + "  lowest-highest"
    ]
    last = None
    for row in rows:
        if not everything and row.metric not in SHOWN:
            continue
        text = f"{row.case if row.case != last else '':<12} {row.metric:<5} {row.unit:<12}"
        text += "".join(f" {short(median):>11}" for median in row.medians)
        if two:
            text += f"  {'-' if row.ratio is None else f'{row.ratio:.2f}':>9}"
            if row.low is not None:
                text += f"  {row.low:.2f}-{row.high:.2f}"
        else:
            seen = [x for x in row.values[0] if x is not None]
            text += f"  {short(min(seen))}-{short(max(seen))}" if seen else ""
        lines.append(text)
        last = row.case
    return "\n".join(lines)


def read_limits(path: Path) -> list[Limit]:
    """Lines `CASE METRIC RATIO`, `#` starts a comment; raises Trouble naming file and line."""
    limits = []
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise Trouble(f"limits: {error}") from error
    for number, text in enumerate(lines, 1):
        words = text.split("#")[0].split()
        if not words:
            continue
        if len(words) != 3 or words[1] not in METRICS:
            raise Trouble(f"{path} line {number}: want CASE METRIC RATIO, METRIC one of {' '.join(METRICS)}")
        try:
            limits.append(Limit(words[0], words[1], float(words[2])))
        except ValueError as error:
            raise Trouble(f"{path} line {number}: not a number: {words[2]}") from error
    return limits


def verdicts(limits: Sequence[Limit], rows: Sequence[Row], cases: Sequence[str]) -> list[tuple[bool, str]]:
    """For each limit on a case that ran: whether it is met, and a sentence with the figures."""
    out = []
    for limit in limits:
        if limit.case != "*" and limit.case not in cases:
            continue
        found = [row for row in rows if row.metric == limit.metric and limit.case in ("*", row.case)]
        if not found:
            out.append((False, f"{limit.case} {limit.metric}: not measured"))
        for row in found:
            at_least = limit.metric in MORE_IS_BETTER
            wanted = f"wanted at {'least' if at_least else 'most'} {limit.ratio:g}"
            if row.ratio is None:
                out.append((False, f"{row.case} {limit.metric}: no ratio, {wanted}"))
                continue
            met = row.ratio >= limit.ratio if at_least else row.ratio <= limit.ratio
            out.append((met, f"{row.case} {limit.metric}: ratio {row.ratio:.3f}, {wanted}"))
    return out
