"""A caller's time limit over all steps of one operation."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from frontier_tx.clients.core.values import seconds
from frontier_tx.errors import DeadlineExceeded, OperationTimeout


class Deadline:
    """A caller's time limits, from now on.

    :param timeout: seconds. :param deadline: Unix seconds, by ``wall_clock``.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> None:
        self._clock = clock
        now = clock.seconds()
        self._timeout_at = None if timeout is None else now + seconds(timeout, "timeout")
        self._deadline_at = None if deadline is None else now + seconds(deadline, "deadline") - wall_clock()

    def left(self) -> float | None:
        """What is left of the timeout, in seconds.

        :raises OperationTimeout: nothing. ``DeadlineExceeded``: the deadline passed.
        """
        if self._deadline_at is not None and self._clock.seconds() >= self._deadline_at:
            raise DeadlineExceeded
        if self._timeout_at is None:
            return None
        now = self._clock.seconds()
        if now >= self._timeout_at:
            raise OperationTimeout
        return float(self._timeout_at - now)

    def over(self, waiting: "Deferred[Any]") -> "Deferred[Any]":
        """Limit a wait: when the time is over it fails with what ``left`` would raise."""
        ends = [
            (when, late)
            for when, late in ((self._timeout_at, OperationTimeout), (self._deadline_at, DeadlineExceeded))
            if when is not None
        ]
        if ends:
            when, late = min(ends, key=lambda end: end[0])
            return within(waiting, max(0.0, when - self._clock.seconds()), self._clock, late)
        return waiting


class NotYet(Exception):
    """A short wait is over, and what it was for has not happened."""


def within(
    waiting: "Deferred[Any]", time: float, clock: IReactorTime, late: Callable[[], Exception]
) -> "Deferred[Any]":
    """Limit a wait to ``time`` seconds; then it fails with ``late()``."""
    return waiting.addTimeout(time, clock, lambda result, _: fail(late()))
