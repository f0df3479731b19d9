"""HTTP/1.1: bodies, streams of events, slow and odd clients, byte by byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.addresses import Budget
from frontier_tx.rpc.door import Door
from frontier_tx.rpc.exchange import LINGER, Exchange, RestRequest
from frontier_tx.rpc.http1 import Http1Limits, HttpFactory
from frontier_tx.rpc.status import RpcError
from tests.rpc.support import RawPeer

POST = b"POST /x HTTP/1.1\r\nHost: h\r\n"
GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"


class Server:
    """Keeps requests; answers when told to, or echoes bodies."""

    def __init__(self, limits: Http1Limits | None = None, budget: Budget | None = None) -> None:
        self.clock = Clock()
        self.asked: list[tuple[RestRequest, Exchange]] = []
        self.bodies: list[Any] = []
        self.handle: Callable[[RestRequest, Exchange], None] = self.keep
        limits = Http1Limits(max_body=100_000) if limits is None else limits
        door = Door(self.clock, ControlPlaneLimits(), budget)
        self.factory = HttpFactory(lambda request, exchange: self.handle(request, exchange), self.clock, limits, door)

    def keep(self, request: RestRequest, exchange: Exchange) -> None:
        self.asked.append((request, exchange))

    def echo(self, request: RestRequest, exchange: Exchange) -> None:
        reading: Deferred[bytes] = request.body.read()
        reading.addCallbacks(lambda body: exchange.answer(200, [], body), self.failed, errbackArgs=(exchange,))

    def failed(self, failure: Any, exchange: Exchange) -> None:
        error = failure.value
        assert isinstance(error, RpcError)
        self.bodies.append(error.reason)
        exchange.answer(error.http_status, [], error.message.encode())

    def peer(self) -> RawPeer:
        return RawPeer(self.factory.buildProtocol(None), self.clock)


@pytest.fixture
def server() -> Server:
    made = Server()
    made.handle = made.echo
    return made


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def test_a_body_is_read_as_it_is(server: Server) -> None:
    peer = server.peer()
    for body in (b"", b"\0\r\n\r\n\xff", b"x" * 90_000):
        answer = peer.send(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body_of(answer) == body
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: z\r\n\r\n"
    assert body_of(peer.send(chunked + GET)).startswith(b"abcde")
    assert peer.received.count(b"HTTP/1.1 200 OK") == 5
    assert not peer.over


@given(st.lists(st.integers(1, 40), max_size=12), st.booleans())
def test_it_does_not_matter_how_bytes_are_cut(cuts: list[int], chunked: bool) -> None:
    server = Server()
    server.handle = server.echo
    peer = server.peer()
    one = (
        b"Content-Length: 7\r\n\r\n1234567"
        if not chunked
        else b"Transfer-Encoding: chunked\r\n\r\n7\r\n1234567\r\n0\r\n\r\n"
    )
    data, at = (POST + one) * 2 + GET, 0
    for cut in cuts:
        peer.send(data[at : at + cut])
        at += cut
    peer.send(data[at:])
    assert peer.received.count(b"1234567") == 2
    assert peer.received.count(b"HTTP/1.1 200 OK") == 3


def test_who_asks_first_whether_to_send_is_told(server: Server) -> None:
    peer = server.peer()
    assert peer.send(POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert body_of(peer.send(b"ab")) == b"ab"
    # Whoever is answered without being asked for the body does not know where the next request begins.
    server.handle = lambda request, exchange: exchange.answer(403, [], b"no")
    assert peer.send(POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n").startswith(b"HTTP/1.1 403")
    server.clock.advance(LINGER)
    assert peer.over


@pytest.mark.parametrize("announced", [True, False])
def test_too_long_a_body_is_answered_before_the_end(server: Server, announced: bool) -> None:
    peer = server.peer()
    if announced:
        peer.send(POST + b"Content-Length: 100001\r\n\r\n")
    else:
        peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n186a1\r\n" + b"x" * 50_000)
        assert not peer.received
        peer.send(b"x" * 50_001)
    assert peer.received.startswith(b"HTTP/1.1 413 Request Entity Too Large\r\n")
    assert server.bodies == ["TOO_LARGE"]
    assert b"Connection: close" in peer.received
    # The client is still sending; what is thrown away meanwhile keeps its answer from being destroyed.
    assert not peer.over
    peer.send(b"x" * 10_000)
    server.clock.advance(LINGER)
    assert peer.over


def test_bodies_share_a_budget() -> None:
    budget = Budget(limit=100_000)
    server = Server(budget=budget)
    server.handle = server.echo
    peers = [server.peer() for _ in range(4)]
    for peer in peers:
        peer.send(POST + b"Content-Length: 40000\r\n\r\n" + b"x" * 39_999)
    assert server.bodies == ["RESOURCE_EXHAUSTED"] * 3
    assert peers[1].received.startswith(b"HTTP/1.1 429")
    assert budget.held == 39_999
    assert body_of(peers[0].send(b"x")) == b"x" * 40_000
    assert budget.held == 0


def test_a_slow_body_is_given_up(server: Server) -> None:
    peer = server.peer()
    peer.send(POST + b"Content-Length: 1000\r\n\r\n")
    for _ in range(59):
        server.clock.advance(1)
        peer.send(b"x")
    assert not peer.received
    server.clock.advance(1.5)
    assert peer.take().startswith(b"HTTP/1.1 408 Request Timeout\r\n") or peer.received.startswith(b"HTTP/1.1 408")
    server.clock.advance(LINGER)
    assert peer.over


def test_a_slow_head_is_given_up(server: Server) -> None:
    peer = server.peer()
    peer.send(GET)
    for byte in POST:
        peer.send(bytes((byte,)))
        server.clock.advance(1)
        if peer.over:
            break
    assert peer.over
    assert server.clock.seconds() <= 16


def test_a_client_that_goes_in_the_middle_of_a_body(server: Server) -> None:
    peer = server.peer()
    peer.send(POST + b"Content-Length: 1000\r\n\r\nabc")
    peer.lose()
    assert server.bodies == ["CANCELLED"]
    assert not server.clock.getDelayedCalls()


def test_the_handler_hears_of_a_client_that_is_gone() -> None:
    server, gone = Server(), []
    peer = server.peer()
    peer.send(GET)
    server.asked[0][1].on_gone = lambda: gone.append(1)
    peer.lose()
    assert gone == [1]
    server.asked[0][1].answer(200, [], b"late")
    assert not server.clock.getDelayedCalls()


def test_events_go_in_chunks_and_wait_for_the_reader() -> None:
    server = Server()
    peer = server.peer()
    peer.send(GET)
    exchange = server.asked[0][1]
    exchange.start(200, [("Content-Type", "text/event-stream")])
    exchange.write(b"data: 1\n\n")
    assert peer.take().endswith(
        b"Transfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n9\r\ndata: 1\n\n\r\n"
    )
    peer.protocol.pauseProducing()
    waiting = exchange.write(b"x")
    assert not waiting.called
    peer.protocol.resumeProducing()
    assert waiting.called
    exchange.finish()
    assert peer.take() == b"1\r\nx\r\n0\r\n\r\n"
    assert peer.send(GET) == b""
    assert len(server.asked) == 2


def test_a_reader_that_takes_nothing_is_cut() -> None:
    server, gone = Server(), []
    peer = server.peer()
    peer.send(GET)
    exchange = server.asked[0][1]
    exchange.on_gone = lambda: gone.append(1)
    exchange.start(200, [])
    peer.protocol.pauseProducing()
    server.clock.advance(31)
    assert peer.over
    peer.lose()
    assert gone == [1]
    assert not server.clock.getDelayedCalls()


def test_http_1_0() -> None:
    server = Server()
    peer = server.peer()
    peer.send(b"GET /x HTTP/1.0\r\n\r\n")
    exchange = server.asked[0][1]
    exchange.start(200, [("Content-Type", "text/event-stream")])
    exchange.write(b"data: 1\n\n")
    exchange.finish()
    assert peer.take().endswith(b"Connection: close\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    assert peer.over


def test_a_target_in_utf_8_is_taken_as_curl_sends_it() -> None:
    server = Server()
    peer = server.peer()
    peer.send("GET /é?a=ü HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert server.asked[0][0].target == b"/%C3%A9?a=%C3%BC"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\nHost: h\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: h\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 16_400 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_request_is_refused(server: Server, data: bytes, status: int) -> None:
    peer = server.peer()
    answer = peer.send(data)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"bytearray" not in answer
    assert peer.over


def test_two_lengths_of_a_body_end_the_connection(server: Server) -> None:
    peer = server.peer()
    lengths = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = peer.send(POST + lengths + b"3\r\nabc\r\n0\r\n\r\n" + GET)
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert b"Connection: close" in answer
    assert body_of(answer) == b"abc"
    assert peer.over


def test_a_broken_body_ends_the_connection(server: Server) -> None:
    peer = server.peer()
    answer = peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    server.clock.advance(LINGER)
    assert peer.over


def test_no_header_can_be_smuggled_into_an_answer() -> None:
    server = Server()
    peer = server.peer()
    peer.send(GET)
    with pytest.raises(ValueError, match="line end"):
        server.asked[0][1].answer(200, [("Location", "x\r\nSet-Cookie: y")], b"")


def test_a_drained_connection_ends_after_its_answer() -> None:
    server = Server()
    idle, busy = server.peer(), server.peer()
    busy.send(GET)
    for peer in (idle, busy):
        peer.protocol.drain()
    assert (idle.over, busy.over) == (True, False)
    server.asked[0][1].answer(200, [], b"done")
    assert b"Connection: close" in busy.take()
    assert busy.over
