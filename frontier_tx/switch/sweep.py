"""A leg may leave a hundred thousand calls behind: they are ended in slices, so that others get their turns."""

from collections.abc import Callable, Iterable
from itertools import islice

from frontier_tx.switch.pending import Pending
from frontier_tx.timers import RESOLUTION, Timers

#: How many are ended in one turn, some 4 ms of work.
SLICE = 1000


class Sweep:
    """Ends what is pending, the first slice at once.

    :param items: a list of its own; what is settled by the time that its turn comes is passed over.
    :param end: ends one.
    """

    __slots__ = ("tick", "_timers", "_items", "_end")

    def __init__(self, timers: Timers, items: Iterable[Pending], end: Callable[[Pending], None]) -> None:
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self._timers = timers
        self._items = iter(list(items))
        self._end = end
        self.fire(timers.now())

    def fire(self, now: float) -> None:
        """The next slice is due."""
        count = 0
        for pending in islice(self._items, SLICE):
            count += 1
            if pending.target.pending.get(pending.target_packet) is pending:
                self._end(pending)
        if count == SLICE:
            self._timers.schedule(self, now + RESOLUTION)
