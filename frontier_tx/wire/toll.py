"""An allowance for JSON that is not canonical and costs time to read: who exceeds it is not read from for a while."""

from collections.abc import Callable

from frontier_tx.timers import Timers

#: Bytes of JSON in other than the canonical form that a connection may send at once, and per second. This much per
#: second is some 3 % of a processor's time; bodies in the canonical form are free of it.
AT_ONCE = 262_144
PER_SECOND = 524_288.0


class Toll:
    """The allowance of one connection.

    :param stop: called when its owner is to take nothing from the peer.
    :param go_on: called when it may again.
    """

    __slots__ = ("tick", "_timers", "_stop", "_go_on", "_left", "_at", "_stopped")

    def __init__(self, timers: Timers, stop: Callable[[], None], go_on: Callable[[], None]) -> None:
        self.tick = 0
        self._timers = timers
        self._stop = stop
        self._go_on = go_on
        self._left = float(AT_ONCE)
        self._at = timers.now()
        self._stopped = False

    def charge(self, spent: int) -> bool:
        """Let the peer pay for bytes that were read the slow way; return whether it is stopped now and was not."""
        now = self._timers.now()
        self._left = min(float(AT_ONCE), self._left + (now - self._at) * PER_SECOND) - spent
        self._at = now
        if self._left >= 0:
            return False
        self._timers.schedule(self, now - self._left / PER_SECOND)
        if self._stopped:
            return False
        self._stopped = True
        self._stop()
        return True

    def fire(self, now: float) -> None:
        """It has paid."""
        self._stopped = False
        self._go_on()

    def cancel(self) -> None:
        """The connection is over."""
        self._timers.cancel(self)
