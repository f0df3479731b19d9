"""A gateway in memory with its control plane, and clients of both, under a clock that moves only when told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.json_format import MessageToDict
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.test.iosim import FakeTransport, IOPump, connect, makeFakeServer
from zope.interface import implementer

from frontier_tx.clients import Edge, Service
from frontier_tx.config.frontier import FrontierConfig
from frontier_tx.config.render import to_mapping
from frontier_tx.control_plane.server import ControlPlane
from frontier_tx.rpc.contract import frontier_contract
from frontier_tx.rpc.grpc_client import GrpcClientConnection
from frontier_tx.rpc.grpc_client_call import ResponseStream
from frontier_tx.switch.presence import IIDAllocator
from frontier_tx.testing.memory import MemoryGateway
from tests.rpc.recorder import Recorder, ask
from tests.rpc.support import outcome

CONTRACT = frontier_contract()


@implementer(IIDAllocator)
class Ids:
    """Hands out the id that the test wants, or the next one."""

    def __init__(self) -> None:
        self.next = 0

    def allocate(self, in_use: Any) -> int:
        wanted, self.next = self.next, 0
        return wanted or max([0, *in_use]) + 1


@contextmanager
def a_world(**options: Any) -> Iterator[World]:
    """One gateway, gone afterwards."""
    world = World(**options)
    yield world
    world.close()


class MadeUpHost:
    """See ``server_info.Host``."""

    frontier_id = "f-1"
    draining = False
    trouble: str | None = None

    def __init__(self) -> None:
        self.left = 0
        self.peers: Callable[[], tuple[int, int]] = lambda: (0, 0)

    def not_ready(self) -> str | None:
        return self.trouble

    async def counts(self) -> tuple[int, int]:
        return self.peers()

    def addresses(self) -> dict[str, list[str]]:
        return {"edges": ["127.0.0.1:30012"], "services": ["127.0.0.1:30011"]}

    def configuration(self) -> dict[str, Any]:
        return to_mapping(FrontierConfig())

    def leave(self) -> None:
        self.left += 1


class World:
    """One gateway, its peers, and clients of its control plane."""

    def __init__(self, **options: Any) -> None:
        self.ids = Ids()
        self.gateway = MemoryGateway(allocator=self.ids)
        self.clock = self.gateway.clock
        self.core = self.gateway.core
        self.host = MadeUpHost()
        repository = self.core.repository
        self.host.peers = lambda: (len(repository.edges), len(repository.services))
        self.registry = CollectorRegistry()
        options = {"host": self.host, "metrics": self.registry, "wall_clock": self.gateway.wall_clock} | options
        self.control = ControlPlane(self.core.presence, self.clock, **options)
        self.pumps: list[IOPump] = []
        self.clients: list[GrpcClientConnection] = []
        self.client = self.connect()

    def close(self) -> None:
        """End all connections, and see that nothing is left of them."""
        for client in self.clients:
            client.abort()
        self.settle()
        table = self.control.table
        assert (self.control.factory.connections, table.calls, table.streams) == (0, 0, 0)
        self.gateway.close()

    def connect(self) -> GrpcClientConnection:
        """One more gRPC client."""
        client = GrpcClientConnection(self.clock, "test")
        self.clients.append(client)
        server = self.control.factory.buildProtocol(None)
        self.pumps.append(connect(server, makeFakeServer(server), client, FakeTransport(client, isServer=False)))
        self.settle()
        return client

    def settle(self) -> None:
        """Let everything under way get through."""
        for _ in range(5):
            for pump in self.pumps:
                pump.flush()
            self.gateway.advance()

    def edge(self, edge_id: int = 0, meta: bytes = b"", methods: tuple[str, ...] = (), **options: Any) -> Edge:
        """An edge that is online."""
        self.ids.next = edge_id
        edge = self.gateway.edge(meta=meta, **options)
        self._enter(edge, methods)
        return edge

    def service(self, service_id: int = 0, name: str = "", methods: tuple[str, ...] = (), **options: Any) -> Service:
        """A service that is online."""
        service = self.gateway.service(name=name, service_id=service_id, **options)
        self._enter(service, methods)
        return service

    def _enter(self, peer: Edge | Service, methods: tuple[str, ...]) -> None:
        self.gateway.run(peer.connect())
        for method in methods:
            self.gateway.run(peer.register(method, lambda request: request.data))

    def rest(self, target: str, verb: str = "GET", body: bytes | None = None, **headers: str) -> Recorder:
        """The answer to a REST request."""
        recorder = ask(self.control.router, verb, target, headers, body)
        self.settle()
        return recorder

    def ask(self, name: str, service: str = "controlplane.ControlPlane", **fields: Any) -> Any:
        """The answer to a gRPC call, or its error; the Deferred while there is none."""
        spec = CONTRACT.method(service, name)
        return self.call(spec, spec.request(**fields))

    def call(self, spec: Any, request: Any) -> Any:
        """The same of a request that is there already."""
        answer = self.client.unary(spec, request)
        self.settle()
        return outcome(answer)

    def until(self, ready: Callable[[], bool], seconds: float = 30.0) -> float:
        """Let time pass until something holds; gives how much passed."""
        start = self.clock.seconds()
        while not ready():
            assert self.clock.seconds() - start < seconds
            self.gateway.advance(0.1)
            self.settle()
        return self.clock.seconds() - start

    def watch(self, **fields: Any) -> Watching:
        """Follow the events."""
        spec = CONTRACT.method("frontier.v1.Events", "Watch")
        watching = Watching(self.client.stream(spec, spec.request(**fields)))
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

    def take(self) -> list[Any]:
        """The events since the last look, as plain values without their time."""
        events, self.events = self.events, []
        plain = [MessageToDict(event, preserving_proto_field_name=True) for event in events]
        for each in plain:
            del each["time"]
        return plain
