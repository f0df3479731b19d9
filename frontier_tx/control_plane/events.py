"""``frontier.v1.Events``: who and what comes and goes, as it happens.

Nothing is made while nobody reads. Each reader has a queue with a bound; one that is too slow misses what comes until
it has read what waits for it, and is told how much that was.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.event_stream import chosen_kinds
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.presence import IPresenceListener, Presence
from frontier_tx.switch.queries import text_of

KINDS = (
    "edge_online", "edge_offline", "service_online", "service_offline", "method_registered", "method_gone",
    "topic_listed", "topic_gone", "draining", "snapshot_end", "lost",
)  # fmt: skip
READERS = 200
"""Event streams at one time."""
QUEUED, QUEUED_BYTES = 2000, 1_048_576
"""Events that wait for one reader, and their bytes."""
NAMES = 100
"""Methods and topics of a peer that come or go with it and are told one by one; who lists more is asked for them."""
SLICE = 100
"""Records of a snapshot that are made in one go."""


class Reader:
    """What waits for one event stream."""

    def __init__(self, kinds: frozenset[str]) -> None:
        self.kinds = kinds
        self.lost = 0
        self._events: deque[Any] = deque()
        self._bytes = 0
        self._waiting: Deferred[None] | None = None

    def give(self, event: Any, size: int) -> bool:
        """One more event; returns False where it is too much."""
        if self.lost or len(self._events) >= QUEUED or self._bytes + size > QUEUED_BYTES:
            self.lost += 1
            return False
        self._events.append(event)
        self._bytes += size
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
        return True

    async def next(self, lost: Callable[[int], Any]) -> Any:
        """The next event; ``lost`` makes the one that stands for those that were missed."""
        while not self._events:
            if self.lost:
                missed, self.lost = self.lost, 0
                return lost(missed)
            self._waiting = Deferred()
            await self._waiting
        event = self._events.popleft()
        self._bytes -= event.ByteSize()
        return event


@implementer(IPresenceListener)
class EventFeed:
    """Makes events of what the switch tells, for those who read.

    :param wall_clock: Unix seconds.
    """

    def __init__(self, contract: Contract, presence: Presence, wall_clock: Callable[[], float]) -> None:
        self._event = contract.message("frontier.v1.Event")
        self._wall_clock = wall_clock
        self._number = 0
        self.readers: set[Reader] = set()
        #: Events that slow readers missed.
        self.lost = 0
        presence.listeners.append(self)
        presence.repository.on_method.append(self._method_registered)

    def open(self, kinds: frozenset[str]) -> Reader:
        """Begin to read; raises ``RpcError`` RESOURCE_EXHAUSTED when too many do."""
        if len(self.readers) >= READERS:
            raise RpcError(Status.RESOURCE_EXHAUSTED, f"{READERS} event streams are open, no more are taken")
        reader = Reader(kinds)
        self.readers.add(reader)
        return reader

    def close(self, reader: Reader) -> None:
        """Read no longer."""
        self.readers.discard(reader)

    def make(self, kind: str, **fields: Any) -> Any:
        """An event that is not for all."""
        return self._event(kind=kind, time=int(self._wall_clock()), **fields)

    def online(self, leg: Leg) -> None:
        if self.readers:
            self.tell("edge_online" if leg.is_edge else "service_online", **described(leg))
            for topic in leg.topics[:NAMES]:
                self.tell("topic_listed", service_id=leg.id, topic=topic)

    def offline(self, leg: Leg) -> None:
        if self.readers:
            for method in islice(leg.methods, NAMES):
                self.tell("method_gone", method=text_of(method), **whose(leg))
            for topic in leg.topics[:NAMES]:
                self.tell("topic_gone", service_id=leg.id, topic=topic)
            kind = "edge_offline" if leg.is_edge else "service_offline"
            self.tell(kind, reason=leg.end_reason, **described(leg))

    def heartbeat(self, leg: Leg) -> None:
        """Nobody wants to know."""

    def _method_registered(self, leg: Leg, method: bytes) -> None:
        if self.readers:
            self.tell("method_registered", method=text_of(method), **whose(leg))

    def tell(self, kind: str, **fields: Any) -> None:
        """Give an event to all who read its kind."""
        self._number += 1
        readers = [reader for reader in self.readers if kind in reader.kinds]
        if readers:
            event = self.make(kind, id=self._number, **fields)
            size = event.ByteSize()
            for reader in readers:
                self.lost += not reader.give(event, size)


def whose(leg: Leg) -> dict[str, int]:
    """The field that names a peer."""
    return {"edge_id" if leg.is_edge else "service_id": leg.id}


def described(leg: Leg) -> dict[str, Any]:
    """The fields that describe a peer."""
    own = {"meta": text_of(leg.meta)} if leg.is_edge else {"service": leg.name}
    return {"addr": leg.address, **whose(leg), **own}


class EventsService:
    """Answers ``Events`` from a feed."""

    def __init__(self, feed: EventFeed, presence: Presence) -> None:
        self._feed = feed
        self._repository = presence.repository

    async def watch(self, request: Any, context: CallContext) -> AsyncIterator[Any]:
        """Events from now on, with the state before them if asked for."""
        reader = self._feed.open(chosen_kinds(request.kinds, KINDS))
        try:
            if request.snapshot:
                for kind, table in (
                    ("edge_online", self._repository.edges),
                    ("service_online", self._repository.services),
                ):
                    legs = list(table.values()) if kind in reader.kinds else []
                    for number, leg in enumerate(legs):
                        if number and not number % SLICE:
                            await context.turn()
                        if leg.online:
                            yield self._feed.make(kind, **described(leg))
                yield self._feed.make("snapshot_end")
            while True:
                yield await reader.next(lambda count: self._feed.make("lost", count=count))
        finally:
            self._feed.close(reader)
