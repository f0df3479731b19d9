"""What the tests of the planes share: a table with made-up answers, and both ends of a connection in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect, makeFakeServer

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract, MethodSpec, frontier_contract, frontlas_contract
from frontier_tx.rpc.engine import Http2Limits
from frontier_tx.rpc.grpc_client import GrpcClientConnection
from frontier_tx.rpc.grpc_standard import Serving, add_standard_services
from frontier_tx.rpc.http1 import Http1Limits
from frontier_tx.rpc.listener import ControlPlaneFactory
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.rest import RestRouter
from frontier_tx.rpc.status import RpcError, Status

CONTRACT: Contract = frontlas_contract()
CLUSTER = "controlplane.ClusterService"
WATCH = "controlplane.ClusterWatch"
THROUGH = "frontier.v1.Through"


def message(name: str, **fields: Any) -> Any:
    """A message of the contract."""
    return CONTRACT.message(f"controlplane.{name}")(**fields)


def method(name: str, service: str = CLUSTER) -> MethodSpec:
    """A method of the contract."""
    return CONTRACT.method(service, name)


class MadeUp:
    """Handlers with one behaviour per method, and a note of what they saw."""

    def __init__(self) -> None:
        self.contexts: list[CallContext] = []
        self.cancelled = 0
        self.waiting: list[Deferred[Any]] = []
        self.sent = 0
        self.stopped = 0
        self.events = 3

    def get_frontier_by_edge(self, request: Any, context: CallContext) -> Any:
        """At once."""
        self.contexts.append(context)
        frontier = message("Frontier", frontier_id=f"f{request.edge_id}", advertised_sb_addr="h:1")
        return message("GetFrontierByEdgeIDResponse", fontier=frontier)

    async def list_frontiers(self, request: Any, context: CallContext) -> Any:
        """As many as the count says, of about a kilobyte each."""
        frontiers = [
            message("Frontier", frontier_id=str(n), advertised_sb_addr="x" * 1000) for n in range(request.count)
        ]
        return message("ListFrontiersResponse", cursor=request.cursor, frontiers=frontiers)

    async def list_edges(self, request: Any, context: CallContext) -> Any:
        """Waits until told to go on."""
        waiter: Deferred[Any] = Deferred()
        self.waiting.append(waiter)
        try:
            await waiter
        except Exception:
            self.cancelled += 1
            raise
        return message("ListEdgesResponse")

    def get_edge_by_id(self, request: Any, context: CallContext) -> Any:
        """Refuses."""
        raise RpcError(Status.NOT_FOUND, "redis: nil")

    def get_edges_count(self, request: Any, context: CallContext) -> Any:
        """Breaks."""
        raise ZeroDivisionError("made up")

    async def list_services(self, request: Any, context: CallContext) -> Any:
        """Gives how many identities came."""
        return message("ListServicesResponse", cursor=len(request.service_ids))

    def get_service_by_id(self, request: Any, context: CallContext) -> Any:
        """Refuses with a text that needs escaping."""
        raise RpcError(Status.FAILED_PRECONDITION, "100 % näh\n")

    def get_services_count(self, request: Any, context: CallContext) -> Any:
        """Answers with something else."""
        return message("Edge")

    async def watch(self, request: Any, context: CallContext) -> AsyncIterator[Any]:
        """Some events of about a kilobyte; then waits, or fails if the request asks for services."""
        try:
            for number in range(self.events):
                self.sent += 1
                yield message("WatchEvent", edge_id=number, addr="x" * 1000)
            if request.services:
                raise RpcError(Status.ABORTED, "enough")
            await Deferred()
        finally:
            self.stopped += 1


class Echo:
    """Answers calls with what they brought."""

    def __init__(self) -> None:
        self.contract = frontier_contract()
        self.seen: list[Any] = []

    def call_edge(self, request: Any, context: Any) -> Any:
        self.seen.append((request.edge_id, request.method, len(request.data), context.caller.name))
        return self.contract.message("frontier.v1.CallResponse")(data=request.data)

    call_service = publish_to_edge = publish_to_service = publish_to_topic = publish = call_edge


def make_table(
    clock: IReactorTime, handlers: Any = None, serving: Serving | None = None, **options: Any
) -> tuple[MethodTable, Any]:
    """A table over made-up handlers with the standard services; gives the handlers too."""
    handlers = MadeUp() if handlers is None else handlers
    table = MethodTable(CONTRACT, clock, **options)
    table.add(CLUSTER, handlers, "read")
    table.add(WATCH, handlers, "read")
    add_standard_services(table, Serving() if serving is None else serving)
    return table, handlers


class Memory:
    """A server and connections to it in memory, under a clock that moves only when told to."""

    def __init__(
        self,
        limits: ControlPlaneLimits | None = None,
        http1: Http1Limits | None = None,
        http2: Http2Limits | None = None,
        **options: Any,
    ) -> None:
        self.clock = Clock()
        self.serving = Serving()
        self.table, self.handlers = make_table(self.clock, serving=self.serving, **options)
        self.factory = ControlPlaneFactory(self.table, RestRouter(self.table), self.clock, limits, http1, http2)

    def client(self, limits: Http2Limits | None = None) -> tuple[GrpcClientConnection, IOPump]:
        """A gRPC client whose handshake is done."""
        client = GrpcClientConnection(self.clock, "test", limits=limits)
        server = self.factory.buildProtocol(None)
        pump = connect(server, makeFakeServer(server), client, FakeTransport(client, isServer=False))
        pump.flush = partial(flush, pump.flush, self.clock)
        pump.flush()
        return client, pump

    def raw(self) -> RawPeer:
        """A connection on which any bytes can be sent."""
        return RawPeer(self.factory.buildProtocol(None), self.clock)


def flush(pass_on: Callable[[], object], clock: Clock) -> None:
    """Let all get through that both ends have to say, also what waits for its turn."""
    for _ in range(1000):
        pass_on()
        if not any(call.getTime() <= clock.seconds() for call in clock.getDelayedCalls()):
            return
        clock.advance(0)
    raise AssertionError("the two ends do not come to rest")


class RawPeer:
    """The other end of a server's protocol, byte by byte."""

    def __init__(self, protocol: Any, clock: Clock) -> None:
        self.protocol = protocol
        self.clock = clock
        self.transport = makeFakeServer(protocol)
        protocol.makeConnection(self.transport)
        self.received = b""

    def send(self, data: bytes) -> bytes:
        """Send, and give what came back."""
        if not self.over:
            self.protocol.dataReceived(data)
            self.clock.advance(0)
        return self.take()

    def take(self) -> bytes:
        """What came since the last look."""
        new: bytes = self.transport.getOutBuffer() or b""
        self.received += new
        return new

    @property
    def over(self) -> bool:
        """Whether the server ended the connection."""
        return bool(self.transport.disconnecting or self.transport.disconnected)

    def lose(self) -> None:
        """Tell the server that the connection is lost."""
        self.protocol.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]


def outcome(deferred: Deferred[Any]) -> Any:
    """The result of a Deferred that has one, its exception, or the Deferred itself."""
    got: list[Any] = []

    def keep(result: Any) -> Any:
        got.append(result.value if isinstance(result, Failure) else result)
        return got[0]

    deferred.addBoth(keep)
    return got[0] if got else deferred
