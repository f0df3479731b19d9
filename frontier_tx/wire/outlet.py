"""Where output leaves: what many small frames cost is the system calls, so a turn's frames go out together.

While received bytes are being worked on, connections that got something to send are only noted; when that is done,
each of them writes once. Output that comes up outside such a turn (a timer, a caller's own code) is written in the next
turn of the reactor. Who may write only so much at once rests for a moment and goes on then.
"""

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

#: Seconds that a connection rests between two bursts.
PAUSE = 0.001

log = Logger()


class Flushable(Protocol):
    """Something with output to write."""

    def flush(self) -> None:
        """Write it, or as much of it as the transport takes."""

    def rested(self) -> None:
        """``PAUSE`` is over."""


class Outlet:
    """Notes who has output, and lets everybody write at the end of a turn. One for a whole process."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: list[Flushable] = []
        self._depth = 0
        self._call: IDelayedCall | None = None
        self._resting: list[Flushable] = []

    def rest(self, who: Flushable) -> None:
        """``who`` goes on after ``PAUSE``."""
        if not self._resting:
            self._clock.callLater(PAUSE, self._wake)
        self._resting.append(who)

    def _wake(self) -> None:
        resting, self._resting = self._resting, []
        for who in resting:
            who.rested()
            self._waiting.append(who)
        self.flush()

    def note(self, who: Flushable) -> None:
        """``who`` has output."""
        self._waiting.append(who)
        if not self._depth and self._call is None:
            self._call = self._clock.callLater(0, self._late)

    def enter(self) -> None:
        """A turn begins."""
        self._depth += 1

    def leave(self) -> None:
        """A turn ends: write."""
        self._depth -= 1
        if not self._depth:
            self.flush()

    def flush(self) -> None:
        """Let everybody write who has something."""
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for who in waiting:
                try:
                    who.flush()
                except Exception:
                    # The others of this turn have done nothing wrong.
                    log.failure("the output of {who!r} could not be written", who=who)

    def _late(self) -> None:
        self._call = None
        self.flush()
