"""Bodies of plain requests over HTTP/2: within bounds of size and time, and never at the cost of others."""

from __future__ import annotations

import json

import pytest
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from twisted.internet.task import Clock

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.exchange import LINGER
from frontier_tx.rpc.listener import ControlPlaneFactory
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.rest import RestRouter
from tests.rpc.support import THROUGH, Echo, RawPeer
from tests.rpc.test_hostile import Peer


class Server:
    def __init__(self, limits: ControlPlaneLimits | None = None) -> None:
        self.clock = Clock()
        echo = Echo()
        table = MethodTable(echo.contract, self.clock)
        table.add(THROUGH, echo, "call")
        self.factory = ControlPlaneFactory(table, RestRouter(table), self.clock, limits)

    def raw(self) -> RawPeer:
        return RawPeer(self.factory.buildProtocol(None), self.clock)

    def peer(self) -> Peer:
        return Peer(self)  # type: ignore[arg-type]


HEAD = [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", "/v1/edges/7/rpcs/echo")]


def answer(peer: Peer, stream: int) -> tuple[int, bytes]:
    (head,) = peer.of(ResponseReceived, stream)
    return int(dict(head.headers)[b":status"]), b"".join(each.data for each in peer.of(DataReceived, stream))


@pytest.fixture
def server() -> Server:
    return Server(ControlPlaneLimits(body_bytes=100_000))


def send(peer: Peer, stream: int, data: bytes, end: bool = False) -> None:
    for at in range(0, len(data), 10_000):
        peer.h2.send_data(stream, data[at : at + 10_000])
        peer.turn()
    if end:
        peer.h2.end_stream(stream)
    peer.turn()


def test_a_body_comes_back(server: Server) -> None:
    peer = server.peer()
    stream = peer.call(HEAD, None, end=False)
    send(peer, stream, b"\0\xff" * 30_000, end=True)
    assert answer(peer, stream) == (200, b"\0\xff" * 30_000)
    assert server.factory.budget.held == 0


def test_too_long_a_body_is_answered_and_then_cut(server: Server) -> None:
    peer = server.peer()
    stream = peer.call(HEAD, None, end=False)
    send(peer, stream, b"x" * 100_001)
    status, body = answer(peer, stream)
    assert (status, json.loads(body)["reason"]) == (413, "TOO_LARGE")
    assert peer.of(StreamEnded, stream)
    assert not peer.of(StreamReset, stream)
    server.clock.advance(LINGER)
    peer.turn()
    assert [event.error_code for event in peer.of(StreamReset, stream)] == [0]
    assert peer.call(HEAD, b"still here") and not peer.raw.over


def test_a_body_that_is_announced_as_too_long(server: Server) -> None:
    peer = server.peer()
    stream = peer.call([*HEAD, ("content-length", "100001")], None, end=False)
    assert answer(peer, stream)[0] == 413


def test_a_slow_body_is_given_up(server: Server) -> None:
    peer = server.peer()
    stream = peer.call(HEAD, None, end=False)
    for _ in range(59):
        server.clock.advance(1)
        send(peer, stream, b"x")
    assert not peer.of(ResponseReceived, stream)
    server.clock.advance(1)
    peer.turn()
    assert answer(peer, stream)[0] == 408
    assert server.factory.budget.held == 0


@pytest.mark.parametrize("how", ["reset", "lost"])
def test_who_leaves_in_the_middle_leaves_nothing(server: Server, how: str) -> None:
    peer = server.peer()
    stream = peer.call(HEAD, None, end=False)
    send(peer, stream, b"x" * 50_000)
    assert server.factory.budget.held == 50_000
    if how == "reset":
        peer.h2.reset_stream(stream)
        peer.turn()
    else:
        peer.raw.lose()
    assert server.factory.budget.held == 0
    peer.raw.lose()
    assert not server.clock.getDelayedCalls()


def test_one_address_does_not_hold_all_the_memory() -> None:
    server = Server(ControlPlaneLimits(request_bytes=200_000))
    peer = server.peer()
    streams = [peer.call(HEAD, None, end=False) for _ in range(4)]
    for stream in streams:
        send(peer, stream, b"x" * 40_000)
    refused = [stream for stream in streams if peer.of(ResponseReceived, stream)]
    assert [answer(peer, stream)[0] for stream in refused] == [429, 429]
    assert server.factory.budget.held == 80_000


def test_many_streams_with_bodies_that_nobody_wants(server: Server) -> None:
    peer = server.peer()
    nowhere = [*HEAD[:3], (":path", "/nowhere")]
    for _ in range(300):
        stream = peer.call(nowhere, None, end=False)
        assert answer(peer, stream)[0] == 404
    assert len(server.clock.getDelayedCalls()) < 120
    server.clock.advance(LINGER)
    peer.turn()
    stream = peer.call(HEAD, b"works")
    assert answer(peer, stream) == (200, b"works")
