"""What goes on at a server: events as they happen, and numbers that move."""

import time
from collections import deque
from typing import Any

import click

from frontier_tx.cli.control import Control
from frontier_tx.cli.failures import Exit, Failure
from frontier_tx.cli.main import Command
from frontier_tx.cli.session import Session
from frontier_tx.cli.settings import seconds
from frontier_tx.cli.talk import pass_session
from frontier_tx.cli.text import amount, shown

#: Seconds without a sign of life, of which a server gives one every 15 s.
SILENCE = 45.0
#: Seconds between attempts.
AGAIN = 2.0

_COLOURS = {"online": "green", "registered": "green", "listed": "green", "offline": "red", "gone": "red"}


@click.command("watch", cls=Command)
@click.option(
    "--kinds", help="Only these, with commas: edge_online, edge_offline, service_online, method_registered, ..."
)
@click.option("--snapshot", is_flag=True, help="Begin with those who are online.")
@click.option("--count", "-n", type=click.IntRange(1), help="End after so many events.")
@pass_session
def watch_command(session: Session, kinds: str | None, snapshot: bool, count: int | None) -> None:
    """Print who comes and goes: edges, services, methods, topics."""
    control, seen = session.control, 0
    query = {"kinds": kinds, "snapshot": "true" if snapshot else None}
    reached = False
    while True:
        try:
            for kind, event in control.events("/events", query, SILENCE):
                reached = True
                _print_event(session, kind, event)
                seen += 1
                if seen == count:
                    return
            told = f"{control.address} ended the events"
        except Failure as failure:
            if not reached or failure.code not in (Exit.UNREACHABLE, Exit.TIMEOUT, Exit.BUSY):
                raise
            told = failure.text
        session.output.note(f"frontier: {told}; what happens meanwhile is missed. Connecting again")
        time.sleep(AGAIN)


def _print_event(session: Session, kind: str, event: dict[str, Any]) -> None:
    output = session.output
    if output.as_json:
        output.record(event)
        return
    kind = str(event.get("kind") or kind)
    who = ""
    for name in ("edge", "service"):
        if event.get(f"{name}_id"):
            who = f"{name} {event[f'{name}_id']}"
    rest = [str(event[name]) for name in ("meta", "service", "method", "topic", "addr", "reason") if event.get(name)]
    if event.get("count"):
        rest.append(f"{event['count']} events")
    when = time.strftime("%T", time.localtime(int(event.get("time") or time.time())))
    colour = _COLOURS.get(kind.rpartition("_")[2])
    name = output.styled(shown(kind).ljust(17), fg=colour) if colour else shown(kind).ljust(17)
    about = "  ".join(shown(each, 80) for each in rest)
    output.text(f"{output.styled(when, dim=True)}  {name}  {shown(who).ljust(26)}  {about}".rstrip())


#: What is counted, and its unit for one second.
RATES = {
    "frontier_calls_total": ("calls", ""),
    "frontier_messages_total": ("messages", ""),
    "frontier_failures_total": ("failed calls and messages", ""),
    "frontier_stream_bytes_total": ("bytes of streams", "B"),
    "frontier_streams_opened_total": ("streams opened", ""),
    "frontier_connections_opened_total": ("connects", ""),
    "frontier_connections_closed_total": ("ends of connections", ""),
    "frontier_dropped_total": ("dropped", ""),
    "frontier_connections_refused_total": ("refused", ""),
}
_WITH_OUTCOME = ("frontier_calls_total", "frontier_messages_total")
LEVELS = {
    "frontier_edges": ("edges", ""),
    "frontier_services": ("services", ""),
    "frontier_streams": ("streams", ""),
    "frontier_pending": ("calls and messages under way", ""),
    "frontier_waiting_bytes": ("waiting", "B"),
    "frontier_held_bytes": ("held", "B"),
    "process_resident_memory_bytes": ("memory", "B"),
}


