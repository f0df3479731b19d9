"""Back-pressure of streams: a sender is stopped while its receiver is behind, but not for long.

The protocol knows no windows, so a sender can only be stopped as a whole, with all else that it sends. That is borne
for ``stall_seconds``; a receiver that has not taken a good part of what waits by then loses its connection.
"""

from frontier_tx.switch.leg import Leg
from frontier_tx.switch.settings import Counters
from frontier_tx.timers import Timers

#: A receiver that has taken so many bytes, or half of what may wait, is no longer behind.
RELIEF = 1_048_576


class Pressure:
    """Stops and lets go.

    :param high: bytes that wait for a receiver from which on its senders are stopped.
    :param stall_seconds: how long a receiver may keep senders stopped at a stretch.
    """

    def __init__(self, timers: Timers, counters: Counters, high: int, stall_seconds: float) -> None:
        self.high = high
        self.low = max(high - RELIEF, high // 2)
        self._timers = timers
        self._counters = counters
        self._stall_seconds = stall_seconds

    def stop(self, source: Leg, target: Leg) -> None:
        """Read no more from ``source`` until ``target`` has caught up."""
        if source in target.congesting:
            return
        if target.stall is None:
            target.stall = Stall(target)
            self._timers.schedule(target.stall, self._timers.now() + self._stall_seconds)
        target.congesting.add(source)
        source.stopped_by.add(target)
        self._counters.throttled += 1
        source.link.pause_reading()

    def relieved(self, target: Leg, source: Leg) -> None:
        """``target`` has caught up with what ``source`` sends, or one of them is gone."""
        if source not in target.congesting:
            return
        target.congesting.discard(source)
        source.stopped_by.discard(target)
        if target.stall is not None and not target.congesting:
            self._timers.cancel(target.stall)
            target.stall = None
        source.link.resume_reading()

    def forget(self, leg: Leg) -> None:
        """The leg is gone: it stops nobody, and nobody stops it."""
        for source in list(leg.congesting):
            self.relieved(leg, source)
        for target in list(leg.stopped_by):
            self.relieved(target, leg)


class Stall:
    """A receiver that keeps senders stopped."""

    __slots__ = ("tick", "_target")

    def __init__(self, target: Leg) -> None:
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self._target = target

    def fire(self, now: float) -> None:
        """It has done so for too long."""
        self._target.link.abort("timeout: others wait because it does not take what its streams bring")
