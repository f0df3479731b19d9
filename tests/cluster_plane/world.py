"""A cluster plane over the embedded registry, under a clock that moves only when told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, IOPump, connect, makeFakeServer

from frontier_tx.rpc.contract import frontlas_contract
from frontier_tx.rpc.engine import Http2Limits
from frontier_tx.rpc.grpc_client import GrpcClientConnection
from frontier_tx.rpc.grpc_client_call import ResponseStream
from frontier_tx.rpc.status import RpcError
from frontlas_tx.cluster_plane.server import ClusterPlane
from frontlas_tx.registry.errors import RegistryUnavailableError
from frontlas_tx.registry.feed import ChangeFeed
from frontlas_tx.registry.memory import MemoryRegistry
from frontlas_tx.registry.records import Claim, Report, ReportKind
from tests.rpc.recorder import Recorder, ask
from tests.rpc.support import outcome

START = 1_800_000_000
CONTRACT = frontlas_contract()
AWAY = "redis at 127.0.0.1:6379 does not answer: connection refused; start it"


class Moody:
    """The embedded registry, until told to be away."""

    def __init__(self, clock: Clock, feed: ChangeFeed | None = None) -> None:
        self.real = MemoryRegistry(clock, feed=feed)
        self.away = False
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.real, name)
        if not callable(real) or name in ("watch", "watch_ready", "start", "stop"):
            return real

        def method(*args: Any, **options: Any) -> Any:
            self.asked.append(name)
            return fail(RegistryUnavailableError(AWAY)) if self.away else real(*args, **options)

        return method

    def go(self, away: bool) -> None:
        """Be away, or be back."""
        self.away = away
        self.real._set_ready(not away, AWAY if away else "")


@contextmanager
def a_world(feed: ChangeFeed | None = None, **options: Any) -> Iterator[World]:
    """One Frontlas without Redis, gone afterwards."""
    world = World(feed, **options)
    yield world
    world.close()


class Asked:
    """Frontiers that are asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []
        #: What is answered, or raised.
        self.answer: bytes | RpcError = b""

    async def edge_details(self, frontier_id: str, edge_id: int) -> bytes:
        return self._ask("details", frontier_id, edge_id)

    async def kick_edge(self, frontier_id: str, edge_id: int) -> None:
        self._ask("kick", frontier_id, edge_id)

    def _ask(self, *asked: Any) -> bytes:
        self.asked.append(asked)
        if isinstance(self.answer, RpcError):
            raise self.answer
        return self.answer


class World:
    """One Frontlas without Redis, and clients of it."""

    def __init__(self, feed: ChangeFeed | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.registry = Moody(self.clock, feed)
        self.registry.start()
        self.frontiers = Asked()
        options = {"frontiers": self.frontiers} | options
        self.plane = ClusterPlane(self.registry, self.clock, **options)  # type: ignore[arg-type]
        self.plane.start()
        self.router = self.plane.router
        self.pumps: list[IOPump] = []
        self.clients: list[GrpcClientConnection] = []
        self.client = self.connect()

    def close(self) -> None:
        """End all connections, and see that nothing is left of them."""
        for client in self.clients:
            client.abort()
        self.settle()
        table = self.plane.table
        assert (self.plane.factory.connections, table.calls, table.streams) == (0, 0, 0)

    def connect(self, limits: Http2Limits | None = None) -> GrpcClientConnection:
        """One more gRPC client."""
        client = GrpcClientConnection(self.clock, "test", limits=limits)
        self.clients.append(client)
        server = self.plane.factory.buildProtocol(None)
        pump = connect(server, makeFakeServer(server), client, FakeTransport(client, isServer=False))
        self.pumps.append(pump)
        self.settle()
        return client

    def settle(self) -> None:
        """Let everything under way get through."""
        for _ in range(5):
            for pump in self.pumps:
                pump.flush()
            self.clock.advance(0)

    def frontier(self, name: str, sb: str = "", eb: str = "", **options: Any) -> Claim:
        """A Frontier that is there."""
        # The same name again is the same node, whose former link is dead.
        options.setdefault("probe", lambda: succeed(False))
        claim: Claim = outcome(self.registry.claim(name, sb or f"{name}:30011", eb or f"{name}:30012", **options))
        assert isinstance(claim, Claim)
        return claim

    def report(self, claim: Claim, kind: ReportKind, *peers: int, service: str = "") -> None:
        """Events of its peers."""
        reports = [Report(kind, peer, f"10.0.0.1:{peer % 60000}", service) for peer in peers]
        assert outcome(self.registry.report(claim, reports)) == [None] * len(peers)

    def ask(self, name: str, service: str = "controlplane.ClusterService", **fields: Any) -> Any:
        """The answer to a gRPC call, or its error."""
        spec = CONTRACT.method(service, name)
        answer = self.client.unary(spec, spec.request(**fields))
        self.settle()
        return outcome(answer)

    def rest(self, target: str, verb: str = "GET") -> Recorder:
        """The answer to a REST request."""
        return ask(self.router, verb, target)

    def stream(self, client: GrpcClientConnection, **fields: Any) -> ResponseStream:
        """Follow the cluster without reading yet."""
        spec = CONTRACT.method("controlplane.ClusterWatch", "Watch")
        stream = client.stream(spec, spec.request(**fields))
        self.settle()
        return stream

    def watch(self, **fields: Any) -> Watching:
        """Follow the cluster."""
        watching = Watching(self.stream(self.client, **fields))
        self.settle()
        return watching


class Watching:
    """What a stream of events has given so far."""

    def __init__(self, stream: ResponseStream) -> None:
        self.stream = stream
        self.events: list[Any] = []
        self.end: Deferred[Any] = Deferred.fromCoroutine(self._read()).addErrback(lambda failure: failure.value)

    async def _read(self) -> None:
        async for event in self.stream:
            self.events.append(event)

    def take(self) -> list[tuple[str, Any]]:
        """Kind and subject of the events since the last look."""
        kinds = {number: name for name, number in CONTRACT.enum("controlplane.WatchEvent.Kind").items()}
        events, self.events = self.events, []
        return [(kinds[event.kind], event.edge_id or event.service_id or event.frontier_id) for event in events]