class Samples:
    """Figures of one server, asked again and again."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._last: dict[str, float] = {}
        self._time = 0.0
        self.rates: dict[str, float] = {}
        self.levels: dict[str, float] = {}
        self.quantiles: dict[str, float] = {}
        self.history: dict[str, deque[float]] = {}
        self.time = 0.0

    def take(self) -> None:
        """Ask once more; rates are those since the time before."""
        found = self._control.get("/server/stats")
        counters, self.levels = _sums(found.get("counters")), _sums(found.get("gauges"))
        self.quantiles = {str(name): float(value) for name, value in (found.get("quantiles") or {}).items()}
        self.time = float(found.get("time") or time.time())
        passed = self.time - self._time
        if self._time and passed > 0:
            # A counter that went back belongs to a new process.
            self.rates = {
                name: max(0.0, value - self._last.get(name, 0.0)) / passed for name, value in counters.items()
            }
            for name, rate in self.rates.items():
                self.history.setdefault(name, deque(maxlen=60)).append(rate)
        self._last, self._time = counters, self.time

    def record(self) -> dict[str, Any]:
        """What stands in JSON."""
        rates = {name.removesuffix("_total"): round(rate, 3) for name, rate in sorted(self.rates.items())}
        return {"time": self.time, "per_second": rates, "gauges": self.levels, "quantiles": self.quantiles}


def _sums(found: Any) -> dict[str, float]:
    """Add up what differs in labels only."""
    sums: dict[str, float] = {}
    for name, value in (found or {}).items():
        bare = str(name).partition("{")[0]
        sums[bare] = sums.get(bare, 0.0) + float(value)
        if bare in _WITH_OUTCOME and 'outcome="ok"' not in str(name):
            sums["frontier_failures_total"] = sums.get("frontier_failures_total", 0.0) + float(value)
    return sums


@click.command("top", cls=Command)
@click.option("--interval", default="1s", show_default=True, metavar="TIME", help="Between two looks.")
@click.option("--count", "-n", type=click.IntRange(1), help="End after so many looks.")
@pass_session
def top_command(session: Session, interval: str, count: int | None) -> None:
    """Show what flows: rates, what waits, latencies.

    Where standard output is no terminal it prints a line for each look.
    """
    pause, samples, taken = max(0.1, seconds(interval)), Samples(session.control), 0
    samples.take()
    if session.output.terminal and not session.output.as_json:
        _live(session, samples, pause, count)
        return
    while count is None or taken < count:
        time.sleep(pause)
        samples.take()
        taken += 1
        if session.output.as_json:
            session.output.record(samples.record())
        else:
            shown_rates = [
                f"{amount(samples.rates.get(name, 0), unit)}/s {title}" for name, (title, unit) in RATES.items()
            ]
            levels = [f"{amount(samples.levels.get(name, 0), unit)} {title}" for name, (title, unit) in LEVELS.items()]
            session.output.text(f"{time.strftime('%T')}  {', '.join([*levels[:4], *shown_rates[:4]])}")


def _live(session: Session, samples: Samples, pause: float, count: int | None) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(no_color=session.output.colour is False, highlight=False)
    taken = 0
    with Live(_picture(session, samples), console=console, screen=True, auto_refresh=False) as live:
        while count is None or taken < count:
            time.sleep(pause)
            samples.take()
            taken += 1
            live.update(_picture(session, samples), refresh=True)


def _picture(session: Session, samples: Samples) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rates = Table(box=None, pad_edge=False)
    for title in ("", "now", "last minute"):
        rates.add_column(title, justify="right" if title == "now" else "left")
    for name, (title, unit) in RATES.items():
        if name in samples.rates or not samples.rates:
            rate = samples.rates.get(name, 0.0)
            rates.add_row(title, f"{amount(rate, unit)}/s", Text(spark(samples.history.get(name, ())), style="cyan"))
    levels = Table(box=None, pad_edge=False, show_header=False)
    for name, (title, unit) in LEVELS.items():
        if name in samples.levels:
            levels.add_row(title, amount(samples.levels[name], unit))
    for name, value in sorted(samples.quantiles.items()):
        if name.startswith("frontier_") and 'quantile="0.99"' in name:
            labels = name.partition("{")[2].replace('quantile="0.99"', "").strip("{},").replace('"', "")
            title = name.partition("{")[0].removeprefix("frontier_").removesuffix("_seconds").replace("_", " ")
            levels.add_row(f"{shown(title)} {shown(labels)}".strip() + ", p99", f"{value * 1000:.1f} ms")
    head = Text(f"frontier top  {session.control.address}  {time.strftime('%T')}  Ctrl-C ends it", style="bold")
    return Group(head, Text(), rates, Text(), levels)


def spark(values: Any) -> str:
    """Draw numbers as bars of one line."""
    bars = " ▁▂▃▄▅▆▇█"
    most = max(values, default=0.0)
    return "".join(bars[round(value / most * 8)] if most else bars[0] for value in values)
