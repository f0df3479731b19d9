"""Back-pressure of streams: a sender without credit is stopped while its receiver is behind, but not at others' cost.

Without credit a sender can only be stopped as a whole, with all else that it sends. As long as nobody waits for
anything else of it, that costs nothing. Where somebody does, the time is taken from him: a receiver may take
``CAPACITY`` seconds, and ``LEAK`` of each second after that; all receivers of a sender together twice as much. Then
the streams of who took most are ended, and the sender goes on.
"""

from collections.abc import Callable
from itertools import islice

from frontier_tx.errors import ReceiverCongested
from frontier_tx.switch.legs import Leg, StreamEnd
from frontier_tx.switch.settings import Counters
from frontier_tx.timers import Timers

#: A receiver that has taken so many bytes, or half of what may wait, is no longer behind.
RELIEF = 1_048_576
#: Seconds that a receiver may take from others, and the part of each second that it gets back.
CAPACITY, LEAK = 3.0, 0.05
#: How often it is looked at who waits, in seconds: at first, and after a while.
LOOK, LOOK_LATER = 0.1, 1.0
#: A receiver that takes nothing at all for so long is dead: what its sender has to say itself counts from then on.
DEAD = 2.0
#: Who said something so many seconds ago has more to say.
TALKATIVE = 10.0
#: So many entries of a table are looked at.
MOST_SEEN = 512


class Mark:
    """How far a stream has come that stops its sender."""

    __slots__ = ("taken", "at")

    def __init__(self, taken: int, at: float) -> None:
        self.taken = taken
        self.at = at


class Debt:
    """Seconds taken, of which some are forgiven in each second."""

    __slots__ = ("level", "at")

    def __init__(self, at: float) -> None:
        self.level = 0.0
        self.at = at

    def take(self, seconds: float, leak: float, now: float) -> float:
        """Add to it; return what it is now."""
        self.level = max(0.0, self.level - leak * (now - self.at)) + seconds
        self.at = now
        return self.level


class Hold:
    """A sender that is stopped, or was: by whom, and what that took from others.

    :param look: looks at it when it is due.
    """

    __slots__ = ("source", "ends", "debts", "total", "since", "looked_at", "cleared_at", "tick", "_look")

    def __init__(self, source: Leg, look: "Callable[[Hold, float], None]", now: float) -> None:
        self.source = source
        #: The receivers' ends of streams that stop it now.
        self.ends: dict[StreamEnd, Mark] = {}
        #: What each receiver took from others, by its id: one that comes back owes what it owed.
        self.debts: dict[int, Debt] = {}
        self.total = Debt(now)
        self.since = now
        self.looked_at = now
        self.cleared_at = now
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self._look = look

    def fire(self, now: float) -> None:
        """Time to look who waits."""
        self._look(self, now)


