"""How long a process works without a break: its handlers, and the turns of its reactor."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from time import perf_counter
from typing import Any

#: Upper bounds of the classes of a histogram, in seconds. What is shorter than the first is counted without a look.
CLASSES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
#: The longest of the last one to two minutes is shown, so that several readers see the same.
WINDOW = 60.0


class Durations:
    """A histogram of durations that also remembers the longest recent one.

    :param now: seconds, for the age of the longest.
    """

    __slots__ = ("count", "total", "_classes", "_now", "_longest", "_before", "_window_ends")

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self.count = 0
        #: Sum in seconds.
        self.total = 0.0
        self._classes = [0] * (len(CLASSES) + 1)
        self._now = now
        self._longest = self._before = 0.0
        self._window_ends = now() + WINDOW

    def note(self, seconds: float) -> None:
        """Count one duration."""
        self.count += 1
        self.total += seconds
        if seconds > CLASSES[0]:
            self._note_long(seconds)

    def _note_long(self, seconds: float) -> None:
        self._classes[bisect_left(CLASSES, seconds)] += 1
        self._turn_window()
        self._longest = max(self._longest, seconds)

    def _turn_window(self) -> None:
        now = self._now()
        if now >= self._window_ends:
            self._before = self._longest if now < self._window_ends + WINDOW else 0.0
            self._longest = 0.0
            self._window_ends = now + WINDOW

    def longest(self) -> float:
        """The longest of the last one to two minutes, in seconds; 0 where all were shorter than a millisecond."""
        self._turn_window()
        return max(self._longest, self._before)

    def histogram(self) -> list[tuple[str, float]]:
        """Upper bounds with the number of durations up to each, as Prometheus wants them."""
        found: list[tuple[str, float]] = []
        below = self.count - sum(self._classes)
        for bound, number in zip((*map(str, CLASSES), "+Inf"), self._classes, strict=True):
            below += number
            found.append((bound, below))
        return found


#: The turns of the process's reactor, where ``watch_turns`` was called.
REACTOR = Durations()


class _WatchedPoller:
    """A poller that notes the time between two calls of it: the length of a turn."""

    def __init__(self, poller: Any, turns: Durations) -> None:
        self._poller = poller
        self._turns = turns
        self._since = perf_counter()

    def poll(self, *args: Any) -> Any:
        self._turns.note(perf_counter() - self._since)
        try:
            return self._poller.poll(*args)
        finally:
            self._since = perf_counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)


def watch_turns(reactor: Any, turns: Durations = REACTOR) -> bool:
    """Measure the turns of a reactor; return whether it is of a kind that can be.

    Twisted has no place where a turn begins and ends. What its reactors for Linux wait with is a private attribute,
    so another version of Twisted may go without this figure, and without anything worse.
    """
    poller = getattr(reactor, "_poller", None)
    if not hasattr(poller, "poll") or isinstance(poller, _WatchedPoller):
        return False
    reactor._poller = _WatchedPoller(poller, turns)
    return True
