"""One Redis server at a fixed address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from frontier_tx.config.redis import Redis
from frontier_tx.redis.address import Address
from frontier_tx.redis.client import RedisClient, spread
from frontier_tx.redis.connection import Greeting
from frontier_tx.redis.errors import RedisError, RedisModeError, RedisReplicaError
from frontier_tx.redis.interfaces import Script
from frontier_tx.redis.link import Command, Link


class SingleRedis(RedisClient):
    """One master at a time: links to what ``find_listening`` gives."""

    _links: Sequence[Link] = ()

    def links(self) -> Sequence[Link]:
        return self._links

    def begin(self) -> None:
        self._links = [
            Link(self._reactor, self._settings, self._login, self.find_listening, check_single, self)
            for _ in range(self._settings.connections)
        ]
        for link in self._links:
            link.start()

    def pick(self, command: Command) -> Link | None:
        return spread(self._links, command.request.key)

    def check_listening(self, address: Address, greeting: Greeting) -> RedisError | None:
        return check_single(address, greeting)


class StandaloneRedis(SingleRedis):
    """``redis.mode: standalone``.  A cluster node, a sentinel or a replica at the address is an error, with
    the cure."""

    def __init__(self, reactor: Any, settings: Redis, scripts: Sequence[Script] = ()) -> None:
        super().__init__(reactor, settings, scripts, settings.standalone.db)
        self._address = Address.parse(settings.standalone.addr)

    @property
    def name(self) -> str:
        return str(self._address)

    def moved(self, link: Link, command: Command, words: list[str]) -> bool:
        link.drop(" ".join(words))
        return False

    async def find_listening(self) -> Address:
        return self._address


def check_single(address: Address, greeting: Greeting) -> RedisError | None:
    """What is wrong with a server that should be a master outside of a cluster, None if nothing is."""
    if greeting.mode == "cluster":
        return RedisModeError(address, "a node of a Redis Cluster", "set redis.mode to cluster")
    if greeting.mode == "sentinel":
        return RedisModeError(
            address, "a sentinel", "set redis.mode to sentinel, or give the address of the data server"
        )
    if greeting.role == "slave":
        return RedisReplicaError(address, greeting.master)
    return None
