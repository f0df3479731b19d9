"""The reporter of a Frontier: tells Frontlas who is here, and tells it again after every gap.

It never stands in the way of a peer: events of peers go into a table, in which a newer event of the same peer takes
the place of an older one, and leave it in batches, with a bounded number of calls under way. After each connect, and
after each report that was not taken, the whole truth is told again, paced.
"""

import random
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
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
    SERVICE_HEARTBEAT,
    SERVICE_OFFLINE,
    SERVICE_ONLINE,
    SYNC_BEGIN,
    SYNC_END,
    FrontierMeta,
    PeerEvent,
    encode_events,
)
from frontier_tx.atlas.protocols import AtlasClientProtocol
from frontier_tx.switch.leg import Leg
from frontier_tx.switch.presence import IPresenceListener
from frontier_tx.switch.repository import Repository
from frontier_tx.timers import Alarms
from frontier_tx.wire.outlet import Outlet

#: Time between two steps of the report, and how many events a Frontlas without batches gets in each (2000 a second).
STEP = 0.05
EVENTS_PER_STEP = 100
BATCHES_UNDER_WAY = 4
CALLS_UNDER_WAY = 512
#: How long to wait for the first announced method before taking Frontlas for one without extensions.
ANNOUNCE_SECONDS = 1.0
FIRST_DELAY, LAST_DELAY = 1.0, 30.0

_Key = tuple[bool, int]


class LinkState(Enum):
    """Where the link stands, for readiness and metrics."""

    DOWN = "down"
    UP = "up"


class _Link(AtlasClientProtocol):
    """The link; tells the reporter what happens on it."""

    reporter: "Reporter"

    def up(self) -> None:
        self.reporter.link_up(self)

    def announced(self, method: str) -> None:
        self.reporter.link_announced(self)

    def down(self, reason: str) -> None:
        self.reporter.link_down(self, reason)


