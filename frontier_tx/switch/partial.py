"""Incomplete frames while memory is short: a sender with more than its share of them waits for its turn.

A frame is useful only when it is complete. If every sender were stopped at some size, no frame would ever be complete.
So senders wait in a queue, and the first of them go on as far as there is room for the rest of their frames.
"""

from collections import OrderedDict
from typing import Protocol

from frontier_tx.switch.budget import Budget
from frontier_tx.switch.legs import Leg
from frontier_tx.timers import Timers

#: The line is looked at so often, in seconds.
LOOK = 0.05


class Owner(Protocol):
    """A connection with a frame that is not whole."""

    leg: Leg

    @property
    def missing(self) -> int:
        """Bytes that are to come until the frame is whole."""

    def pause_reading(self) -> None:
        """Take no more from the peer until as many ``resume_reading``."""

    def resume_reading(self) -> None:
        """Undo one ``pause_reading``."""

    def abort(self, reason: str) -> None:
        """End the connection at once."""


class PartialFrames:
    """The line.

    :param seconds: how long one may stand in it, and then take to send the rest of its frame.
    """

    def __init__(self, budget: Budget, timers: Timers, seconds: float) -> None:
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        #: How many were closed because they had to wait too long.
        self.given_up = 0
        self._budget = budget
        self._timers = timers
        self._seconds = seconds
        #: Until when each may wait, and go on; in this order.
        self._waiting: OrderedDict[Owner, float] = OrderedDict()
        self._going: OrderedDict[Owner, float] = OrderedDict()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def grown(self, owner: Owner) -> None:
        """More of a frame has come."""
        if owner in self._going or owner in self._waiting or self._budget.admits(owner.leg, 0):
            return
        self._waiting[owner] = self._timers.now() + self._seconds
        owner.pause_reading()
        self._look()

    def over(self, owner: Owner) -> None:
        """The frame is whole, or its connection gone."""
        self._going.pop(owner, None)
        if self._waiting.pop(owner, None) is not None:
            owner.resume_reading()

    def fire(self, now: float) -> None:
        """See whether somebody may go on, and who has waited too long."""
        for line in (self._waiting, self._going):
            while line:
                owner, until = next(iter(line.items()))
                if until > now:
                    break
                self.given_up += 1
                owner.abort("timeout: the gateway is short of memory, and the rest of a frame took too long")
                line.pop(owner, None)
        self._look()

    def _look(self) -> None:
        budget = self._budget
        if self._waiting:
            room = budget.passing - budget.used - sum(owner.missing for owner in self._going)
            for owner in list(self._waiting):
                room -= owner.missing
                if room < 0:
                    break
                del self._waiting[owner]
                self._going[owner] = self._timers.now() + self._seconds
                owner.resume_reading()
        if not self.tick and (self._waiting or self._going):
            self._timers.schedule(self, self._timers.now() + LOOK)
