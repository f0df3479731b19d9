"""What links and subscriptions have in common: a connection to a server that is made again for ever."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from frontier_tx.backoff import Backoff, Retry
from frontier_tx.config.redis import Redis
from frontier_tx.redis.address import Address
from frontier_tx.redis.connection import Connection, Greeting, Login, cancelled, open_connection
from frontier_tx.redis.errors import RedisError


class KeptConnection(ABC):
    """A connection that is kept up.

    ``find`` gives the address before each attempt, ``check`` looks at the greeting and returns what is wrong
    with it. ``connection`` is the one that is logged in, None while there is none.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Redis,
        login: Login,
        find: Callable[[], Awaitable[Address]],
        check: Callable[[Address, Greeting], RedisError | None],
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._login = login
        self._find = find
        self._check = check
        self._running: Deferred[None] | None = None
        self._stopped = True
        self.connection: Connection | None = None

    def start(self) -> None:
        """Begin to connect."""
        if self._running is None:
            self._stopped = False
            self._running = ensureDeferred(self._run())
            self._running.addErrback(cancelled)

    def stop(self) -> None:
        """Close for good."""
        self._stopped = True
        running, self._running = self._running, None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()
        if running is not None:
            running.cancel()

    def drop(self) -> None:
        """Close the connection at once; a new one follows."""
        if self.connection is not None:
            self.connection.abort()

    def failed(self, error: RedisError) -> None:  # noqa: B027 - nobody need be told
        """No connection came about; another attempt follows."""

    @abstractmethod
    async def serve(self, connection: Connection, ended: Deferred[None]) -> None:
        """Use the connection until it has ended."""

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
            except RedisError as error:
                self.failed(error)
            else:
                retry.worked()
                ended: Deferred[None] = Deferred()
                connection.on_lost(partial(ended.callback, None))
                self.connection = connection
                await self.serve(connection, ended)
            if self._stopped:
                # By whoever was told just now: a coroutine that runs cannot be cancelled.
                return
            await deferLater(self._reactor, retry.wait())