@implementer(IPresenceListener)
class Reporter:
    """Reports the peers of a repository to Frontlas.

    :param endpoints: where Frontlas listens; all are tried in turn.
    :param meta: who this Frontier is.
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
    ) -> None:
        self.state = LinkState.DOWN
        #: Why Frontlas cannot be reached or refuses, empty while the link is up.
        self.trouble = "not connected yet"
        self.reported = 0
        self.failed = 0
        self._repository = repository
        self._endpoints = endpoints
        self._meta = meta
        self._clock = clock
        self._alarms = alarms
        self._outlet = outlet
        self._jitter = jitter
        self._link: _Link | None = None
        self._next_endpoint = 0
        self._delay = FIRST_DELAY
        self._retry: IDelayedCall | None = None
        self._announce: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._waiting: dict[_Key, PeerEvent] = {}
        self._truth: Iterator[Leg] | None = None
        self._syncing = False
        self._under_way = 0
        self._running = False
        self._loop = LoopingCall(self._step)
        self._loop.clock = clock

    # -- starting and stopping ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; a Frontlas that is away is tried again for ever."""
        self._running = True
        self._connect()

    def stop(self) -> "Deferred[None]":
        """Close the link in order; what is still waiting to be told is given up."""
        self._running = False
        for call in (self._retry, self._announce, self._again):
            if call is not None and call.active():
                call.cancel()
        self._closed: Deferred[None] = Deferred()
        if self._link is None:
            self._closed.callback(None)
        else:
            self._link.close()
        return self._closed

    @property
    def waiting(self) -> int:
        """Events that wait to be told; at most one per peer."""
        return len(self._waiting)

    def _connect(self) -> None:
        endpoint = self._endpoints[self._next_endpoint % len(self._endpoints)]
        self._next_endpoint += 1
        link = _Link(self._meta, self._alarms, self._outlet)
        link.reporter = self
        self._link = link
        connecting: Deferred[Any] = connectProtocol(endpoint, link)  # type: ignore[no-untyped-call]
        connecting.addErrback(self._unreachable, link)

    def _unreachable(self, failure: Failure, link: _Link) -> None:
        self.link_down(link, failure.getErrorMessage())

    def link_down(self, link: _Link, reason: str) -> None:
        """The link ended, or did not come about: try again after a while."""
        if link is not self._link:
            return
        self._link = None
        self.state = LinkState.DOWN
        self._truth = None
        self._under_way = 0
        for call in (self._announce, self._again):
            if call is not None and call.active():
                call.cancel()
        if self._loop.running:
            self._loop.stop()
        if not self._running:
            if hasattr(self, "_closed") and not self._closed.called:
                self._closed.callback(None)
            return
        if reason != self.trouble:
            # Named once; as long as it stays the same it is not said again.
            self.log.error("Frontlas: {why}; edges and services go on, and are reported when it is back", why=reason)
        self.trouble = reason
        self._retry = self._clock.callLater(self._delay * (0.5 + self._jitter()), self._connect)
        self._delay = min(LAST_DELAY, self._delay * 2)

    def link_up(self, link: _Link) -> None:
        """Frontlas accepted: wait a moment for what it announces, then tell everything."""
        self.state = LinkState.UP
        self.trouble = ""
        self._delay = FIRST_DELAY
        self.log.info("Frontlas: link is up")
        self._announce = self._clock.callLater(ANNOUNCE_SECONDS, self._begin, link)

    def link_announced(self, link: _Link) -> None:
        """A method came: those of this implementation announce their extensions first."""
        if self._announce is not None and self._announce.active() and link.methods.issuperset(EXTENSIONS):
            self._announce.cancel()
            self._begin(link)

    @property
    def _batches(self) -> bool:
        return self._link is not None and self._link.methods.issuperset(EXTENSIONS)

    # -- what is to be told -------------------------------------------------------------------------------

    def online(self, leg: Leg) -> None:
        """See IPresenceListener."""
        self._note(leg, EDGE_ONLINE if leg.is_edge else SERVICE_ONLINE)

    def offline(self, leg: Leg) -> None:
        """See IPresenceListener."""
        self._note(leg, EDGE_OFFLINE if leg.is_edge else SERVICE_OFFLINE)

    def heartbeat(self, leg: Leg) -> None:
        """Only a Frontlas without leases on Frontiers needs to hear of each heartbeat."""
        if self.state is LinkState.UP and not self._batches:
            self._waiting.setdefault((leg.is_edge, leg.id), self._event(leg, _HEARTBEAT[leg.is_edge]))

    def _note(self, leg: Leg, method: str) -> None:
        if self.state is LinkState.UP:
            key = (leg.is_edge, leg.id)
            # Taken out and put in again: the newest event of a peer is told last, and only it is told.
            self._waiting.pop(key, None)
            self._waiting[key] = self._event(leg, method)

    def _event(self, leg: Leg, method: str) -> PeerEvent:
        service = "" if leg.is_edge else leg.meta.decode("utf-8", "replace")
        return PeerEvent(method, leg.id, self._meta.frontier_id, leg.address, service)

    # -- telling ------------------------------------------------------------------------------------------

    def _begin(self, link: _Link) -> None:
        """Tell the whole truth, services first; what changes meanwhile is told behind it."""
        self._waiting.clear()
        repository = self._repository
        self._truth = iter([*repository.services.values(), *repository.edges.values()])
        self._syncing = self._batches
        if self._syncing:
            self._call(SYNC_BEGIN, b"{}", 0)
        if not self._loop.running:
            self._loop.start(STEP, now=True)

    def _step(self) -> None:
        if self._batches:
            while self._under_way < BATCHES_UNDER_WAY and (events := self._take(EVENTS_AT_MOST)):
                self._call(EVENTS, encode_events(events), len(events))
        elif self._under_way < CALLS_UNDER_WAY:
            for event in self._take(EVENTS_PER_STEP):
                self._call(event.method, event.encode(), 1)

    def _take(self, most: int) -> list[PeerEvent]:
        taken: list[PeerEvent] = []
        while self._truth is not None and len(taken) < most:
            leg = next(self._truth, None)
            if leg is None:
                self._truth = None
                if self._syncing and not taken:
                    self._end_sync()
            elif leg.online:
                taken.append(self._event(leg, EDGE_ONLINE if leg.is_edge else SERVICE_ONLINE))
        if self._truth is None and self._syncing and taken:
            self._truth = iter(())
            return taken
        while self._waiting and len(taken) < most:
            taken.append(self._waiting.pop(next(iter(self._waiting))))
        return taken

    def _end_sync(self) -> None:
        self._syncing = False
        self._call(SYNC_END, b"{}", 0)

    def _call(self, method: str, value: bytes, events: int) -> None:
        link = self._link
        if link is None:
            return
        self._under_way += 1
        calling: Deferred[Any] = link.call(method, value)
        calling.addCallbacks(lambda _: self._told(events), lambda failure: self._not_told(failure, method))
        calling.addBoth(lambda _: self._answered(link))

    def _told(self, events: int) -> None:
        self.reported += events

    def _not_told(self, failure: Failure, method: str) -> None:
        self.failed += 1
        link = self._link
        if self._running and link is not None and link.connection.connected and not _active(self._again):
            why = failure.getErrorMessage()
            self.log.warn(
                "Frontlas did not take {method}: {why}; everything is told again in {delay:.0f} s",
                method=method,
                why=why,
                delay=self._delay,
            )
            self._again = self._clock.callLater(self._delay * (0.5 + self._jitter()), self._begin, link)
            self._delay = min(LAST_DELAY, self._delay * 2)

    def _answered(self, link: _Link) -> None:
        if link is self._link:
            self._under_way -= 1


def _active(call: IDelayedCall | None) -> bool:
    return call is not None and bool(call.active())


_HEARTBEAT = {True: EDGE_HEARTBEAT, False: SERVICE_HEARTBEAT}
