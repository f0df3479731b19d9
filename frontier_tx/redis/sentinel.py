"""A master that sentinels watch over: found through them, followed when they replace it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.config.redis import Redis
from frontier_tx.redis.address import Address
from frontier_tx.redis.connection import Connection, Login, open_connection, text_of, understood
from frontier_tx.redis.errors import (
    RedisError,
    RedisMasterUnknownError,
    RedisModeError,
    RedisStoppedError,
    RedisUnreachableError,
)
from frontier_tx.redis.interfaces import Script
from frontier_tx.redis.standalone import SingleRedis
from frontier_tx.runtime.deferreds import Waiters

log = Logger()

ASK_EVERY = 1.0
"""Seconds between two questions who the master is; a switch is noticed at the latest after this time."""


class SentinelRedis(SingleRedis):
    """``redis.mode: sentinel``.  Whoever the sentinels name is used, once it says itself that it is a
    master."""

    def __init__(self, reactor: Any, settings: Redis, scripts: Sequence[Script] = ()) -> None:
        super().__init__(reactor, settings, scripts, settings.sentinel.db)
        self._sentinels = Sentinels(reactor, settings)
        self._master: Address | None = None
        self._unanswered = 0
        self._asking = LoopingCall(self._follow)
        self._asking.clock = reactor

    @property
    def name(self) -> str:
        return f"master {self._settings.sentinel.master_name!r} of sentinels {', '.join(self._settings.sentinel.addrs)}"

    def begin(self) -> None:
        super().begin()
        self._asking.start(ASK_EVERY, now=False).addErrback(lambda failure: log.failure("asking sentinels", failure))

    def end(self) -> None:
        if self._asking.running:
            self._asking.stop()
        self._sentinels.close()

    async def find_listening(self) -> Address:
        address = await self._sentinels.master()
        self._switch(address)
        return address

    def _switch(self, address: Address) -> None:
        before, self._master = self._master, address
        if before is not None and before != address:
            log.info("redis: the master is now {new}, it was {old}", new=address, old=before)
            for link in self._links:
                if link.connection is not None and link.connection.address != address:
                    link.drop("the sentinels named another master")
            for listener in self._listeners:
                listener.drop()

    async def _ask_and_switch(self) -> None:
        try:
            self._switch(await self._sentinels.master())
        except RedisError as error:
            if not self.ready:
                self.state_changed(error)
                return
            self._unanswered += 1
            # The first time it is only known that a connection broke, the second time why no other comes about.
            if self._unanswered == 2:
                log.warn("{error}; {master} stays in use, nobody would replace it", error=error, master=self._master)
        else:
            self._unanswered = 0

    def _follow(self) -> Any:
        return ensureDeferred(self._ask_and_switch())


class Sentinels:
    """The sentinels, asked one after the other until one answers; the connection to that one is kept.

    Those who ask while a question is under way share its answer.
    """

    def __init__(self, reactor: Any, settings: Redis) -> None:
        self._reactor = reactor
        own = settings.sentinel
        # A frozen sentinel accepts connections and says nothing: the next one must be asked while callers
        # still wait.
        self._settings = replace(settings, dial_timeout=min(settings.dial_timeout, 1.0))
        self._login = Login(own.username, own.password, keys="redis.sentinel.username and redis.sentinel.password")
        self._addresses = [Address.parse(text, 26379) for text in own.addrs]
        self._name = own.master_name
        self._connection: Connection | None = None
        self._question: Deferred[Any] | None = None
        self._waiters: Waiters[Address] = Waiters()

    def close(self) -> None:
        """Give up the question under way and the kept connection."""
        if self._question is not None:
            self._question.cancel()
        self._drop()

    def master(self) -> Deferred[Address]:
        """Who the master is; fails with the clearest ``RedisError`` of those that the sentinels gave."""
        waiting = self._waiters.wait()
        if self._question is None:
            self._question = Deferred.fromCoroutine(self._ask_all())
            self._question.addBoth(self._answered)
        return waiting

    def _answered(self, outcome: Address | Failure) -> None:
        self._question = None
        stopped = isinstance(outcome, Failure) and isinstance(outcome.value, CancelledError)
        self._waiters.tell(RedisStoppedError() if stopped else outcome)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _ask_all(self) -> Address:
        problem: RedisError = RedisUnreachableError("sentinels", "redis.sentinel.addrs is empty")
        for number in range(len(self._addresses)):
            address = self._addresses[0]
            try:
                return await self._ask(address)
            except RedisError as error:
                if number == 0 or not isinstance(error, RedisUnreachableError):
                    problem = error
                self._drop()
                self._addresses.append(self._addresses.pop(0))
        raise problem

    async def _ask(self, address: Address) -> Address:
        connection = self._connection
        if connection is None:
            connection = await open_connection(self._reactor, address, self._settings, self._login)
            if connection.greeting.mode not in ("", "sentinel"):
                connection.abort()
                raise RedisModeError(
                    address, "not a sentinel", "give sentinels in redis.sentinel.addrs, or change redis.mode"
                )
            self._connection = connection
        reply = await connection.ask_within(
            self._reactor, self._settings.dial_timeout, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name
        )
        if not reply:
            raise RedisMasterUnknownError(self._name)
        with understood(address, "SENTINEL GET-MASTER-ADDR-BY-NAME"):
            host, port = reply
            return Address(text_of(host), int(port))
