"""What the client of gRPC outlives: its stream numbers, a full server, answers that are too large."""

from __future__ import annotations

from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, IOPump, connect, makeFakeServer

from frontier_tx.clients.cluster.frontlas_client import FrontlasClient
from frontier_tx.config.access import AccessControl, Token
from frontier_tx.config.common import Listen
from frontier_tx.rpc.access import Access
from frontier_tx.rpc.engine import Http2Limits
from frontier_tx.rpc.grpc_client import GrpcClientConnection, NotSentError
from frontier_tx.rpc.grpc_framing import frame
from frontier_tx.rpc.status import RpcError, Status
from tests.rpc.support import Memory, RawPeer, message, method, outcome

FRONTIER_OF = method("GetFrontierByEdge")
FRONTIERS = method("ListFrontiers")
SLOW = method("ListEdges")
LAST = 2**31 - 1


@pytest.fixture
def memory() -> Memory:
    return Memory()


def look(client: GrpcClientConnection, edge_id: int = 1) -> Deferred[Any]:
    """A call that is answered at once."""
    return client.unary(FRONTIER_OF, FRONTIER_OF.request(edge_id=edge_id))


def test_a_connection_ends_with_its_last_stream_and_fails_no_call(memory: Memory) -> None:
    client, pump = memory.client()
    client.h2.highest_outbound_stream_id = LAST - 6
    answers = [look(client, number) for number in range(3)]
    assert client.spent
    assert not client.usable
    late = look(client)
    assert isinstance(outcome(late), NotSentError)
    pump.flush()
    assert [outcome(answer).fontier.frontier_id for answer in answers] == ["f0", "f1", "f2"]
    pump.flush()
    assert outcome(client.closed) is None


def test_a_client_of_frontlas_goes_on_after_its_last_stream() -> None:
    memory = Memory()
    pumps: list[IOPump] = []

    class Endpoint:
        """A way to the server in memory."""

        def connect(self, factory: Any) -> Deferred[Any]:
            client = factory.buildProtocol(None)
            server = memory.factory.buildProtocol(None)
            pumps.append(connect(server, makeFakeServer(server), client, FakeTransport(client, isServer=False)))
            return succeed(client)

    def settle() -> None:
        for _ in range(10):
            for pump in pumps:
                pump.flush()
            memory.clock.advance(0)

    endpoint: Any = Endpoint()
    atlas = FrontlasClient(["a:1", "b:2"], memory.clock, lambda host, port: endpoint)
    first = Deferred.fromCoroutine(atlas.holder(1))
    settle()
    assert outcome(first).frontier_id == "f1"
    assert atlas._current is not None
    atlas._current.h2.highest_outbound_stream_id = LAST - 4
    asked = [Deferred.fromCoroutine(atlas.holder(edge)) for edge in range(2, 30)]
    settle()
    assert [outcome(each).frontier_id for each in asked] == [f"f{edge}" for edge in range(2, 30)]
    assert len(pumps) == 2
    assert atlas._turn == 0
    assert (atlas.trouble, atlas.failed) == ("", 0)
    atlas.close()
    settle()


def test_calls_wait_while_the_server_takes_no_more() -> None:
    memory = Memory(http2=Http2Limits(max_streams=2))
    client, pump = memory.client()
    slow = [client.unary(SLOW, SLOW.request()) for _ in range(2)]
    waiting = [look(client, number) for number in range(3)]
    pump.flush()
    assert memory.table.calls == 2
    assert all(isinstance(outcome(each), Deferred) for each in waiting)
    memory.handlers.waiting[0].callback(None)
    for _ in range(5):
        pump.flush()
    assert [outcome(each).fontier.frontier_id for each in waiting] == ["f0", "f1", "f2"]
    assert outcome(slow[0]) == message("ListEdgesResponse")
    slow[1].addErrback(lambda _: None)
    client.close()
    pump.flush()


def test_a_call_that_waits_keeps_its_deadline_and_may_be_given_up() -> None:
    memory = Memory(http2=Http2Limits(max_streams=1))
    client, pump = memory.client()
    client.unary(SLOW, SLOW.request()).addErrback(lambda _: None)
    late = client.unary(FRONTIER_OF, FRONTIER_OF.request(edge_id=1), 3.0)
    cancelled, last = look(client), look(client)
    pump.flush()
    cancelled.cancel()
    memory.clock.advance(3.1)
    pump.flush()
    assert outcome(late).status is Status.DEADLINE_EXCEEDED
    assert isinstance(outcome(cancelled), CancelledError)
    client.abort()
    pump.flush()
    assert isinstance(outcome(last), NotSentError)
    assert not client._waiting


def test_calls_that_wait_end_when_the_server_goes() -> None:
    memory = Memory(http2=Http2Limits(max_streams=1))
    client, pump = memory.client()
    running = client.unary(SLOW, SLOW.request())
    waiting = look(client)
    pump.flush()
    memory.factory.drain(10)
    pump.flush()
    assert isinstance(outcome(waiting), NotSentError)
    memory.handlers.waiting[0].callback(None)
    pump.flush()
    assert outcome(running) == message("ListEdgesResponse")


