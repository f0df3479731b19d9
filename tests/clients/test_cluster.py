"""ClusterService over real gateways, Frontlas with its registry in memory, and reporters, all on the loopback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred, fail
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import deferLater

from frontier_tx import aio
from frontier_tx.atlas.messages import FrontierMeta
from frontier_tx.atlas.protocols import AtlasServerFactory
from frontier_tx.atlas.reporter import Reporter
from frontier_tx.clients import Backoff, ClusterService, ConnectFailed, Edge, HandlerError, Request
from frontier_tx.clients.cluster import frontlas_client
from frontier_tx.clients.cluster.frontlas_client import FrontlasClient, FrontlasUnavailable, UnknownEdge
from frontier_tx.errors import Canceled, EdgeNotOnline, EndClosed, ForceClosed, OperationTimeout, RemoteError
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.timers import Alarms
from frontier_tx.wire.outlet import Outlet
from frontlas_tx.cluster_plane.server import ClusterPlane
from frontlas_tx.frontier_plane import FrontierPlane
from frontlas_tx.registry.errors import INCOMPLETE_TEXT, RegistryUnavailableError
from frontlas_tx.registry.memory import MemoryRegistry
from tests.clients.flavours import Loop

SOON = Backoff(first=0.05, most=0.2)


async def until(true: Callable[[], Any], seconds: float = 5.0) -> None:
    for _ in range(round(seconds / 0.01)):
        if true():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it did not come about")


class Frontier:
    """A gateway that reports itself."""

    def __init__(self, cluster: Cluster, name: str, service_port: int = 0) -> None:
        self.cluster = cluster
        self.name = name
        self.core = GatewayCore(reactor)
        self.edge_listener = reactor.listenTCP(0, self.core.edges, interface="127.0.0.1")
        self.service_listener = reactor.listenTCP(service_port, self.core.services, interface="127.0.0.1")
        self.edge_port, self.service_port = (
            listener.getHost().port for listener in (self.edge_listener, self.service_listener)
        )
        self.alarms = Alarms(reactor)
        self.reporter = Reporter(
            self.core.repository,
            [HostnameEndpoint(reactor, "127.0.0.1", cluster.reports.getHost().port)],
            FrontierMeta(name, f"127.0.0.1:{self.service_port}", "", f"{name}-{id(self)}"),
            reactor,
            self.alarms,
            Outlet(reactor),
        )
        self.core.presence.listeners.append(self.reporter)
        self.reporter.start()

    async def edge(self, name: str, edge_id: int = 0) -> Edge:
        """An edge that says who it is and where it is connected."""
        edge = Edge("127.0.0.1", self.edge_port, reactor=reactor, reconnect=None, wanted_id=edge_id)
        self.cluster.edges.append(edge)
        await edge.register("who", lambda request: f"{name} at {self.name}".encode())
        await edge.connect()
        await self.cluster.located(edge.edge_id, self.name)
        return edge

    async def die(self) -> None:
        """The ports close and every connection breaks."""
        for port in (self.edge_listener, self.service_listener):
            await port.stopListening()
        for connection in self.core.connections():
            connection.abort("killed")
        await self.reporter.stop()
        self.core.alarms.stop()
        self.alarms.stop()


class Cluster:
    """Frontlas, Frontiers and what is connected to them.

    :param loop: where cluster services live; None: they are those of Twisted.
    """

    def __init__(self, loop: Loop | None) -> None:
        self.loop = loop
        self.registry = MemoryRegistry(reactor)
        self.registry.start()
        self.alarms = Alarms(reactor)
        factory = AtlasServerFactory(FrontierPlane(self.registry), self.alarms, Outlet(reactor))
        self.reports = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.planes: list[tuple[ClusterPlane, Any]] = []
        self.frontiers: list[Frontier] = []
        self.edges: list[Edge] = []
        self.services: list[Any] = []
        self.frontlas()

    def frontlas(self, port: int = 0) -> str:
        plane = ClusterPlane(self.registry, reactor)
        plane.start()
        listener = reactor.listenTCP(port, plane.factory, interface="127.0.0.1")
        self.planes.append((plane, listener))
        return f"127.0.0.1:{listener.getHost().port}"

    async def away(self, number: int = 0) -> str:
        plane, listener = self.planes.pop(number)
        address = f"127.0.0.1:{listener.getHost().port}"
        await listener.stopListening()
        await plane.drain(0)
        plane.stop()
        return address

    @property
    def addresses(self) -> list[str]:
        return [f"127.0.0.1:{listener.getHost().port}" for _, listener in self.planes]

    async def frontier(self, name: str, service_port: int = 0) -> Frontier:
        made = Frontier(self, name, service_port)
        self.frontiers.append(made)

        async def listed() -> bool:
            return name in [record.frontier_id for record in await self.registry.frontiers()]

        await self.eventually(listed)
        return made

    async def eventually(self, true: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(500):
            if await true():
                return
            await deferLater(reactor, 0.01)
        raise AssertionError("it did not come about")

    async def located(self, edge_id: int, name: str) -> None:
        async def there() -> bool:
            record = await self.registry.frontier_of_edge(edge_id)
            return record is not None and record.frontier_id == name

        await self.eventually(there)

    async def service(self, connect: bool = True, **options: Any) -> Any:
        options = {"frontlas": self.addresses, "poll": 0.1, "reconnect": SOON, **options}
        if self.loop is None:
            made = ClusterService(options.pop("frontlas"), reactor=reactor, **options)
        else:
            made = self.loop.make(aio.ClusterService, options.pop("frontlas"), **options)
        self.services.append(made)
        if connect:
            await made.connect()
            await until(lambda: all(state.online for state in made.frontiers))
        return made

    async def stop(self) -> None:
        await DeferredList([client.close() for client in [*self.services, *self.edges]])
        for frontier in self.frontiers:
            await frontier.die()
        while self.planes:
            await self.away()
        await self.reports.stopListening()
        self.registry.stop()
        await deferLater(reactor, 0.02)
        self.alarms.stop()


@pytest.fixture(params=["twisted", "asyncio"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    loop = Loop() if request.param == "asyncio" else None
    made = Cluster(loop)
    yield made
    pytest_twisted.blockon(ensureDeferred(made.stop()))
    if loop is not None:
        loop.stop()


@pytest_twisted.ensureDeferred
async def test_calls_reach_edges_on_every_frontier(cluster: Cluster) -> None:
    first, second = await cluster.frontier("f1"), await cluster.frontier("f2")
    one, two = await first.edge("one"), await second.edge("two")
    service = await cluster.service()
    assert await service.call(one.edge_id, "who") == b"one at f1"
    assert await service.call(two.edge_id, "who") == b"two at f2"
    asked = service.frontlas.asked
    assert await service.call(two.edge_id, "who") == b"two at f2"
    lists = service.roster.lists
    assert service.frontlas.asked - asked <= service.roster.lists - lists + 1
    members = service.roster.members.values()
    assert {member.reconnector.client_id for member in members if member.online} == {service.service_id}
    assert service.service_id != 0


@pytest_twisted.ensureDeferred
async def test_what_edges_send_comes_from_every_frontier(cluster: Cluster) -> None:
    frontiers = [await cluster.frontier("f1"), await cluster.frontier("f2")]
    service = await cluster.service(topics=["t"])
    await service.register("echo", lambda request: request.data)
    frontiers.append(await cluster.frontier("f3"))
    await until(lambda: sum(state.online for state in service.frontiers) == 3)
    await deferLater(reactor, 0.05)
    for frontier in frontiers:
        edge = await frontier.edge("e")
        assert await edge.call("echo", frontier.name.encode()) == frontier.name.encode()
        sent = edge.publish("t", b"news")
        message = await service.receive()
        assert (message.data, message.edge_id) == (b"news", edge.edge_id)
        message.ack()
        await sent
        stream = await service.open_stream(edge.edge_id)
        other = await edge.accept_stream()
        stream.write(b"raw")
        assert await other.read() == b"raw"
        assert stream in service.list_streams()
        await stream.close()


@pytest_twisted.ensureDeferred
async def test_a_frontier_that_joins_is_known_before_the_next_list(cluster: Cluster) -> None:
    await cluster.frontier("f1")
    service = await cluster.service(poll=600)
    await deferLater(reactor, 0.1)
    await cluster.frontier("f2")
    await until(lambda: sum(state.online for state in service.frontiers) == 2)
    assert service.roster.lists <= 3


@pytest_twisted.ensureDeferred
async def test_a_call_that_the_edge_may_have_begun_is_not_made_again(cluster: Cluster) -> None:
    first, second = await cluster.frontier("f1"), await cluster.frontier("f2")
    service = await cluster.service()
    edge = await first.edge("e")
    begun: list[Request] = []

    def hang(request: Request) -> Deferred[bytes]:
        begun.append(request)
        return Deferred()

    await edge.register("hang", hang)
    edge_id = edge.edge_id
    calling = service.call(edge_id, "hang")
    await until(lambda: begun)
    await service.register_get_edge_id(lambda meta: edge_id)
    moved = await second.edge("e")
    await moved.register("hang", hang)
    for connection in first.core.connections():
        connection.abort("broken")
    with pytest.raises((ForceClosed, ForceClosed), match=r"^force closed$"):
        await calling
    assert len(begun) == 1 and service.finder.retries == 0
    assert await service.call(edge_id, "who") == b"e at f2"


@pytest_twisted.ensureDeferred
async def test_an_edge_that_moved_is_found_again_with_one_retry(cluster: Cluster) -> None:
    first, second = await cluster.frontier("f1"), await cluster.frontier("f2")
    service = await cluster.service()
    edge = await first.edge("e")
    assert await service.call(edge.edge_id, "who") == b"e at f1"
    edge_id = edge.edge_id
    await edge.close()
    service_id_before = service.service_id
    await service.register_get_edge_id(lambda meta: edge_id)
    await second.edge("e")
    assert await service.call(edge_id, "who") == b"e at f2"
    assert service.finder.retries == 1
    assert service.service_id == service_id_before


@pytest_twisted.ensureDeferred
async def test_application_errors_change_nothing(cluster: Cluster) -> None:
    frontier = await cluster.frontier("f1")
    edge = await frontier.edge("e")

    def refuse(request: Request) -> bytes:
        raise HandlerError("no")

    await edge.register("refuse", refuse)
    service = await cluster.service()
    (member,) = service.roster.members.values()
    before = member.epoch
    for method, text in (("refuse", "no"), ("nothing", "no such rpc: nothing")):
        with pytest.raises(RemoteError, match=f"^{text}$"):
            await service.call(edge.edge_id, method)
    assert member.online and member.epoch == before and service.finder.retries == 0 and len(service.routes) == 1


@pytest_twisted.ensureDeferred
async def test_an_unknown_edge_has_the_text_of_frontlas(cluster: Cluster) -> None:
    frontier = await cluster.frontier("f1")
    edge = await frontier.edge("e")
    service = await cluster.service()
    with pytest.raises(UnknownEdge, match=r"^redis: nil$") as caught:
        await service.call(4711, "who")
    assert isinstance(caught.value, EdgeNotOnline)
    assert await service.call(edge.edge_id, "who") == b"e at f1"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("several", [False, True])
async def test_an_edge_of_which_frontlas_is_not_sure_holds_up_no_other(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    assert INCOMPLETE_TEXT == frontlas_client.INCOMPLETE_TEXT
    frontier = await cluster.frontier("f1")
    edge, known = await frontier.edge("e"), await frontier.edge("k")
    if several:
        cluster.frontlas()
    service = await cluster.service(cache_seconds=0.05)
    assert await service.call(known.edge_id, "who") == b"k at f1"
    find, text = cluster.registry.frontier_of_edge, f"{INCOMPLETE_TEXT}; 1 frontiers have yet to report"

    def unsure(edge_id: int) -> Deferred[Any]:
        return find(edge_id) if edge_id == edge.edge_id else fail(RegistryUnavailableError(text))

    monkeypatch.setattr(cluster.registry, "frontier_of_edge", unsure)
    await deferLater(reactor, 0.1)
    for _ in range(3):
        with pytest.raises(FrontlasUnavailable, match=text):
            await service.call(4711, "who")
        assert await service.call(edge.edge_id, "who") == b"e at f1"
        assert await service.call(known.edge_id, "who") == b"k at f1"
        await deferLater(reactor, 0.1)
    assert not service.frontlas.trouble


@pytest_twisted.ensureDeferred
async def test_a_frontier_that_dies_is_connected_to_again(cluster: Cluster) -> None:
    first, second = await cluster.frontier("f1"), await cluster.frontier("f2")
    await first.edge("one")
    two = await second.edge("two")
    service = await cluster.service(poll=30)
    gone = cluster.edges[0].edge_id
    assert await service.call(gone, "who") == b"one at f1"
    cluster.frontiers.remove(first)
    await first.die()
    await until(lambda: sum(state.online for state in service.frontiers) == 1)
    with pytest.raises((UnknownEdge, ConnectFailed)):
        await service.call(gone, "who", timeout=2)
    assert await service.call(two.edge_id, "who") == b"two at f2"
    back = await cluster.frontier("f1", first.service_port)
    await until(lambda: all(state.online for state in service.frontiers))
    edge = await back.edge("again")
    assert await service.call(edge.edge_id, "who") == b"again at f1"


@pytest_twisted.ensureDeferred
async def test_without_frontlas_the_known_goes_on(cluster: Cluster) -> None:
    first = await cluster.frontier("f1")
    known, unknown = await first.edge("known"), await first.edge("unknown")
    service = await cluster.service(cache_seconds=0.05)
    assert await service.call(known.edge_id, "who") == b"known at f1"
    address = await cluster.away()
    await deferLater(reactor, 0.1)
    assert await service.call(known.edge_id, "who") == b"known at f1"
    with pytest.raises(FrontlasUnavailable, match=r"^no Frontlas can be asked: .*" + address):
        await service.call(unknown.edge_id, "who")
    await deferLater(reactor, 0.5)
    assert all(state.online for state in service.frontiers)
    cluster.frontlas(int(address.partition(":")[2]))
    await until(lambda: not service.frontlas.trouble)
    assert await service.call(unknown.edge_id, "who") == b"unknown at f1"


@pytest_twisted.ensureDeferred
async def test_one_frontlas_of_several_is_enough(cluster: Cluster) -> None:
    frontier = await cluster.frontier("f1")
    edge, other = await frontier.edge("e"), await frontier.edge("o")
    cluster.frontlas()
    service = await cluster.service(frontlas=["127.0.0.1:1", *cluster.addresses])
    assert await service.call(edge.edge_id, "who") == b"e at f1"
    await cluster.away()
    assert await service.call(other.edge_id, "who") == b"o at f1"


@pytest_twisted.ensureDeferred
async def test_the_time_limit_covers_the_look_up(cluster: Cluster) -> None:
    frontier = await cluster.frontier("f1")
    edge = await frontier.edge("e")
    service = await cluster.service()
    silent = cluster.registry.frontier_of_edge
    try:
        cluster.registry.frontier_of_edge = lambda edge_id: deferLater(reactor, 1, lambda: None)  # type: ignore
        with pytest.raises(OperationTimeout):
            await service.call(edge.edge_id, "who", timeout=0.1)
    finally:
        cluster.registry.frontier_of_edge = silent  # type: ignore[method-assign]


@pytest_twisted.ensureDeferred
async def test_a_start_that_cannot_be_fails_with_the_reason(cluster: Cluster) -> None:
    service = await cluster.service(connect=False, frontlas=["127.0.0.1:1"])
    with pytest.raises(FrontlasUnavailable, match=r"127\.0\.0\.1:1"):
        await service.connect()
    with pytest.raises(EndClosed):
        await service.receive()
    with pytest.raises(EndClosed):
        await service.call(1, "who")


@pytest_twisted.ensureDeferred
async def test_streams_messages_and_presence_of_all_frontiers(cluster: Cluster) -> None:
    frontiers = [await cluster.frontier("f1"), await cluster.frontier("f2")]
    service = await cluster.service(name="s")
    came: list[int] = []
    left: list[int] = []
    await service.register_edge_online(lambda event: came.append(event.edge_id))
    await service.register_edge_offline(lambda event: left.append(event.edge_id))
    for frontier in frontiers:
        edge = await frontier.edge("e")
        assert came[-1] == edge.edge_id
        opened = await edge.open_stream("s", b"meta")
        accepted = await service.accept_stream()
        assert accepted.meta == b"meta"
        await opened.close()
        sent = service.publish(edge.edge_id, b"news", timeout=3)
        message = await edge.receive()
        assert message.data == b"news"
        message.ack()
        await sent
        await edge.close()
        await until(lambda gone=edge.edge_id: gone in left)
    assert len(came) == len(left) == 2


@pytest_twisted.ensureDeferred
async def test_close_ends_everything(cluster: Cluster) -> None:
    frontier = await cluster.frontier("f1")
    edge = await frontier.edge("e")
    ended: list[str] = []
    service = await cluster.service(on_offline=ended.append)
    receiving, accepting = service.receive(), service.accept_stream()
    await service.close()
    for waiting in (receiving, accepting, service.call(edge.edge_id, "who"), service.when_online()):
        with pytest.raises(EndClosed):
            await waiting
    assert not service.online and service.frontiers == [] and len(ended) == 1


@pytest_twisted.ensureDeferred
async def test_those_who_ask_for_one_edge_share_one_question(cluster: Cluster) -> None:
    edge = await (await cluster.frontier("f1")).edge("e")
    service = await cluster.service(poll=600)
    asked = service.frontlas.asked
    calls = [service.call(edge.edge_id, "who") for _ in range(20)]
    calls[0].cancel()
    for call in calls[1:]:
        assert await call == b"e at f1"
    with pytest.raises((Canceled, CancelledError)):
        await calls[0]
    assert service.frontlas.asked == asked + 1


@pytest_twisted.ensureDeferred
async def test_a_question_whose_connection_broke_is_asked_again(cluster: Cluster) -> None:
    edge = await (await cluster.frontier("f1")).edge("e")
    service = await cluster.service(poll=600)
    answer = cluster.registry.frontier_of_edge
    hanging: list[int] = []

    def hang(edge_id: int) -> Deferred[Any]:
        hanging.append(edge_id)
        cluster.registry.frontier_of_edge = answer  # type: ignore[method-assign]
        return Deferred()

    cluster.registry.frontier_of_edge = hang  # type: ignore[method-assign]
    calling = service.call(edge.edge_id, "who", timeout=4)
    await until(lambda: hanging)
    cluster.planes[0][0].factory._cut_all()
    assert await calling == b"e at f1"
    assert service.frontlas.failed == 0 and service.frontlas.trouble == ""


@pytest_twisted.ensureDeferred
async def test_a_callback_for_streams_that_fails_costs_that_stream_alone(cluster: Cluster) -> None:
    edge = await (await cluster.frontier("f1")).edge("e")
    lost: list[str] = []
    service = await cluster.service(name="s", on_offline=lost.append)
    seen: list[Any] = []

    def failing(stream: Any) -> None:
        seen.append(stream)
        raise ValueError("not this one")

    service.on_stream(failing)
    stream = await edge.open_stream("s")
    with pytest.raises(ForceClosed, match=r"^force closed: aborted$"):
        await stream.read()
    assert len(seen) == 1 and not lost
    assert await service.call(edge.edge_id, "who") == b"e at f1"


@pytest_twisted.ensureDeferred
async def test_an_endpoint_that_cannot_be_made_is_a_frontlas_that_is_away() -> None:
    def impossible(host: str, port: int) -> Any:
        raise ValueError("no such network")

    frontlas = FrontlasClient("127.0.0.1:1", reactor, impossible)
    with pytest.raises(FrontlasUnavailable, match="no such network"):
        await frontlas.holder(1)
    with pytest.raises(FrontlasUnavailable, match="no such network"):
        await frontlas.frontiers()
    frontlas.close()


@pytest.mark.parametrize("kind", [ClusterService, aio.ClusterService])
@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ("frontlas", ValueError, "frontlas 'frontlas': the port is missing"),
        (["127.0.0.1:1", "h:x"], ValueError, "frontlas 'h:x': 'x' is not a port from 0 to 65535"),
        ([], ValueError, "no address of a Frontlas was given"),
        (5, TypeError, "frontlas: expected host:port or a list of them, not 5"),
        ([5], TypeError, r"frontlas: expected host:port or a list of them, not \[5\]"),
        (b"h:1", TypeError, "frontlas: expected host:port or a list of them, not b'h:1'"),
    ],
)
def test_an_address_of_frontlas_that_is_none_is_named_at_once(
    kind: Any, given: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"^{text}$"):
        kind(given)
