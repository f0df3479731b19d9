"""Whatever is started can be stopped at every turn of the reactor after that, and then nothing of it is left: no
connection, no timer, nobody who waits, no line that says that something failed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, globalLogPublisher
from zope.interface import directlyProvides, providedBy

from frontier_tx import aio
from frontier_tx.atlas.messages import FrontierMeta
from frontier_tx.atlas.reporter import Reporter
from frontier_tx.clients import ClusterService
from frontier_tx.config.redis import Redis
from frontier_tx.errors import EndClosed
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.redis.connect import make_redis
from frontier_tx.redis.errors import RedisStoppedError
from frontier_tx.redis.interfaces import command
from frontier_tx.runtime.launch import Ports
from frontier_tx.timers import Alarms
from frontier_tx.wire.outlet import Outlet
from frontlas_tx.config import FrontlasConfig, parse_frontlas
from frontlas_tx.registry.errors import RegistryUnavailableError
from frontlas_tx.registry.records import Report, ReportKind
from frontlas_tx.registry.redis.registry import RedisRegistry
from frontlas_tx.registry.redis.scripts import ALL
from frontlas_tx.service import Frontlas
from tests.clients.flavours import Loop
from tests.clients.test_cluster import Cluster
from tests.conftest import connected
from tests.redis.servers import Clustered, RedisServer, Watched, free_ports
from tests.redis.test_clients import cluster as clustered_at
from tests.redis.test_clients import sentinel as watched_at
from tests.redis.test_clients import standalone as single_at

reactor: Any = _reactor
#: Turns of the reactor until everything here has long been up, and some more.
TURNS = 30


def sleep(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds)


class Seen:
    """The reactor as one of its users sees it: it notes timers, and connections that are begun."""

    def __init__(self) -> None:
        directlyProvides(self, *providedBy(reactor))
        self.calls: list[Any] = []
        self.connects = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def callLater(self, *args: Any, **more: Any) -> Any:
        self.calls.append(reactor.callLater(*args, **more))
        return self.calls[-1]

    def connectTCP(self, *args: Any, **more: Any) -> Any:
        self.connects += 1
        return reactor.connectTCP(*args, **more)

    @property
    def timers(self) -> list[Any]:
        return [call for call in self.calls if call.active()]


class Subject(Protocol):
    """Something that is started and stopped, with what it was asked meanwhile."""

    asked: list[Deferred[Any]]

    def start(self) -> None: ...

    def stop(self) -> Deferred[Any]: ...


class RedisSubject:
    def __init__(self, seen: Seen, settings: Redis) -> None:
        self.redis = make_redis(seen, settings, ALL)
        self.asked: list[Deferred[Any]] = []

    def start(self) -> None:
        self.redis.start()
        self.redis.subscribe("channel", lambda message: None, lambda: None)
        self.asked += [self.redis.execute("GET", "a"), self.redis.batch([command("GET", key) for key in "abc"])]

    def stop(self) -> Deferred[Any]:
        return self.redis.stop()


class RegistrySubject:
    def __init__(self, seen: Seen, settings: Redis) -> None:
        self.registry = RedisRegistry(seen, make_redis(seen, settings, ALL), shared_with_go=True)
        self.asked: list[Deferred[Any]] = []

    def start(self) -> None:
        self.asked += [self.registry.start(), self.registry.frontier_of_edge(1), self.registry.counts()]
        claimed = self.registry.claim("frontier01", "h:1", "h:2")
        claimed.addCallback(self.claimed)
        self.asked.append(claimed)

    def claimed(self, claim: Any) -> None:
        self.registry.sync_begin(claim)
        reports = [Report(ReportKind.EDGE_ONLINE, n, "h:1") for n in range(1, 20)]
        self.asked += [self.registry.report(claim, reports), self.registry.sync_end(claim), self.registry.renew(claim)]

    def stop(self) -> Deferred[Any]:
        return self.registry.stop()


class FrontlasSubject:
    def __init__(self, seen: Seen, config: FrontlasConfig) -> None:
        self.frontlas = Frontlas(config, Ports(seen, "frontlas"), seen)
        self.asked: list[Deferred[Any]] = []

    def start(self) -> None:
        self.frontlas.startService()

    def stop(self) -> Deferred[Any]:
        return self.frontlas.stopService()


class ReporterSubject:
    def __init__(self, seen: Seen, port: int) -> None:
        self.core = GatewayCore(seen)
        self.alarms = Alarms(seen)
        endpoint = HostnameEndpoint(seen, "127.0.0.1", port)
        meta = FrontierMeta("frontier01", "h:1", "h:2", "boot")
        self.reporter = Reporter(self.core.repository, [endpoint], meta, seen, self.alarms, Outlet(seen), stats_every=1)
        self.asked: list[Deferred[Any]] = []

    def start(self) -> None:
        self.reporter.start()

    def stop(self) -> Deferred[Any]:
        def over(result: Any) -> Any:
            self.alarms.stop()
            return result

        return self.reporter.stop().addBoth(over)


class ServiceSubject:
    def __init__(self, seen: Seen, addresses: list[str]) -> None:
        self.service = ClusterService(addresses, reactor=seen, poll=0.05)
        self.asked: list[Deferred[Any]] = []

    def start(self) -> None:
        self.asked += [self.service.connect(), self.service.when_online(), self.service.call(99, "who")]

    def stop(self) -> Deferred[Any]:
        return self.service.close()


class Place:
    """What a kind of subject needs around it, made when it is first needed."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def single(self) -> Redis:
        return single_at(self._have("single", lambda: RedisServer(*free_ports(1))).addr)

    def watched(self) -> Redis:
        return watched_at(self._have("watched", Watched).addrs)

    def clustered(self) -> Redis:
        return clustered_at(*self._have("clustered", Clustered).addrs)

    def _have(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make().start()
        return self._made[name]

    def close(self) -> None:
        for made in self._made.values():
            made.close()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


@contextmanager
def no_failure_is_logged() -> Iterator[None]:
    lines: list[str] = []

    def see(event: Any) -> None:
        if event["log_level"] >= LogLevel.error:
            lines.append(f"{event.get('log_format')}: {event.get('log_failure')}")

    globalLogPublisher.addObserver(see)
    try:
        yield
        # Deferreds that failed and that nobody asked say so when they are collected.
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(see)
    assert lines == []


async def nothing_is_left(seen: Seen, before: set[Any], asked: list[Deferred[Any]], stopped: list[Any]) -> None:
    for _ in range(200):
        await sleep(0.005)
        waiting = [each for each in asked if not each.called or each.paused]
        left = [*seen.timers, *(connected() - before), *waiting]
        if stopped and not left:
            return
    assert stopped == [None], "stop() never ended"
    assert seen.timers == [], "timers"
    assert connected() - before == set(), "connections"
    assert waiting == [], "Deferreds that never fired"


async def stop_at(make: Callable[[Seen], Subject], wait: Callable[[], Awaitable[None]]) -> None:
    before, seen = connected(), Seen()
    subject = make(seen)
    subject.start()
    await wait()
    stopped: list[Any] = []
    subject.stop().addBoth(stopped.append)
    begun = seen.connects
    for each in subject.asked:
        each.addErrback(lambda failure: None)
    # Asked again, it has nothing more to do.
    subject.stop()
    await nothing_is_left(seen, before, subject.asked, stopped)
    assert seen.connects == begun, "it connected after it was stopped"


async def turns_of_the_reactor(turns: int) -> None:
    for _ in range(turns):
        await sleep(0)


async def every_turn(make: Callable[[Seen], Subject]) -> None:
    with no_failure_is_logged():
        for turns in range(TURNS):
            await stop_at(make, lambda turns=turns: turns_of_the_reactor(turns))
        for seconds in (0.03, 0.12, 0.3):
            await stop_at(make, lambda seconds=seconds: sleep(seconds))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mode", ["single", "watched", "clustered"])
async def test_redis(place: Place, mode: str) -> None:
    settings = getattr(place, mode)()
    await every_turn(lambda seen: RedisSubject(seen, settings))


@pytest_twisted.ensureDeferred
async def test_the_registry(place: Place) -> None:
    settings = place.single()
    await every_turn(lambda seen: RegistrySubject(seen, settings))


@pytest_twisted.ensureDeferred
async def test_frontlas(place: Place) -> None:
    text = f"""
        redis: {{mode: standalone, standalone: {{addr: "{place.single().standalone.addr}"}}}}
        control_plane: {{listen: {{addr: 127.0.0.1:0}}}}
        frontier_plane: {{listen: {{addr: 127.0.0.1:0}}}}
        observability: {{enable: true, addr: 127.0.0.1:0}}
    """
    config = parse_frontlas(text).config
    await every_turn(lambda seen: FrontlasSubject(seen, config))


@pytest_twisted.ensureDeferred
async def test_frontlas_lets_its_frontiers_go_and_their_leases_run_on(place: Place) -> None:
    text = f"""
        redis: {{mode: standalone, standalone: {{addr: "{place.single().standalone.addr}"}}}}
        control_plane: {{listen: {{addr: 127.0.0.1:0}}}}
        frontier_plane: {{listen: {{addr: 127.0.0.1:0}}}}
    """
    before, seen = connected(), Seen()
    subject = FrontlasSubject(seen, parse_frontlas(text).config)
    subject.start()
    port = subject.frontlas._ports._open[0].getHost().port
    reporting = ReporterSubject(Seen(), port)
    reporting.start()
    for _ in range(500):
        if subject.frontlas.plane.links:
            break
        await sleep(0.01)
    assert subject.frontlas.plane.links == 1
    await subject.stop()
    await nothing_is_left(seen, before, [], [None])
    await reporting.stop()
    other = RegistrySubject(Seen(), place.single()).registry
    await other.start()
    try:
        [frontier] = [each for each in await other.frontiers() if each.frontier_id == "frontier01"]
        assert frontier.alive
    finally:
        await other.stop()


@pytest.fixture
def members() -> Iterator[Cluster]:
    made = Cluster(None)
    yield made
    pytest_twisted.blockon(ensureDeferred(made.stop()))


@pytest_twisted.ensureDeferred
async def test_a_reporter(members: Cluster) -> None:
    port = members.reports.getHost().port
    await every_turn(lambda seen: ReporterSubject(seen, port))


@pytest_twisted.ensureDeferred
async def test_a_cluster_service(members: Cluster) -> None:
    for name in ("frontier01", "frontier02"):
        await members.frontier(name)
    addresses = members.addresses
    await every_turn(lambda seen: ServiceSubject(seen, addresses))


@pytest_twisted.ensureDeferred
async def test_a_cluster_service_of_asyncio(members: Cluster) -> None:
    await members.frontier("frontier01")
    addresses = members.addresses

    async def one(turns: int) -> None:
        service = aio.ClusterService(addresses, poll=0.05)
        asked = [asyncio.ensure_future(service.connect())]
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns > 1:
            asked.append(asyncio.ensure_future(service.call(99, "who")))
        await service.close()
        await service.close()
        async with asyncio.timeout(2):
            await asyncio.gather(*asked, return_exceptions=True)

    def timers(loop: Any) -> list[Any]:
        return [each for each in loop._scheduled if not each.cancelled()]

    loop = Loop()
    try:
        for turns in range(2 * TURNS):
            await loop.later(one(turns))
            assert loop.now(lambda: timers(loop.loop)) == []
    finally:
        loop.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mode", ["single", "watched", "clustered"])
async def test_redis_that_is_stopped_by_who_hears_that_it_is_ready(place: Place, mode: str) -> None:
    before, seen = connected(), Seen()
    subject = RedisSubject(seen, getattr(place, mode)())
    stopped: list[Any] = []
    heard: list[bool] = []

    def changed(ready: bool) -> None:
        heard.append(ready)
        if ready:
            subject.stop().addBoth(stopped.append)

    subject.redis.watch(changed, lambda: None)
    subject.start()
    for each in subject.asked:
        each.addErrback(lambda failure: None)
    for _ in range(500):
        if stopped:
            break
        await sleep(0.01)
    await nothing_is_left(seen, before, subject.asked, stopped)
    assert heard == [True, False]
    assert isinstance(subject.redis.error, RedisStoppedError)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mode", ["single", "watched", "clustered"])
async def test_redis_is_as_good_as_new_after_a_stop(place: Place, mode: str) -> None:
    heard: list[bytes] = []
    before, seen = connected(), Seen()
    redis = make_redis(seen, getattr(place, mode)())
    await redis.stop()
    redis.subscribe("news", heard.append, lambda: None)
    assert seen.connects == 0
    for number in range(3):
        redis.start()
        redis.start()
        await redis.execute("SET", "a", number)
        for _ in range(100):
            await redis.execute("PUBLISH", "news", number)
            if heard and heard[-1] == b"%d" % number:
                break
            await sleep(0.05)
        assert heard[-1] == b"%d" % number
        await redis.stop()
        await nothing_is_left(seen, before, [], [None])
        with pytest.raises(RedisStoppedError):
            await redis.execute("GET", "a")


@pytest_twisted.ensureDeferred
async def test_what_is_stopped_before_it_starts(place: Place, members: Cluster) -> None:
    before, seen = connected(), Seen()
    config = parse_frontlas("").config
    subjects: list[Subject] = [
        RegistrySubject(seen, place.single()),
        FrontlasSubject(seen, config),
        ReporterSubject(seen, members.reports.getHost().port),
        ServiceSubject(seen, members.addresses),
    ]
    for subject in subjects:
        stopped: list[Any] = []
        subject.stop().addBoth(stopped.append)
        await nothing_is_left(seen, before, [], stopped)
    assert seen.connects == 0


@pytest_twisted.ensureDeferred
async def test_what_was_stopped_says_so_when_it_is_started_again(place: Place, members: Cluster) -> None:
    seen = Seen()
    registry = RegistrySubject(seen, place.single()).registry
    await registry.stop()
    with pytest.raises(RegistryUnavailableError, match="the registry was stopped"):
        await registry.start()
    service = ServiceSubject(seen, members.addresses).service
    await service.close()
    with pytest.raises(EndClosed):
        await service.connect()
    assert seen.connects == 0


@pytest_twisted.ensureDeferred
async def test_a_cluster_service_connects_once(members: Cluster) -> None:
    await members.frontier("frontier01")
    before, seen = connected(), Seen()
    service = ClusterService(members.addresses, reactor=seen, poll=0.05)
    first = service.connect()
    with pytest.raises(RuntimeError, match="connects once"):
        await service.connect()
    await first
    assert service.online
    await service.close()
    await nothing_is_left(seen, before, [], [None])
