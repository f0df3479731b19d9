"""A registry whose Redis is not there yet, and one that is stopped."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from frontier_tx.config.redis import Redis, Standalone
from frontier_tx.redis.connect import make_redis
from frontier_tx.rpc.observability import CHECK_TIMEOUT
from frontlas_tx.registry.errors import RegistryError, RegistryUnavailableError
from frontlas_tx.registry.records import Report, ReportKind
from frontlas_tx.registry.redis.registry import RedisRegistry
from frontlas_tx.registry.redis.scripts import ALL
from tests.redis.servers import RedisServer, free_ports

reactor: Any = _reactor


def make(addr: str) -> RedisRegistry:
    settings = Redis(standalone=Standalone(addr=addr), pool_timeout=0.5)
    return RedisRegistry(reactor, make_redis(reactor, settings, ALL))


@pytest_twisted.ensureDeferred
async def test_it_waits_for_redis_and_says_what_is_missing() -> None:
    server = RedisServer(*free_ports(1))
    registry = make(server.addr)
    said: list[tuple[bool, str]] = []
    registry.watch_ready(lambda ready, why: said.append((ready, why)))
    started = registry.start()
    try:
        why = f"redis {server.addr} cannot be reached (connection refused): start it or correct its address"
        for call in (registry.check_health, registry.frontiers, registry.counts, lambda: registry.edge(1)):
            with pytest.raises(RegistryUnavailableError) as caught:
                await call()
            assert str(caught.value) == why
        with pytest.raises(RegistryUnavailableError):
            await registry.claim("a", "a:1", "a:2")
        assert (registry.ready, registry.why_not_ready) == (False, why)
        assert not started.called
        server.start()
        await started
        assert registry.ready
        await registry.check_health()
        assert said[0] == (False, why)
        assert said[-1] == (True, "")
    finally:
        await registry.stop()
        server.close()


@pytest_twisted.ensureDeferred
async def test_a_stop_ends_everything_that_waits_but_no_lease() -> None:
    server = RedisServer(*free_ports(1)).start()
    registry = make(server.addr)
    try:
        await registry.start()
        claim = await registry.claim("a", "a:1", "a:2")
        await registry.report(claim, [Report(ReportKind.EDGE_ONLINE, 1)])
        watching = registry.watch().next()
        reporting = registry.report(claim, [Report(ReportKind.EDGE_ONLINE, 2)])
        await registry.stop()
        assert [type(problem) for problem in await reporting] == [RegistryUnavailableError]
        with pytest.raises(RegistryError, match="stopped"):
            await watching
        assert registry.why_not_ready == "the registry was stopped"
        assert server.cli("EXISTS", "frontlas:alive:frontiers:a", "frontlas:edges:1") == "2"
        await deferLater(reactor, 0.1)
        assert not [call for call in reactor.getDelayedCalls() if "frontlas" in str(call.func)]
    finally:
        server.close()


@pytest_twisted.ensureDeferred
async def test_a_redis_that_hangs_is_named_by_the_first_question_after_its_health() -> None:
    server = RedisServer(*free_ports(1)).start()
    registry = RedisRegistry(reactor, make_redis(reactor, Redis(standalone=Standalone(addr=server.addr)), ALL))
    try:
        await registry.start()
        await registry.check_health()
        server.freeze()
        asked = reactor.seconds()
        with pytest.raises(RegistryUnavailableError) as caught:
            await registry.check_health()
        # What shows our own health gives up after so long and could only say that.
        assert reactor.seconds() - asked < CHECK_TIMEOUT
        assert str(caught.value) == f"redis {server.addr} did not answer within 1.5 s: i/o timeout"
        server.thaw()
        await registry.check_health()
    finally:
        await registry.stop()
        server.close()


@pytest_twisted.ensureDeferred
async def test_a_redis_that_runs_no_scripts_is_not_healthy() -> None:
    server = RedisServer(*free_ports(1)).start()
    registry = make(server.addr)
    try:
        await registry.start()
        server.cli("ACL", "SETUSER", "default", "-evalsha", "-eval")
        await deferLater(reactor, 1.2)
        with pytest.raises(RegistryUnavailableError, match=r"NOPERM.*'eval.*allow this user all commands on keys"):
            await registry.check_health()
        server.cli("ACL", "SETUSER", "default", "+@all")
        await deferLater(reactor, 1.2)
        await registry.check_health()
    finally:
        await registry.stop()
        server.close()
