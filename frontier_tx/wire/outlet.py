"""Where output leaves: what many small frames cost is the system calls, so a turn's frames go out together.

While received bytes are being worked on, connections that got something to send are only noted; when that is done,
each of them writes once. Output that comes up outside such a turn (a timer, a caller's own code) is written in the next
turn of the reactor. Who may write only so much at once rests for a moment and goes on then.

Whose received bytes are too many for one turn goes on in the next ones: each who is behind gets a slice in its turn.
"""

from collections import deque
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from frontier_tx.runtime.turns import CLASSES, Durations

#: Seconds that a connection rests between two bursts.
PAUSE = 0.001
#: Seconds of one turn of the reactor that go to those who are behind with their work.
TURN_SECONDS = 0.004
#: A handler that takes no longer, in seconds, is not counted.
SHORT = CLASSES[0]

log = Logger()


class Flushable(Protocol):
    """Something with output to write."""

    def flush(self) -> None:
        """Write it, or as much of it as the transport takes."""

    def rested(self) -> None:
        """``PAUSE`` is over."""


class Worker(Protocol):
    """Something with more work than fits into a turn."""

    def go_on(self) -> bool:
        """Do a slice of it; return whether more is left."""


class Outlet:
    """Notes who has output, and lets everybody write at the end of a turn. One for a whole process.

    :param stopwatch: seconds of work; that of other processes of the machine does not count.
    """

    def __init__(self, clock: IReactorTime, stopwatch: Callable[[], float] = thread_time) -> None:
        self._clock = clock
        self.stopwatch = stopwatch
        #: How long handlers took that were not ``SHORT``: what one event cost, with all that was written for it.
        self.handlers = Durations()
        #: How often a peer was not read from for a while as it sent much JSON in other than the canonical form.
        self.odd_json_stops = 0
        self._began = 0.0
        self._behind: deque[Worker] = deque()
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
        self._late()

    def note(self, who: Flushable) -> None:
        """``who`` has output."""
        self._waiting.append(who)
        if not self._depth and self._call is None:
            self._call = self._clock.callLater(0, self._late)

    def enter(self) -> None:
        """A turn begins."""
        if not self._depth:
            self._began = perf_counter()
        self._depth += 1

    def leave(self) -> None:
        """A turn ends: write."""
        if self._depth == 1:
            if self._waiting:
                self.flush()
            if perf_counter() - self._began > SHORT:
                # What is shorter is not even counted: this is done for each read of each connection.
                self.handlers.note(perf_counter() - self._began)
        self._depth -= 1

    @property
    def crowded(self) -> bool:
        """Whether somebody is behind with its work."""
        return bool(self._behind)

    def later(self, who: Worker) -> None:
        """``who`` has work left for another turn."""
        self._behind.append(who)
        if len(self._behind) == 1:
            self._clock.callLater(0, self._catch_up)

    def _catch_up(self) -> None:
        """Let those go on who are behind, a slice for each in turn."""
        behind = self._behind
        until = self.stopwatch() + TURN_SECONDS
        while behind:
            who = behind[0]
            left = False
            self.enter()
            try:
                left = who.go_on()
            except Exception:
                log.failure("the work of {who!r} could not be done", who=who)
            finally:
                self.leave()
            behind.popleft()
            if left:
                behind.append(who)
            if self.stopwatch() >= until:
                break
        if behind:
            self._clock.callLater(0, self._catch_up)

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
        self.enter()
        self.leave()