def test_an_answer_that_is_too_large_fails_its_call_alone(memory: Memory) -> None:
    client, pump = memory.client()
    client.max_message = 1_000_000
    slow = client.unary(SLOW, SLOW.request())
    large = client.unary(FRONTIERS, FRONTIERS.request(count=2000))
    after = look(client)
    for _ in range(5):
        pump.flush()
    assert outcome(large).status is Status.RESOURCE_EXHAUSTED
    assert "larger than max" in outcome(large).message
    assert outcome(after).fontier.frontier_id == "f1"
    memory.handlers.waiting[0].callback(None)
    again = client.unary(FRONTIERS, FRONTIERS.request(count=900))
    for _ in range(5):
        pump.flush()
    assert outcome(slow) == message("ListEdgesResponse")
    assert len(outcome(again).frontiers) == 900


class Server:
    """A server that says what the test wants."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.client = GrpcClientConnection(self.clock, "test")
        self.raw = RawPeer(self.client, self.clock)
        self.h2 = H2Connection(
            H2Configuration(client_side=False, validate_outbound_headers=False, header_encoding=None)
        )
        self.h2.initiate_connection()
        self.turn()

    def turn(self) -> None:
        """Exchange what there is."""
        for _ in range(10):
            self.h2.receive_data(self.raw.send(self.h2.data_to_send()))


HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]
ANSWER = frame(message("GetFrontierByEdgeIDResponse", fontier=message("Frontier", frontier_id="f")).SerializeToString())


def test_trailers_that_are_too_large_or_odd_fail_their_call_alone() -> None:
    server = Server()
    odd: list[tuple[list[tuple[bytes, bytes]], Status]] = [
        ([(b"grpc-status", b"0"), (b"x", b"y" * 30_000)], Status.RESOURCE_EXHAUSTED),
        ([(b"grpc-status", b"9"), (b"grpc-message", b"z" * 200_000)], Status.RESOURCE_EXHAUSTED),
        ([(b"grpc-status", b"99")], Status.UNKNOWN),
        ([(b"grpc-status", b"x\xff")], Status.UNKNOWN),
        ([(b"grpc-status", b"5"), (b"grpc-message", b"%zz\xff")], Status.NOT_FOUND),
        ([(b"x", b"y")], Status.INTERNAL),
    ]
    for number, (trailers, status) in enumerate(odd):
        call = look(server.client)
        server.turn()
        stream = 2 * (2 * number) + 1
        server.h2.send_headers(stream, HEAD)
        server.h2.send_headers(stream, trailers, end_stream=True)
        server.turn()
        assert isinstance(outcome(call), RpcError)
        if status is not Status.INTERNAL:
            assert outcome(call).status is status
        good = look(server.client)
        server.turn()
        server.h2.send_headers(stream + 2, HEAD)
        server.h2.send_data(stream + 2, ANSWER)
        server.h2.send_headers(stream + 2, [(b"grpc-status", b"0"), (b"x", b"y")], end_stream=True)
        server.turn()
        assert outcome(good).fontier.frontier_id == "f"
    assert server.client.usable


@pytest.mark.parametrize("status", [b"abc", b"", b"\xd9\xa3"])
def test_a_status_that_is_no_number(status: bytes) -> None:
    server = Server()
    call = look(server.client)
    server.turn()
    server.h2.send_headers(1, [(b":status", status)], end_stream=True)
    server.turn()
    assert isinstance(outcome(call), RpcError)
    assert server.client.usable


def test_a_token_is_shown_to_frontlas() -> None:
    tokens = (Token(name="cluster", token="cluster-0123456789", roles=("read",)),)
    access = Access(AccessControl(tokens=tokens), Listen(addr="127.0.0.1:1"), "control_plane.access")
    memory = Memory(access=access)
    pumps: list[Any] = []

    class Endpoint:
        def connect(self, factory: Any) -> Deferred[Any]:
            client = factory.buildProtocol(None)
            server = memory.factory.buildProtocol(None)
            pumps.append(connect(server, makeFakeServer(server), client, FakeTransport(client, isServer=False)))
            return succeed(client)

    endpoint: Any = Endpoint()
    for token, holder in (("cluster-0123456789", "f1"), ("", None)):
        frontlas = FrontlasClient("a:1", memory.clock, lambda host, port: endpoint, token=token)
        asked = Deferred.fromCoroutine(frontlas.holder(1))
        for _ in range(10):
            for pump in pumps:
                pump.flush()
            memory.clock.advance(0)
        found = outcome(asked)
        assert getattr(found, "frontier_id", None) == holder
        assert holder or "a token or a client certificate with the role read is needed" in str(found)
        frontlas.close()
