"""Which queues take a topic, and how the exchange gives them a message."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from frontier_tx.queues.forwarder import Forwarder
from frontier_tx.queues.record import Record

#: Takes what no other queue and no service takes.
EVERYTHING_ELSE = "*"


class Queues:
    """The forwarders of a gateway by topic.

    :param to_all: whether all that take a topic get a message, or one of them.
    """

    def __init__(
        self, forwarders: Iterable[Forwarder] = (), to_all: bool = False, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.forwarders = tuple(forwarders)
        self.to_all = to_all
        self._wall_clock = wall_clock
        self._by_topic: dict[str, list[Forwarder]] = {}
        for forwarder in self.forwarders:
            for topic in dict.fromkeys(forwarder.topics):
                self._by_topic.setdefault(topic, []).append(forwarder)

    def __bool__(self) -> bool:
        return bool(self.forwarders)

    def of_topic(self, topic: str) -> list[Forwarder]:
        """Those that list exactly this topic."""
        return self._by_topic.get(topic, [])

    def publish(
        self,
        queue: Any,
        topic: str,
        value: bytes,
        edge_id: int,
        address: str,
        sender: object,
        done: Callable[[str], None],
        traceparent: str = "",
    ) -> None:
        """Give a message to one of the forwarders; ``done`` is told an error text or nothing, once, maybe at once."""
        queue.publish(Record(topic, value, edge_id, address, self._wall_clock(), sender, done, traceparent))

    def start(self) -> None:
        """Connect to the brokers, which may be away."""
        for forwarder in self.forwarders:
            forwarder.start()

    def stop(self) -> "Deferred[None]":
        """Fires when all are disconnected."""
        return DeferredList([forwarder.stop() for forwarder in self.forwarders]).addCallback(lambda _: None)

    def trouble(self) -> str:
        """Which brokers are away and why, in one line; empty where none is."""
        return "; ".join(f"queue {each.name}: {each.trouble}" for each in self.forwarders if each.trouble)

    def notes(self) -> str:
        """The same, and what the spools hold, or why they cannot be used."""
        found = []
        for each in self.forwarders:
            spooled = each.spool.trouble() if each.spool is not None else ""
            if each.trouble or spooled:
                found.append(f"queue {each.name}: {', '.join(filter(None, (each.trouble, spooled)))}")
        return "; ".join(found)
