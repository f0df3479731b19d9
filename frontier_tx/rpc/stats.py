"""The figures of ``/metrics`` for a page that draws them: numbers by name, and quantiles of the last seconds."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from prometheus_client import CollectorRegistry

FRESH = 0.5
"""Seconds for which figures are given out again."""
WINDOW, STEP = 10.0, 2.0
"""Quantiles are those of about so many seconds, between looks that lie at least a step apart."""
QUANTILES = (0.5, 0.9, 0.99)

Buckets = dict[float, float]
"""How many were at most as large as each bound."""


@dataclass(slots=True)
class Figures:
    """All figures at one time."""

    counters: dict[str, float] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    quantiles: dict[str, float] = field(default_factory=dict)


class Statistics:
    """Reads a registry of Prometheus.

    :param now: seconds.
    """

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float]) -> None:
        self._registry = registry
        self._now = now
        self._last: Figures | None = None
        self._read_at = float("-inf")
        self._looks: deque[tuple[float, dict[str, Buckets]]] = deque()

    def read(self) -> Figures:
        """The figures, at most ``FRESH`` seconds old."""
        now = self._now()
        if self._last is None or now - self._read_at >= FRESH:
            self._last, self._read_at = self._collect(now), now
        return self._last

    def _collect(self, now: float) -> Figures:
        figures = Figures()
        histograms: dict[str, Buckets] = {}
        kinds = {"counter": figures.counters, "gauge": figures.gauges}
        for family in self._registry.collect():
            table = kinds.get(family.type)
            for sample in family.samples:
                if table is not None:
                    if not sample.name.endswith("_created"):
                        table[key(sample.name, sample.labels)] = sample.value
                elif family.type == "histogram" and sample.name.endswith("_bucket"):
                    labels = dict(sample.labels)
                    bound = float(labels.pop("le"))
                    histograms.setdefault(key(family.name, labels), {})[bound] = sample.value
        before = self._before(now)
        for name, buckets in histograms.items():
            old = before.get(name, {})
            grown = {bound: count - old.get(bound, 0.0) for bound, count in buckets.items()}
            for quantile in QUANTILES:
                value = estimate(grown, quantile)
                if value is not None:
                    figures.quantiles[_with_label(name, f'quantile="{quantile:g}"')] = value
        if not self._looks or now - self._looks[-1][0] >= STEP:
            self._looks.append((now, histograms))
        return figures

    def _before(self, now: float) -> dict[str, Buckets]:
        """What was counted about a window ago; nothing if nobody looked then."""
        while len(self._looks) > 1 and now - self._looks[1][0] >= WINDOW:
            self._looks.popleft()
        return self._looks[0][1] if self._looks else {}


def key(name: str, labels: Any) -> str:
    """A name with its labels, as Prometheus writes them."""
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


def _with_label(name: str, label: str) -> str:
    return f"{name[:-1]},{label}}}" if name.endswith("}") else f"{name}{{{label}}}"


def estimate(buckets: Buckets, quantile: float) -> float | None:
    """The value that this share does not exceed, by a straight line within its bucket; None without any."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted = total * quantile
    for low, high in pairwise([0.0, *bounds]):
        below = buckets.get(low, 0.0)
        if buckets[high] >= wanted:
            if high == float("inf"):
                return low
            inside = buckets[high] - below
            return low + (high - low) * ((wanted - below) / inside if inside else 1.0)
    return None
