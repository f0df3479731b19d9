"""The places in which the registry's contract is tested: one per implementation and mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock, deferLater

from frontier_tx.config.redis import Cluster, Redis, Sentinel, Standalone
from frontier_tx.redis.client import RedisClient
from frontier_tx.redis.connect import make_redis
from frontlas_tx.registry.memory import MemoryRegistry
from frontlas_tx.registry.redis.registry import RedisRegistry
from frontlas_tx.registry.redis.scripts import ALL
from tests.redis.servers import Clustered, RedisServer, Watched, free_ports

START = 1_800_000_000
WORLDS = ["memory", "standalone", "sentinel", "cluster"]
reactor: Any = _reactor


class MemoryWorld:
    """The embedded registry under a clock that moves only when told to."""

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.clock.advance(START)
        self.registry: Any = MemoryRegistry(self.clock)

    async def open(self) -> None:
        await self.registry.start()

    async def close(self) -> None:
        await self.registry.stop()

    async def settle(self) -> None:
        """Let everything under way finish."""

    async def advance(self, seconds: float) -> None:
        """Let time pass, with the upkeep that goes with it."""
        for _ in range(int(seconds)):
            self.clock.advance(1)
        self.clock.advance(seconds - int(seconds))


class ShiftedClock:
    """The reactor's time with leaps ahead; timers run in real time."""

    def __init__(self) -> None:
        self.shift = 0.0

    def seconds(self) -> float:
        return float(reactor.seconds()) + self.shift

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any, **more: Any) -> IDelayedCall:
        return reactor.callLater(delay, call, *args, **more)

    def getDelayedCalls(self) -> Any:
        return reactor.getDelayedCalls()


class RedisWorld:
    """Registries over a real Redis; leases follow a clock that can leap."""

    def __init__(self, settings: Redis, flush: Callable[[], None]) -> None:
        self.clock = ShiftedClock()
        self.settings = settings
        self._flush = flush
        self.registries: list[RedisRegistry] = []
        self.clients: list[RedisClient] = []

    @property
    def registry(self) -> Any:
        """The first Frontlas."""
        return self.registries[0]

    async def open(self) -> None:
        self._flush()
        await self.add()

    async def add(self, leaping: bool = True, **more: Any) -> RedisRegistry:
        """One more Frontlas over the same Redis."""
        redis = make_redis(reactor, self.settings, ALL)
        if leaping:
            more["lease_time"] = lambda: int(self.clock.seconds() * 1000)
        registry = RedisRegistry(self.clock, redis, **more)
        self.clients.append(redis)
        self.registries.append(registry)
        await registry.start()
        while not registry.metrics()["subscriptions_total"]:
            await deferLater(reactor, 0.005)
        return registry

    async def close(self) -> None:
        for registry in self.registries:
            await registry.stop()

    async def settle(self) -> None:
        """Let everything under way finish."""
        for _ in range(2):
            await deferLater(reactor, 0.03)
            while not all(registry.idle for registry in self.registries):
                await deferLater(reactor, 0.01)

    async def agree(self) -> None:
        """Let every Frontlas have the news, which takes up to a second by itself."""
        await self.settle()
        for registry in self.registries:
            await registry.upkeep()

    async def advance(self, seconds: float) -> None:
        """Let time pass, with the upkeep that goes with it: in small steps towards the end, as no Frontlas that is
        there misses more than two."""
        while seconds > 0:
            step = seconds - 100 if seconds > 100 else min(2.0, seconds)
            seconds -= step
            self.clock.shift += step
            for registry in self.registries:
                await registry.upkeep()


_running: dict[str, Any] = {}


def servers(name: str, request: pytest.FixtureRequest) -> Any:
    """The servers of a mode, started once per test run."""
    if name not in _running:
        made: Any = {
            "standalone": lambda: RedisServer(*free_ports(1)),
            "sentinel": Watched,
            "cluster": Clustered,
        }[name]()
        _running[name] = made.start()
        request.session.config.add_cleanup(made.close)
    return _running[name]


def settings_for(name: str, made: Any, **more: Any) -> Redis:
    """Settings that lead to these servers."""
    if name == "standalone":
        return Redis(standalone=Standalone(addr=made.addr), **more)
    if name == "sentinel":
        return Redis(mode="sentinel", sentinel=Sentinel(addrs=made.addrs, master_name=Watched.NAME), **more)
    return Redis(mode="cluster", cluster=Cluster(addrs=made.addrs[:2]), **more)


def make_world(name: str, request: pytest.FixtureRequest) -> Any:
    """The world of this name, not yet open, with nothing in it."""
    if name == "memory":
        return MemoryWorld()
    made = servers(name, request)
    masters = {"standalone": lambda: [made], "sentinel": lambda: [made.master()], "cluster": lambda: made.masters}

    def flush() -> None:
        for server in masters[name]():
            server.cli("FLUSHALL")

    return RedisWorld(settings_for(name, made), flush)
