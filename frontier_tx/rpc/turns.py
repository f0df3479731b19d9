"""Shares the reactor's time among the connections of a port: first by address, then by connection.  Pure.

The lane that was served least comes next (start-time fair queuing, on two levels). So a newcomer with one
question goes before those who have sent a thousand at once, however many of them there are; and no turn of the reactor
is spent on one port alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from twisted.internet.defer import Deferred
from twisted.logger import Logger

log = Logger()

BUDGET = 0.005
"""Seconds of work in one turn of the reactor; a step that has begun is finished."""
LEAST = 2e-5
"""Seconds that each step counts at least, so that a turn ends even if the clock stands still."""
PER_BYTE = 1e-6
"""Seconds that each waiting byte adds to the start of its lane."""
LEAD = 0.016
"""Seconds of service by which an idle lane may be ahead of waiting ones."""
FORGIVEN = 0.25
"""Share of a processor up to which a connection that pauses goes before those that always want more."""
MOST = 0.02
"""Seconds that a step counts at most: what is longer was the whole process waiting for a processor."""

Work = Callable[[], None]


class _Group:
    """The lanes of one address; those with work are ordered by the service they had."""

    __slots__ = ("at", "busy", "clock", "lanes", "members", "name", "since")

    def __init__(self, name: str) -> None:
        self.name = name
        self.at = 0.0
        self.clock = 0.0
        self.since = 0.0
        self.busy = False
        self.members = 0
        self.lanes: list[tuple[float, int, Lane]] = []


class Lane:
    """The work of one connection, done in its order, a step at a time. Get one from ``Turns.lane``."""

    __slots__ = ("_turns", "at", "busy", "group", "since", "work")

    def __init__(self, turns: Turns, group: _Group) -> None:
        self._turns = turns
        self.group = group
        self.at = 0.0
        self.since = 0.0
        self.busy = False
        self.work: deque[Work] = deque()

    def ask(self, work: Work, waiting: int = 0) -> None:
        """Do ``work`` when it is this lane's turn: at once if nobody else waits, never inside of other work.

        Of lanes that begin, those go first for which fewer bytes are ``waiting``.
        """
        self._turns.ask(self, work, waiting)

    def turn(self) -> Deferred[None]:
        """Fires when it is this lane's turn, for work that goes on in slices. Cancelling gives the turn up."""
        waiter: Deferred[None] = Deferred()
        self.ask(lambda: None if waiter.called else waiter.callback(None))
        return waiter

    def close(self) -> None:
        """Drop what waits; the connection is over."""
        self._turns.forget(self)


class Turns:
    """Decides who is served next.

    ``seconds`` gives the time, ``later(0, work)`` calls in the next turn of the reactor. ``longest`` is the longest
    step so far in seconds, ``steps`` how many there were.
    """

    def __init__(
        self, seconds: Callable[[], float], later: Callable[[float, Work], object], budget: float = BUDGET
    ) -> None:
        self.longest = 0.0
        self.steps = 0
        self.waiting = 0
        self._seconds = seconds
        self._later = later
        self._budget = budget
        self._left = budget
        self._clock = 0.0
        self._order = count()
        self._armed = False
        self._running = False
        self._groups: dict[str, _Group] = {}
        self._due: list[tuple[float, int, _Group]] = []

    def lane(self, address: str) -> Lane:
        """A lane for a connection from this address, to be closed with it."""
        group = self._groups.get(address)
        if group is None:
            group = self._groups[address] = _Group(address)
        group.members += 1
        return Lane(self, group)

    def forget(self, lane: Lane) -> None:
        """See ``Lane.close``."""
        self.waiting -= len(lane.work)
        lane.work.clear()
        group = lane.group
        group.members -= 1
        if not group.members and self._groups.get(group.name) is group:
            del self._groups[group.name]

    def ask(self, lane: Lane, work: Work, waiting: int = 0) -> None:
        """See ``Lane.ask``."""
        lane.work.append(work)
        self.waiting += 1
        if not lane.busy:
            lane.busy = True
            group, now = lane.group, self._seconds()
            lane.at = _resumed(lane, group.clock, now) + waiting * PER_BYTE
            heappush(group.lanes, (lane.at, next(self._order), lane))
            if not group.busy:
                group.busy = True
                group.at = _resumed(group, self._clock, now)
                heappush(self._due, (group.at, next(self._order), group))
        if not self._armed:
            self._armed = True
            self._left = self._budget
            self._later(0, self._next_turn)
        if not self._running:
            self._run()

    def _next_turn(self) -> None:
        self._armed = False
        if self._due:
            self._armed = True
            self._left = self._budget
            self._later(0, self._next_turn)
            self._run()

    def _run(self) -> None:
        self._running = True
        try:
            while self._due and self._left > 0:
                _, _, group = heappop(self._due)
                _, _, lane = heappop(group.lanes)
                self._clock = max(self._clock, group.at)
                group.clock = max(group.clock, lane.at)
                cost = self._step(lane) if lane.work else 0.0
                self._left -= cost
                lane.at += cost
                group.at += cost
                lane.busy = bool(lane.work)
                if lane.busy:
                    heappush(group.lanes, (lane.at, next(self._order), lane))
                else:
                    lane.since = self._seconds()
                group.busy = bool(group.lanes)
                if group.busy:
                    heappush(self._due, (group.at, next(self._order), group))
                else:
                    group.since = lane.since
        finally:
            self._running = False

    def _step(self, lane: Lane) -> float:
        work = lane.work.popleft()
        self.waiting -= 1
        began = self._seconds()
        try:
            work()
        except Exception:
            # An error in the work of one connection must not stop the others.
            log.failure("serving a connection from {address} failed", address=lane.group.name)
        took = self._seconds() - began
        self.steps += 1
        self.longest = max(self.longest, took)
        return min(max(took, LEAST), MOST)


def _resumed(one: Lane | _Group, clock: float, now: float) -> float:
    """The position of a lane that was idle: debt is forgiven with time, and it gets a small lead."""
    owed = one.at - clock - FORGIVEN * (now - one.since)
    return clock + max(owed, -LEAD)
