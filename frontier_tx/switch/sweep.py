"""Ends the calls and streams of a lost connection in batches, so that the reactor stays responsive."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Generic, TypeVar

from frontier_tx.switch.legs import Pending
from frontier_tx.timers import RESOLUTION, Timers

#: How many are ended in one turn, some 4 ms of work.
SLICE = 1000

T = TypeVar("T")


class Slices(Generic[T]):
    """Does something to each of many, the first slice at once.

    :param items: a list of its own is made of them.
    :param do: does it to one.
    """

    __slots__ = ("tick", "_timers", "_items", "_do")

    def __init__(self, timers: Timers, items: Iterable[T], do: Callable[[T], None]) -> None:
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self._timers = timers
        self._items = iter(list(items))
        self._do = do
        self.fire(timers.now())

    def fire(self, now: float) -> None:
        """The next slice is due."""
        count = 0
        for item in islice(self._items, SLICE):
            count += 1
            self._do(item)
        if count == SLICE:
            self._timers.schedule(self, now + RESOLUTION)


class Sweep(Slices[Pending]):
    """Ends what is pending; what is settled by the time that its turn comes is passed over.

    :param end: ends one.
    """

    __slots__ = ()

    def __init__(self, timers: Timers, items: Iterable[Pending], end: Callable[[Pending], None]) -> None:
        def end_if_pending(pending: Pending) -> None:
            if pending.target.pending.get(pending.target_packet) is pending:
                end(pending)

        super().__init__(timers, items, end_if_pending)
