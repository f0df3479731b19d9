"""The reporter of a Frontier: tells Frontlas who is here, and tells it again after every gap.

It never stands in the way of a peer: events of peers go into a table, in which a newer event of the same peer takes
the place of an older one, and leave it in batches, with a bounded number of calls under way. After each connect, and
after each report that was not taken, the whole truth is told again, paced.
"""

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.atlas.messages import (
    EDGE_HEARTBEAT,
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
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.presence import IPresenceListener
from frontier_tx.switch.repository import Repository
from frontier_tx.timers import Alarms
from frontier_tx.wire.outlet import Outlet

#: Time between two steps of the report, and how many events a Frontlas without batches gets in each (2000 a second).
STEP = 0.05
EVENTS_PER_STEP = 100
BATCHES_UNDER_WAY = 4
#: Bytes of texts in one batch, metadata of services above all: far below what a frame may carry.
BATCH_BYTES = 262_144
CALLS_UNDER_WAY = 512
#: Events that may wait; beyond that, telling everything again is shorter.
WAITING_AT_MOST = 200_000
#: How long to wait for the first announced method before taking Frontlas for one without extensions.
ANNOUNCE_SECONDS = 1.0
#: Pauses between attempts, each times 0.5 to 1.5: a Frontlas that is back hears from everybody within 20 s, the time
#: between two heartbeats, and before it takes leases that nobody could renew for ended.
FIRST_DELAY, LAST_DELAY = 1.0, 12.0
#: A link that lasted so long was a good one: the next loss is news, and tried again at once.
STEADY_SECONDS = 10.0
#: How long a Frontier that leaves goes on telling what still waits.
PARTING_SECONDS = 5.0
#: Different troubles that are named before all is well again.
SAID_AT_MOST = 100
#: What Frontlas says to a second Frontier with an id that is in use.
ID_TAKEN = "frontier already set"

_Key = tuple[bool, int]


class LinkState(Enum):
    """Where the link stands, for readiness and metrics."""

    DOWN = "down"
    UP = "up"


class _Link(AtlasClientProtocol):
    """The link; tells the reporter what happens on it."""

    reporter: "Reporter"

    def connection_ready(self) -> None:
        self.reporter.transports += 1
        assert self.transport is not None
        host = getattr(self.transport.getHost(), "host", "")
        self._meta = self._meta.reached_at(host.removeprefix("::ffff:") if "." in host else host)
        super().connection_ready()

    def transport_gone(self) -> None:
        self.reporter.transport_gone()

    def up(self) -> None:
        self.reporter.link_up(self)

    def announced(self, method: str) -> None:
        self.reporter.link_announced(self)

    def down(self, reason: str) -> None:
        self.reporter.link_down(self, reason)


class _OneLink(Factory):
    """Gives an endpoint the link that is to be connected."""

    noisy = False

    def __init__(self, link: _Link) -> None:
        self._link = link

    def buildProtocol(self, addr: Any) -> _Link:
        return self._link


@implementer(IPresenceListener)
class Reporter:
    """Reports the peers of a repository to Frontlas.

    :param endpoints: where Frontlas listens; all are tried in turn.
    :param meta: who this Frontier is; the attribute may be set until ``start``.
    :param addresses: the endpoints' addresses, for the log.
    :param stats_every: seconds between two reports of the numbers of edges and services, None for no such reports.
        Frontlas counts by itself; the one of the other implementation shows what it is told.
    :param wall_clock: Unix seconds, as in the times at which peers came.
    :param id_taken: called when Frontlas refuses this Frontier because its id is in use, unless it was accepted before.
    """

    log = Logger(namespace="frontier.atlas")

    def __init__(
        self,
        repository: Repository,
        endpoints: list[IStreamClientEndpoint],
        meta: FrontierMeta,
        clock: IReactorTime,
        alarms: Alarms,
        outlet: Outlet,
        jitter: Callable[[], float] = random.random,
        *,
        addresses: Sequence[str] = (),
        stats_every: float | None = None,
        id_taken: Callable[[], None] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.state = LinkState.DOWN
        #: Why Frontlas cannot be reached or refuses, empty while the link is up.
        self.trouble = "not connected yet"
        self.reported = 0
        self.failed = 0
        #: Transports that are not closed yet; that of an earlier link may still be at it.
        self.transports = 0
        self._repository = repository
        self._endpoints = endpoints
        self._addresses = addresses
        self.meta = meta
        self._clock = clock
        self._alarms = alarms
        self._outlet = outlet
        self._jitter = jitter
        self._id_taken = id_taken
        self._wall_clock = wall_clock
        self._link: _Link | None = None
        self._connecting: Deferred[Any] | None = None
        self._next_endpoint = 0
        self._delay = FIRST_DELAY
        self._again_delay = FIRST_DELAY
        self._up_since = clock.seconds()
        self._accepted = False
        #: What the log has said already about this gap, and about reports that were not taken.
        self._said_of_link: set[str] = set()
        self._said_of_reports: set[str] = set()
        self._retry: IDelayedCall | None = None
        self._announce: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._parting: IDelayedCall | None = None
        self._waiting: dict[_Key, PeerEvent] = {}
        self._truth: Iterator[Leg] | None = None
        self._syncing = False
        #: Whether all of the present report was taken so far.
        self._taken = True
        self._batches = False
        self._under_way = 0
        self._told_at = float("-inf")
        self._running = False
        self._closed: Deferred[None] | None = None
        self._loop = LoopingCall(self._step)
        self._loop.clock = clock
        self._stats_every = stats_every
        self._stats = LoopingCall(self._tell_stats)
        self._stats.clock = clock

    # -- starting and stopping ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; a Frontlas that is away is tried again for ever."""
        self._running = True
        self._connect()

    def stop(self) -> "Deferred[None]":
        """Tell what still waits, at most ``PARTING_SECONDS``, and close the link in order; fires when it is closed."""
        self._running = False
        for call in (self._retry, self._announce, self._again):
            _cancel(call)
        if self._closed is not None:
            return self._closed
        self._closed = Deferred()
        if self._link is None or self.state is LinkState.DOWN:
            self._part()
        else:
            self._truth = None
            self._parting = self._clock.callLater(PARTING_SECONDS, self._part)
            if not self._loop.running:
                self._loop.start(STEP, now=True)
        return self._closed

    def _part(self) -> None:
        _cancel(self._parting)
        if self._loop.running:
            self._loop.stop()
        if self._link is None:
            self._ended()
        elif self._connecting is not None:
            self._connecting.cancel()
        elif self.state is LinkState.DOWN:
            # It has not come about yet: nobody is there to say goodbye to.
            self._link.abort("this Frontier stops")
        else:
            self._link.close()

    def _ended(self) -> None:
        if self._closed is not None and not self._closed.called and not self.transports:
            self._closed.callback(None)

    def transport_gone(self) -> None:
        """A transport is closed; where it says a goodbye of its own, some time after the link is down."""
        self.transports -= 1
        if self._link is None:
            self._ended()

    @property
    def waiting(self) -> int:
        """Events that wait to be told; at most one per peer."""
        return len(self._waiting)

    def _connect(self) -> None:
        number = self._next_endpoint % len(self._endpoints)
        self._next_endpoint += 1
        link = _Link(self.meta, self._alarms, self._outlet)
        link.reporter = self
        self._link = link
        connecting: Deferred[Any] = self._endpoints[number].connect(_OneLink(link))
        self._connecting = connecting
        connecting.addCallbacks(self._connected, self._unreachable, errbackArgs=(link, number))

    def _connected(self, _protocol: object) -> None:
        self._connecting = None

    def _unreachable(self, failure: Failure, link: _Link, number: int) -> None:
        self._connecting = None
        where = f"{self._addresses[number]} " if number < len(self._addresses) else ""
        self.link_down(link, f"{where}cannot be reached ({_cause(failure)}): start it or correct frontlas.dial.addrs")

    def link_down(self, link: _Link, reason: str) -> None:
        """The link ended, or did not come about: try again after a while."""
        if link is not self._link:
            return
        now = self._clock.seconds()
        if self.state is LinkState.UP and now - self._up_since >= STEADY_SECONDS:
            self._delay = FIRST_DELAY
            self._said_of_link.clear()
        self._link = None
        self.state = LinkState.DOWN
        self._truth = None
        self._under_way = 0
        for call in (self._announce, self._again):
            _cancel(call)
        for loop in (self._loop, self._stats):
            if loop.running:
                loop.stop()
        if not self._running:
            self._part()
            return
        reason = reason or "it said goodbye"
        self.trouble = reason
        self._say(f"Frontlas: {reason}", self._said_of_link)
        if self.trouble == ID_TAKEN and not self._accepted and self._id_taken is not None:
            self._id_taken()
        self._retry = self._clock.callLater(self._delay * (0.5 + self._jitter()), self._connect)
        self._delay = min(LAST_DELAY, self._delay * 2)

    def _say(self, what: str, said: set[str]) -> None:
        """Name trouble once, however often it is met before all was well again."""
        if what not in said and len(said) < SAID_AT_MOST:
            said.add(what)
            self.log.error("{what}; edges and services go on, and are reported when it is well", what=what)

    def link_up(self, link: _Link) -> None:
        """Frontlas accepted: wait a moment for what it announces, then tell everything."""
        self.state = LinkState.UP
        self.trouble = ""
        self._up_since = self._clock.seconds()
        self._accepted = True
        self._batches = False
        self.log.info("Frontlas: link is up")
        self._announce = self._clock.callLater(ANNOUNCE_SECONDS, self._begin, link)

    def link_announced(self, link: _Link) -> None:
        """A method came: those of this implementation announce their extensions first."""
        if self._announce is not None and self._announce.active() and link.methods.issuperset(EXTENSIONS):
            self._announce.cancel()
            self._begin(link)

    # -- what is to be told -------------------------------------------------------------------------------

    def online(self, leg: Leg) -> None:
        """See IPresenceListener."""
        if self.state is LinkState.UP:
            self._note(leg, EDGE_ONLINE if leg.is_edge else SERVICE_ONLINE)
        else:
            self._waiting.pop((leg.is_edge, leg.id), None)

    def offline(self, leg: Leg) -> None:
        """See IPresenceListener."""
        # Noted in a gap as well: a Frontlas without complete reports would not notice that the peer is gone.
        self._note(leg, EDGE_OFFLINE if leg.is_edge else SERVICE_OFFLINE)

    def heartbeat(self, leg: Leg) -> None:
        """Only a Frontlas without leases on Frontiers needs to hear of each heartbeat."""
        if self.state is LinkState.UP and not self._batches:
            self._waiting.setdefault((leg.is_edge, leg.id), self._event(leg, _HEARTBEAT[leg.is_edge]))

    def _note(self, leg: Leg, method: str) -> None:
        key = (leg.is_edge, leg.id)
        # Taken out and put in again: the newest event of a peer is told last, and only it is told.
        self._waiting.pop(key, None)
        if len(self._waiting) >= WAITING_AT_MOST:
            self._waiting.clear()
            if self._link is not None and self.state is LinkState.UP:
                self._tell_again(self._link)
        self._waiting[key] = self._event(leg, method)
        if self._loop.running and self._clock.seconds() >= self._told_at + STEP:
            # After a quiet moment news need not wait for the next step; what comes right behind gathers for it.
            self._step()

    def _event(self, leg: Leg, method: str, age: int = 0) -> PeerEvent:
        # No other event carries the meta, and thousands that wait would keep as many.
        service = leg.meta.decode("utf-8", "replace") if method == SERVICE_ONLINE else ""
        return PeerEvent(method, leg.id, self.meta.frontier_id, leg.address, service, age)

    def _repetition(self, leg: Leg) -> PeerEvent:
        """That a peer is here, as part of the whole truth."""
        age = max(0, int(self._wall_clock() - leg.since)) if self._batches else 0
        return self._event(leg, EDGE_ONLINE if leg.is_edge else SERVICE_ONLINE, age)

    # -- telling ------------------------------------------------------------------------------------------

    def _begin(self, link: _Link) -> None:
        """Tell the whole truth, services first; what changes meanwhile is told behind it."""
        self._batches = link.methods.issuperset(EXTENSIONS)
        self._taken = True
        ends = (EDGE_OFFLINE, SERVICE_OFFLINE)
        # A complete report implies who is gone, any other does not.
        self._waiting = {} if self._batches else {k: e for k, e in self._waiting.items() if e.method in ends}
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
                    self._end_sync()
            elif leg.online:
                taken.append(self._repetition(leg))
                room -= len(taken[-1].service)
        if self._truth is None and self._waiting:
            # Looked up together: the first entry gets dearer with each that was deleted before it.
            for key in list(islice(self._waiting, most - len(taken))):
                if room <= 0:
                    break
                taken.append(self._waiting.pop(key))
                room -= len(taken[-1].service)
        return taken

    def _end_sync(self) -> None:
        self._syncing = False
        self._call(SYNC_END, b"{}", 0)

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
        calling: Deferred[Any] = link.call(method, value)
        calling.addCallbacks(lambda _: self._told(method, events), self._not_told)
        calling.addBoth(lambda _: self._answered(link))

    def _told(self, method: str, events: int) -> None:
        self.reported += events
        if method == SYNC_END and self._taken:
            self._again_delay = FIRST_DELAY
            self._said_of_reports.clear()

    def _not_told(self, failure: Failure) -> None:
        self.failed += 1
        self._taken = False
        link = self._link
        if self._running and link is not None and link.connection.connected:
            self._say(f"Frontlas does not take reports ({failure.getErrorMessage()})", self._said_of_reports)
            self._tell_again(link)

    def _tell_again(self, link: _Link) -> None:
        """Tell the whole truth again, a little later."""
        if not _active(self._again):
            self._again = self._clock.callLater(self._again_delay * (0.5 + self._jitter()), self._begin, link)
            self._again_delay = min(LAST_DELAY, self._again_delay * 2)

    def _answered(self, link: _Link) -> None:
        if link is self._link:
            self._under_way -= 1


def _active(call: IDelayedCall | None) -> bool:
    return call is not None and bool(call.active())


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()


def _cause(failure: Failure) -> str:
    if isinstance(failure.value, ConnectError) and isinstance(failure.value.osError, int):
        return os.strerror(failure.value.osError).lower()
    return failure.getErrorMessage().rstrip(".") or failure.type.__name__ if failure.type else ""


_HEARTBEAT = {True: EDGE_HEARTBEAT, False: SERVICE_HEARTBEAT}