class Pressure:
    """Stops and lets go.

    :param high: bytes of a stream that wait for its receiver from which on its sender is stopped.
    :param stall_seconds: a stream of which nothing is taken for so long, while it stops its sender, is ended.
    """

    def __init__(self, timers: Timers, counters: Counters, high: int, stall_seconds: float) -> None:
        self.high = high
        self.low = max(high - RELIEF, high // 2)
        #: Ends a stream at both legs, with this text.
        self.end_stream: Callable[[StreamEnd, str], None] = _ignore
        #: Told whose streams are ended.
        self.on_end: Callable[[Leg], None] = _ignore
        #: Sees whether raw bytes that wait for an end may go.
        self.look_again: Callable[[StreamEnd], None] = _ignore
        #: Who is stopped, or was.
        self.holds: dict[Leg, Hold] = {}
        self._timers = timers
        self._counters = counters
        self._stall_seconds = stall_seconds

    def stop(self, source: Leg, end: StreamEnd) -> None:
        """Read no more from ``source`` until ``end`` has taken a part of what waits for it."""
        if end.stops is not None:
            return
        now = self._timers.now()
        hold = self.holds.get(source)
        if hold is None:
            hold = self.holds[source] = Hold(source, self._look, now)
        if not hold.ends:
            hold.since = hold.looked_at = now
            # Many short stops would never be looked at.
            owes = hold.total.level >= CAPACITY or any(debt.level >= CAPACITY for debt in hold.debts.values())
            self._timers.schedule(hold, now if owes else now + LOOK)
            source.stopped = True
            source.transport.pause_reading()
        end.stops = source
        end.leg.congesting.add(end)
        hold.ends[end] = Mark(end.raw_taken, now)
        self._counters.throttled += 1

    def relieved(self, end: StreamEnd) -> None:
        """``end`` has taken a part of what waited, or is over."""
        source, end.stops = end.stops, None
        hold = self.holds.get(source) if source is not None else None
        if hold is None:
            return
        end.leg.congesting.discard(end)
        if hold.ends.pop(end, None) is not None and not hold.ends:
            self._timers.cancel(hold)
            self._charge(hold, self._timers.now())
            hold.source.stopped = False
            hold.source.transport.resume_reading()

    def forget(self, leg: Leg) -> None:
        """The leg is gone: it stops nobody, and nobody stops it."""
        for end in list(leg.congesting):
            self.relieved(end)
        hold = self.holds.get(leg)
        if hold is not None:
            for end in list(hold.ends):
                self.relieved(end)
            del self.holds[leg]

    # -- who waits ----------------------------------------------------------------------------------------

    def _look(self, hold: Hold, now: float) -> None:
        for end, mark in list(hold.ends.items()):
            # A whole connection that takes nothing is looked after where it is written to.
            if not end.raw_bytes or end.raw_ready or end.raw_taken != mark.taken:
                mark.taken, mark.at = end.raw_taken, now
            elif now - mark.at >= self._stall_seconds:
                self.end(end)
        self._charge(hold, now)
        self._judge(hold, now)
        for end in list(islice(hold.source.streams.values(), MOST_SEEN)):
            # What it would answer for cannot be heard while it is not read from.
            if end.pace is not None:
                self.look_again(end)
        if hold.ends:
            self._timers.schedule(hold, now + (LOOK if now - hold.since < LOOK_LATER else LOOK_LATER / 2))

    def _charge(self, hold: Hold, now: float) -> None:
        """Write down what was taken from others since the last look."""
        seconds, hold.looked_at = now - hold.looked_at, now
        if not hold.ends or seconds <= 0:
            return
        waiting = self._waiting_for(hold.source, now)
        if now - hold.cleared_at > TALKATIVE:
            hold.cleared_at = now
            for end in islice(hold.source.streams.values(), MOST_SEEN):
                end.fresh = False
        talks = hold.source.spoke_at > hold.since - TALKATIVE
        charged = False
        for target in {end.leg for end in hold.ends}:
            alone = all(one is target for one in waiting)
            if alone and talks and not hold.source.is_edge:
                alone = False
            elif alone and talks:
                alone = not any(now - mark.at >= DEAD for end, mark in hold.ends.items() if end.leg is target)
            if alone:
                continue
            charged = True
            debt = hold.debts.get(target.id)
            if debt is None:
                debt = hold.debts[target.id] = Debt(now)
            debt.take(seconds, LEAK, now)
        hold.total.take(seconds if charged else 0.0, 2 * LEAK, now)
        for paid in [number for number, debt in hold.debts.items() if debt.take(0.0, LEAK, now) == 0.0]:
            del hold.debts[paid]

    @staticmethod
    def _waiting_for(source: Leg, now: float) -> list[Leg | None]:
        """Some of those who wait for something of ``source``: two different ones, if there are; None for anybody."""
        found: list[Leg | None] = []
        seen = 0
        for pending in islice(source.pending.values(), MOST_SEEN):
            seen += 1
            who = pending.sender
            if who not in found:
                found.append(who)
                if len(found) == 2:
                    return found
        if seen == MOST_SEEN:
            return [*found, None]
        seen = 0
        for end in islice(source.streams.values(), MOST_SEEN):
            seen += 1
            far = end.other
            # One for which nothing waits here, while there was something lately.
            if far is not None and end.fresh and not far.raw_bytes and far.leg not in found:
                found.append(far.leg)
                if len(found) == 2:
                    return found
        return [*found, None] if seen == MOST_SEEN else found

    def _judge(self, hold: Hold, now: float) -> None:
        """End the streams of those who took too much."""
        stopping = {end.leg.id for end in hold.ends}
        debts = {number: debt.level for number, debt in hold.debts.items() if number in stopping}
        if not debts:
            return
        together = hold.total.level >= 2 * CAPACITY
        least = max(debts.values()) / 2
        for end in list(hold.ends):
            level = debts.get(end.leg.id, 0.0)
            if level >= CAPACITY or (together and level >= least):
                self.end(end)

    def end(self, end: StreamEnd) -> None:
        """End a stream whose receiver does not take what comes for it."""
        self._counters.streams_congested += 1
        self.on_end(end.leg)
        self.end_stream(end, ReceiverCongested.text)
        # Whatever became of it, it stops nobody any more.
        self.relieved(end)


def _ignore(*_: object) -> None:
    pass
