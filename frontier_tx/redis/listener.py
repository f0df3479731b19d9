"""A subscription to one channel on a connection of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater

from frontier_tx.backoff import Backoff, Retry
from frontier_tx.config.redis import Redis
from frontier_tx.redis.address import Address
from frontier_tx.redis.connection import Connection, Greeting, Login, cancelled, open_connection
from frontier_tx.redis.errors import RedisError

PING_EVERY = 5.0
"""Seconds between signs of life asked of a silent server; three without any end the connection."""


class Listener:
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
        self._reactor = reactor
        self._settings = settings
        self._login = login
        self._channel = channel
        self._find = find
        self._check = check
        self._received = received
        self._gap = gap
        self._running: Deferred[None] | None = None
        self._stopped = True
        self._connection: Connection | None = None
        self._unheard = 0

    def start(self) -> None:
        """Begin to listen."""
        if self._running is None:
            self._stopped = False
            self._running = ensureDeferred(self._run())
            self._running.addErrback(cancelled)

    def stop(self) -> None:
        """End for good."""
        self._stopped = True
        running, self._running = self._running, None
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        if running is not None:
            running.cancel()

    def drop(self) -> None:
        """Listen anew, at whoever is to be asked now."""
        if self._connection is not None:
            self._connection.abort()

    async def _run(self) -> None:
        retry = Retry(Backoff(*self._settings.backoff, steady=0.0), self._reactor)
        while True:
            try:
                address = await self._find()
                connection = await open_connection(self._reactor, address, self._settings, self._login)
                problem = self._check(address, connection.greeting)
                if problem is not None:
                    connection.abort()
                    raise problem
                retry.worked()
                await self._listen(connection)
            except RedisError:
                pass
            if self._stopped:
                # By whoever was told just now: a coroutine that runs cannot be cancelled.
                return
            await deferLater(self._reactor, retry.wait())

    async def _listen(self, connection: Connection) -> None:
        ended: Deferred[None] = Deferred()
        connection.on_lost(lambda: ended.callback(None))
        connection.on_push(self._pushed)
        self._connection = connection
        self._unheard = 0
        connection.write(_words(b"SUBSCRIBE", self._channel.encode()))
        ping = LoopingCall(self._ping, connection)
        ping.clock = self._reactor
        ping.start(PING_EVERY, now=False)
        try:
            await ended
        finally:
            ping.stop()
            self._connection = None

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
