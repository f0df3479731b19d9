"""What a Frontier tells Frontlas: the whole truth after each gap, then what changes, in batches.

It never stands in the way of a peer: events of peers go into a table, in which a newer event of the same peer takes
the place of an older one, and leave it in batches, with a bounded number of calls under way.
"""

import random
import time
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import islice

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.atlas.messages import (
    EDGE_HEARTBEAT,
    EDGE_META_BYTES,
    EDGE_OFFLINE,
    EDGE_ONLINE,
    EVENTS,
    EVENTS_AT_MOST,
    EXTENSIONS,
    FRONTIER_STATS,
    SERVICE_HEARTBEAT,
    SERVICE_OFFLINE,
    SERVICE_ONLINE,
    SYNC_BEGIN,
    SYNC_END,
    FrontierMeta,
    PeerEvent,
    encode_events,
    encode_stats,
)
from frontier_tx.atlas.protocols import AtlasClientProtocol
from frontier_tx.backoff import Backoff, Retry
from frontier_tx.runtime.lograte import Troubles
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.presence import IPresenceListener
from frontier_tx.switch.repository import Repository

#: Time between two steps of the report, and how many events a Frontlas without batches gets in each (2000 a second).
STEP = 0.05
EVENTS_PER_STEP = 100
BATCHES_UNDER_WAY = 4
#: Bytes of texts in one batch, metadata of services above all: far below what a frame may carry.
BATCH_BYTES = 262_144
CALLS_UNDER_WAY = 512
#: Events that may wait; beyond that, telling everything again is shorter.
WAITING_AT_MOST = 200_000
#: Pauses before a truth that was not taken is told again.
TOLD_AGAIN = Backoff(first=1.0, most=12.0, steady=0.0)


class LinkState(Enum):
    """Where the link stands, for readiness and metrics."""

    DOWN = "down"
    UP = "up"


