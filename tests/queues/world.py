"""A forwarder to a real broker in the tests' reactor, and what its edges were told."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from twisted.internet import reactor
from twisted.internet.task import deferLater

from frontier_tx.config.queues import MQM
from frontier_tx.queues.build import queues_of
from frontier_tx.queues.forwarder import Forwarder
from frontier_tx.queues.record import Record

#: Bodies that every queue must carry byte for byte.
BODIES = [b"", b"\0", bytes(range(256)), b'{"a": "\xc3\xa4"}', b"\r\n\r\n", b"x" * 1_000_000]


class Way:
    """The way to one broker."""

    def __init__(self, forwarder: Forwarder) -> None:
        self.forwarder = forwarder
        #: Value and error of each message, in the order in which the edges were told.
        self.told: list[tuple[bytes, str]] = []

    def publish(self, topic: str, *values: bytes, edge_id: int = 7) -> None:
        for value in values:
            done = lambda error, value=value: self.told.append((value, error))  # noqa: E731
            self.forwarder.publish(Record(topic, value, edge_id, "10.0.0.1:5", time.time(), edge_id, done))

    @property
    def acknowledged(self) -> list[bytes]:
        return [value for value, error in self.told if not error]

    async def until(self, done: Callable[[], bool], seconds: float = 15) -> None:
        """Let the reactor run until something holds."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"not within {seconds:g} s; {self.forwarder.trouble}; {self.told[-3:]}"
            await deferLater(reactor, 0.01)

    async def ended(self, count: int, seconds: float = 15) -> None:
        """Wait until so many messages were told of."""
        await self.until(lambda: len(self.told) >= count, seconds)


@asynccontextmanager
async def way(config: MQM, *, connected: bool = True) -> AsyncIterator[Way]:
    """A started forwarder of the one queue that the configuration enables."""
    queues = queues_of(config, reactor, "gw-1")
    (forwarder,) = queues.forwarders
    made = Way(forwarder)
    queues.start()
    try:
        if connected:
            await made.until(lambda: forwarder.connected)
        yield made
    finally:
        await queues.stop()


def numbered(count: int, start: int = 0) -> list[bytes]:
    """Bodies that tell their order."""
    return [b"%08d" % number for number in range(start, start + count)]
