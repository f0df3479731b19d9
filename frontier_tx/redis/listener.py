"""A subscription to one channel on a connection of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from frontier_tx.config.redis import Redis
from frontier_tx.redis.address import Address
from frontier_tx.redis.connection import Connection, Greeting, Login
from frontier_tx.redis.errors import RedisError
from frontier_tx.redis.kept import KeptConnection

PING_EVERY = 5.0
"""Seconds between signs of life asked of a silent server; three without any end the connection."""


class Listener(KeptConnection):
    """Receives what is published on ``channel``; connects again for ever.

    ``gap`` is called each time the subscription begins, ``received`` with each message.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Redis,
        login: Login,
        channel: str,
        find: Callable[[], Awaitable[Address]],
        check: Callable[[Address, Greeting], RedisError | None],
        received: Callable[[bytes], None],
        gap: Callable[[], None],
    ) -> None:
        super().__init__(reactor, settings, login, find, check)
        self._channel = channel
        self._received = received
        self._gap = gap
        self._unheard = 0

    async def serve(self, connection: Connection, ended: Deferred[None]) -> None:
        connection.on_push(self._pushed)
        self._unheard = 0
        connection.write(_words(b"SUBSCRIBE", self._channel.encode()))
        ping = LoopingCall(self._ping, connection)
        ping.clock = self._reactor
        ping.start(PING_EVERY, now=False)
        try:
            await ended
        finally:
            ping.stop()
            self.connection = None

    def _ping(self, connection: Connection) -> None:
        self._unheard += 1
        if self._unheard > 3:
            connection.abort()
        else:
            connection.write(_words(b"PING"))

    def _pushed(self, reply: list[Any]) -> None:
        self._unheard = 0
        if reply[:1] == [b"message"] and len(reply) == 3:
            self._received(reply[2])
        elif reply[:1] == [b"subscribe"]:
            self._gap()


def _words(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
