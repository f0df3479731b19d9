"""One coarse timer for a whole process: a wheel of slots, and what drives it from a Twisted clock.

A call under way, a connection and a stream each have at most one time at which something is due. Setting, moving and
dropping that time costs a dictionary operation, not a ``callLater``.
"""

import heapq
from collections.abc import Callable
from math import ceil
from time import perf_counter, thread_time
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

#: Resolution in seconds: nothing fires early, and at most this much late (plus the load of the moment).
RESOLUTION = 0.01
#: How many items fire in one turn of the reactor; the rest fire in the next.
BATCH = 1000
#: The same in seconds, looked at after every ``LOOK`` items.
TURN_SECONDS = 0.004
LOOK = 16
#: The slot of an item that was taken from the wheel and did not fire yet.
TAKEN = -1

log = Logger()


class Timed(Protocol):
    """Something that can be due."""

    #: The slot it sits in; 0 when it is not scheduled, TAKEN when it is about to fire. Kept by the wheel.
    tick: int

    def fire(self, now: float) -> None:
        """Its time has come."""


class Timers(Protocol):
    """What pure code wants of the process's timer; ``Alarms`` is one."""

    def now(self) -> float:
        """Seconds of a clock that never steps back."""

    def schedule(self, item: Timed, when: float) -> None:
        """Fire ``item`` at ``when``."""

    def cancel(self, item: Timed) -> None:
        """Never fire it."""


class Wheel:
    """Slots of things that become due, without any clock of its own."""

    def __init__(self, resolution: float = RESOLUTION) -> None:
        self._resolution = resolution
        self._slots: dict[int, dict[Timed, None]] = {}
        self._order: list[int] = []
        self._size = 0
        #: The items of the earliest slot, last one first, while they are being taken. The first entry of a dictionary
        #: gets dearer with each that was deleted before it, so a slot cannot be emptied from its front.
        self._taking: list[Timed] = []
        self._taking_tick = 0

    def __len__(self) -> int:
        return self._size

    def schedule(self, item: Timed, when: float) -> None:
        """Let ``item`` be due at ``when`` (seconds) and at no other time."""
        if item.tick:
            self.cancel(item)
        # Slot 0 would say "not scheduled". A division that rounded down would let the item fire early.
        resolution = self._resolution
        tick = ceil(when / resolution)
        if tick * resolution < when or tick < 1:
            tick = max(1, tick + 1)
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = {}
            heapq.heappush(self._order, tick)
        slot[item] = None
        item.tick = tick
        self._size += 1

    def cancel(self, item: Timed) -> None:
        """Let ``item`` never be due; harmless when it is not scheduled."""
        tick, item.tick = item.tick, 0
        if tick > 0:
            del self._slots[tick][item]
            self._size -= 1

    def next_due(self) -> float | None:
        """The time of the earliest slot that holds anything, or None."""
        while self._order and not self._slots[self._order[0]]:
            del self._slots[heapq.heappop(self._order)]
        return self._order[0] * self._resolution if self._order else None

    def take(self, now: float, at_most: int = BATCH) -> list[Timed]:
        """Remove and return what is due, earliest first; an item whose ``tick`` is no longer TAKEN is to be skipped.

        Fewer than ``at_most``, or none, may be returned while more is due: ``next_due`` tells.
        """
        taken: list[Timed] = []
        looks = 4 * at_most
        while self._order and self._order[0] * self._resolution <= now and len(taken) < at_most and looks > 0:
            tick = self._order[0]
            slot = self._slots[tick]
            if not slot:
                del self._slots[heapq.heappop(self._order)]
                continue
            if self._taking_tick != tick or not self._taking:
                self._taking = list(slot)
                self._taking.reverse()
                self._taking_tick = tick
            taking = self._taking
            while taking and len(taken) < at_most and looks > 0:
                looks -= 1
                item = taking.pop()
                # It may have been cancelled since, or moved.
                if item.tick == tick:
                    del slot[item]
                    item.tick = TAKEN
                    taken.append(item)
            if not slot:
                taking.clear()
        self._size -= len(taken)
        return taken


class Alarms:
    """A wheel driven by a clock, with one ``callLater`` at a time.

    :param stopwatch: seconds of work; that of other processes of the machine does not count.
    :param took: told how long a turn of what is due has taken.
    """

    def __init__(
        self,
        clock: IReactorTime,
        resolution: float = RESOLUTION,
        stopwatch: Callable[[], float] = thread_time,
        took: Callable[[float], None] | None = None,
    ) -> None:
        #: Seconds of the clock.
        self.now: Callable[[], float] = clock.seconds
        self.clock = clock
        self._stopwatch = stopwatch
        self._took = took
        self._wheel = Wheel(resolution)
        #: See Wheel.cancel.
        self.cancel: Callable[[Timed], None] = self._wheel.cancel
        self._call: IDelayedCall | None = None
        self._call_at = 0.0
        self._firing = False
        #: Taken from the wheel, last one first, and not fired yet.
        self._taken: list[Timed] = []

    def __len__(self) -> int:
        return len(self._wheel)

    def schedule(self, item: Timed, when: float) -> None:
        """See Wheel.schedule."""
        self._wheel.schedule(item, when)
        if not self._firing and (self._call is None or when < self._call_at):
            self._arm()

    def stop(self) -> None:
        """Forget the pending ``callLater``; a later ``schedule`` starts anew."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _arm(self) -> None:
        due = self.now() if self._taken else self._wheel.next_due()
        if self._call is not None and self._call.active():
            if due is not None and due == self._call_at:
                return
            self._call.cancel()
        self._call = None
        if due is not None:
            self._call_at = due
            self._call = self.clock.callLater(max(0.0, due - self.now()), self._fire)

    def _fire(self) -> None:
        self._call = None
        now = self.now()
        began = perf_counter()
        until = self._stopwatch() + TURN_SECONDS
        if not self._taken:
            self._taken = self._wheel.take(now)
            self._taken.reverse()
        taken = self._taken
        self._firing = True
        try:
            while taken:
                item = taken.pop()
                # One that fired before it may have cancelled or moved it.
                if item.tick == TAKEN:
                    item.tick = 0
                    try:
                        item.fire(now)
                    except Exception:
                        log.failure("a timer of {item!r} failed", item=item)
                if not len(taken) % LOOK and self._stopwatch() >= until:
                    break
        finally:
            self._firing = False
            self._arm()
            if self._took is not None:
                self._took(perf_counter() - began)
