"""Metrics of a process: how long it works without a break, and whether its log is read."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from frontier_tx.runtime.logstream import lost_lines
from frontier_tx.runtime.turns import REACTOR, Durations


class ProcessFigures(Collector):
    """Turns of the reactor, handlers, and log lines.

    :param program: the beginning of the names, such as ``frontier``.
    :param handlers: of each kind of work that is measured.
    """

    def __init__(self, program: str, handlers: Mapping[str, Durations]) -> None:
        self._program = program
        self._handlers = dict(handlers)

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        of_turns = "a turn of the reactor, in which others wait"
        yield self._histogram("turn_seconds", f"How long {of_turns}, took.", {"": REACTOR})
        yield self._longest("longest_turn_seconds", f"The longest of the last minute: {of_turns}.", {"": REACTOR})
        text = "what one event cost, with all that was written for it"
        yield self._histogram(
            "handler_seconds", f"Handlers that took longer than a millisecond: {text}.", self._handlers
        )
        yield self._longest("longest_handler_seconds", f"The longest of the last minute: {text}.", self._handlers)
        yield CounterMetricFamily(
            f"{self._program}_log_lines_lost",
            "Log lines that were dropped because nobody read them.",
            value=lost_lines(),
        )

    def _histogram(self, name: str, text: str, kinds: Mapping[str, Durations]) -> Metric:
        family = HistogramMetricFamily(f"{self._program}_{name}", text, labels=_labels(kinds))
        for kind, durations in kinds.items():
            family.add_metric([kind] if kind else [], durations.histogram(), durations.total)
        return family

    def _longest(self, name: str, text: str, kinds: Mapping[str, Durations]) -> Metric:
        family = GaugeMetricFamily(f"{self._program}_{name}", text, labels=_labels(kinds))
        for kind, durations in kinds.items():
            family.add_metric([kind] if kind else [], durations.longest())
        return family


def _labels(kinds: Mapping[str, Durations]) -> list[str]:
    return [] if "" in kinds else ["of"]