@implementer(IPresenceListener)
class Telling:
    """What is told over a link, whoever keeps it (a base of the reporter). Parameters: see ``Reporter``."""

    log = Logger(namespace="frontier.atlas")

    def __init__(
        self,
        repository: Repository,
        meta: FrontierMeta,
        clock: IReactorTime,
        chance: Callable[[], float] = random.random,
        stats_every: float | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.state = LinkState.DOWN
        self.meta = meta
        self.reported = 0
        #: When Frontlas took the last of them, in Unix seconds; 0 before.
        self.reported_at = 0.0
        self.failed = 0
        self._repository = repository
        self._clock = clock
        self._wall_clock = wall_clock
        self._link: AtlasClientProtocol | None = None
        self._running = False
        #: What waits to be told of a peer: the one that came, or the method that says what else happened.
        self._waiting: dict[tuple[bool, int], Leg | str] = {}
        self._truth: Iterator[Leg] | None = None
        self._syncing = False
        #: Whether all of the present report was taken so far.
        self._taken = True
        self._batches = False
        self._under_way = 0
        self._told_at = float("-inf")
        self._again = Retry(TOLD_AGAIN, clock, self._begin, chance)
        self._untaken = Troubles()
        self._loop = LoopingCall(self._step)
        self._loop.clock = clock
        self._stats_every = stats_every
        self._stats = LoopingCall(self._tell_stats)
        self._stats.clock = clock

    @property
    def waiting(self) -> int:
        """Events that wait to be told; at most one per peer."""
        return len(self._waiting)

    def _part(self) -> None:
        """All was told before a stop, or the time for it is over."""

    def _name(self, what: str, troubles: Troubles) -> None:
        """Name trouble once, however often it is met before all was well again."""
        if troubles.is_new(what):
            self.log.error("{what}; edges and services go on, and are reported when it is well", what=what)

    # -- what is to be told -------------------------------------------------------------------------------

    def online(self, leg: Leg) -> None:
        """See IPresenceListener."""
        if self.state is LinkState.UP:
            self._note(leg, leg)
        else:
            self._waiting.pop((leg.is_edge, leg.id), None)

    def offline(self, leg: Leg) -> None:
        """See IPresenceListener."""
        # Noted in a gap as well: a Frontlas without complete reports would not notice that the peer is gone.
        self._note(leg, EDGE_OFFLINE if leg.is_edge else SERVICE_OFFLINE)

    def heartbeat(self, leg: Leg) -> None:
        """Only a Frontlas without leases on Frontiers needs to hear of each heartbeat."""
        if self.state is LinkState.UP and not self._batches:
            self._waiting.setdefault((leg.is_edge, leg.id), EDGE_HEARTBEAT if leg.is_edge else SERVICE_HEARTBEAT)

    def _note(self, leg: Leg, what: Leg | str) -> None:
        key = (leg.is_edge, leg.id)
        # Taken out and put in again: the newest event of a peer is told last, and only it is told.
        self._waiting.pop(key, None)
        if len(self._waiting) >= WAITING_AT_MOST:
            self._waiting.clear()
            if self.state is LinkState.UP and not self._again.waiting:
                self._again.later()
        self._waiting[key] = what
        if self._loop.running and self._clock.seconds() >= self._told_at + STEP:
            # After a quiet moment news need not wait for the next step; what comes right behind gathers for it.
            self._step()

    def _here(self, leg: Leg, age: int = 0) -> PeerEvent:
        """That a peer came, or is here since ``age`` seconds."""
        method = EDGE_ONLINE if leg.is_edge else SERVICE_ONLINE
        service = meta = ""
        if not leg.is_edge:
            service = leg.meta.decode("utf-8", "replace")
        elif self._batches:
            meta = leg.meta[:EDGE_META_BYTES].decode("utf-8", "replace")
        return PeerEvent(method, leg.id, self.meta.frontier_id, leg.address, service, age, meta)

    # -- telling ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Tell the whole truth, services first; what changes meanwhile is told behind it."""
        link = self._link
        if link is None or self.state is LinkState.DOWN:
            return
        self._batches = link.methods.issuperset(EXTENSIONS)
        self._taken = True
        ends = (EDGE_OFFLINE, SERVICE_OFFLINE)
        # A complete report implies who is gone, any other does not.
        self._waiting = {} if self._batches else {key: what for key, what in self._waiting.items() if what in ends}
        repository = self._repository
        self._truth = iter([*repository.services.values(), *repository.edges.values()])
        self._syncing = self._batches
        if self._syncing:
            self._call(SYNC_BEGIN, b"{}", 0)
        if not self._loop.running:
            self._loop.start(STEP, now=True)
        if self._stats_every is not None and not self._stats.running:
            self._stats.start(self._stats_every, now=True)

    def _step(self) -> None:
        if self._batches:
            while self._under_way < BATCHES_UNDER_WAY and (events := self._take(EVENTS_AT_MOST)):
                self._call(EVENTS, encode_events(events), len(events))
        elif self._under_way < CALLS_UNDER_WAY:
            for event in self._take(EVENTS_PER_STEP):
                self._call(event.method, event.encode(), 1)
        if not self._running and not self._waiting and not self._under_way:
            self._part()

    def _take(self, most: int) -> list[PeerEvent]:
        """The next events: first the truth, to its end, then what has changed since."""
        taken: list[PeerEvent] = []
        room = BATCH_BYTES
        while self._truth is not None and len(taken) < most and room > 0:
            leg = next(self._truth, None)
            if leg is None:
                if taken:
                    # What ends a complete report must not overtake it.
                    self._truth = iter(())
                    return taken
                self._truth = None
                if self._syncing:
                    self._syncing = False
                    self._call(SYNC_END, b"{}", 0)
            elif leg.online:
                age = max(0, int(self._wall_clock() - leg.since)) if self._batches else 0
                taken.append(self._here(leg, age))
                room -= len(taken[-1].service) + len(taken[-1].meta)
        if self._truth is None and self._waiting:
            # Looked up together: the first entry gets dearer with each that was deleted before it.
            for key in list(islice(self._waiting, most - len(taken))):
                if room <= 0:
                    break
                what = self._waiting.pop(key)
                if isinstance(what, str):
                    taken.append(PeerEvent(what, key[1], self.meta.frontier_id))
                else:
                    taken.append(self._here(what))
                    room -= len(taken[-1].service) + len(taken[-1].meta)
        return taken

    def _tell_stats(self) -> None:
        repository = self._repository
        counts = encode_stats(self.meta.frontier_id, len(repository.edges), len(repository.services))
        self._call(FRONTIER_STATS, counts, 0)

    def _call(self, method: str, value: bytes, events: int) -> None:
        link = self._link
        if link is None:
            return
        self._under_way += 1
        self._told_at = self._clock.seconds()
        link.call(method, value).addBoth(self._answered, link, method, events)

    def _answered(self, outcome: bytes | Failure, link: AtlasClientProtocol, method: str, events: int) -> None:
        if link is self._link:
            self._under_way -= 1
        if not isinstance(outcome, Failure):
            self.reported += events
            self.reported_at = self._wall_clock()
            if method == SYNC_END and self._taken:
                self._again.worked()
                self._untaken.over()
            return
        self.failed += 1
        self._taken = False
        if self._running and link is self._link and link.connection.connected:
            self._name(f"Frontlas does not take reports ({outcome.getErrorMessage()})", self._untaken)
            if not self._again.waiting:
                self._again.later()
