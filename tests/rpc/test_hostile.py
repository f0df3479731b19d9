"""What a bad peer can send, and what it costs: its connection at most, never another one, never boundless memory."""

from __future__ import annotations

import random
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from hyperframe.frame import ContinuationFrame, HeadersFrame, PingFrame, SettingsFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.engine import Http2Limits
from frontier_tx.rpc.exchange import LINGER
from frontier_tx.rpc.grpc_framing import frame
from frontier_tx.rpc.http1 import Http1Limits
from frontier_tx.rpc.http2_guard import PREFACE
from tests.rpc.support import CLUSTER, Memory, RawPeer, message

HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "x"),
    (":path", f"/{CLUSTER}/GetFrontierByEdge"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
SLOW = [(name, f"/{CLUSTER}/ListEdges" if name == ":path" else value) for name, value in HEADERS]
REQUEST = frame(message("GetFrontierByEdgeIDRequest", edge_id=5).SerializeToString())


CHUNK = b"fffff\r\n" + b"z" * 0xFFFFF + b"\r\n"


@pytest.fixture
def memory() -> Memory:
    return Memory()


class Peer:
    """An HTTP/2 client of h2 that does what the test says."""

    def __init__(self, memory: Memory) -> None:
        self.begin(memory.raw())
        self.turn()

    def begin(self, raw: RawPeer) -> None:
        """Be ready to speak, without having said a word."""
        self.raw = raw
        self.h2 = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
        self.h2.initiate_connection()
        self.events: list[Event] = []

    def turn(self) -> None:
        """Exchange what there is until nothing comes."""
        while True:
            data = self.h2.data_to_send()
            back = self.raw.send(data) if data else self.raw.take()
            if not data and not back:
                return
            self.feed(back)

    def feed(self, data: bytes) -> None:
        """Take in what came from the server."""
        try:
            self.events += self.h2.receive_data(data)
        except ProtocolError:
            assert self.raw.over

    def call(self, headers: Any = HEADERS, body: bytes | None = REQUEST, end: bool = True) -> int:
        """Begin a call; gives its stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, headers, end_stream=body is None and end)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=end)
        self.turn()
        return stream

    def of(self, kind: type[Event], stream: int) -> list[Any]:
        """Events of one kind on one stream."""
        return [event for event in self.events if isinstance(event, kind) and event.stream_id == stream]  # type: ignore[attr-defined]

    @property
    def farewell(self) -> ConnectionTerminated | None:
        """The last GOAWAY that came."""
        said = [event for event in self.events if isinstance(event, ConnectionTerminated)]
        return said[-1] if said else None

    def raw_frames(self, data: bytes) -> None:
        """Send bytes past h2."""
        self.feed(self.raw.send(data))
        self.turn()


def works(memory: Memory) -> bool:
    """Whether somebody else is served."""
    peer = Peer(memory)
    stream = peer.call()
    served = bool(peer.of(StreamEnded, stream) and peer.of(DataReceived, stream))
    peer.raw.lose()
    return served


def clean(memory: Memory, *peers: Any) -> None:
    """After the connections are lost nothing of them is left."""
    for peer in peers:
        (peer.raw if isinstance(peer, Peer) else peer).lose()
    assert (memory.factory.connections, memory.table.calls, memory.table.streams) == (0, 0, 0)
    assert memory.factory.budget.held == 0
    memory.clock.advance(0)
    assert not memory.clock.getDelayedCalls()


@given(st.binary(min_size=1, max_size=300), st.booleans())
@settings(max_examples=300)
def test_any_bytes(data: bytes, preface: bool) -> None:
    memory = Memory()
    peer = memory.raw()
    peer.send(PREFACE + data if preface else data)
    peer.lose()
    clean(memory)


@pytest.mark.parametrize("seed", range(20))
def test_a_real_conversation_with_flipped_bits(seed: int) -> None:
    chance = random.Random(seed)
    memory = Memory()
    good = H2Connection(H2Configuration(client_side=True))
    good.initiate_connection()
    for _ in range(5):
        stream = good.get_next_available_stream_id()
        good.send_headers(stream, HEADERS)
        good.send_data(stream, REQUEST, end_stream=True)
    data = good.data_to_send()
    for _ in range(40):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(PREFACE), len(broken))] ^= 1 << chance.randrange(8)
        peer = memory.raw()
        for start in range(0, len(broken), 50):
            peer.send(bytes(broken[start : start + 50]))
        peer.lose()
    assert works(memory)
    clean(memory)


def test_half_a_preface_is_not_waited_for_long(memory: Memory) -> None:
    for count in range(len(PREFACE)):
        memory.raw().send(PREFACE[:count])
    assert memory.factory.connections == len(PREFACE)
    memory.clock.advance(10.1)
    assert not memory.clock.getDelayedCalls()


def test_a_preface_byte_by_byte_is_a_preface(memory: Memory) -> None:
    peer = memory.raw()
    for byte in PREFACE:
        assert not peer.received
        peer.send(bytes([byte]))
    assert peer.received[3] == 4  # SETTINGS


def test_a_preface_with_nothing_behind_it(memory: Memory) -> None:
    peer = memory.raw()
    peer.send(PREFACE)
    memory.clock.advance(9.9)
    assert not peer.over
    memory.clock.advance(0.2)
    assert peer.over
    clean(memory, peer)


def test_almost_a_preface_is_http1(memory: Memory) -> None:
    peer = memory.raw()
    assert peer.send(b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n")
    assert peer.received.startswith(b"HTTP/1.1 400") or b"404" in peer.received[:16]
    clean(memory, peer)


def test_connections_are_bounded_and_one_host_has_not_all() -> None:
    memory = Memory(ControlPlaneLimits(connections=5, connections_per_address=3))
    peers = [memory.raw() for _ in range(4)]
    assert [peer.over for peer in peers] == [False, False, False, True]
    assert (memory.factory.connections, memory.factory.refused) == (3, 1)
    peers.pop().lose()
    peers.pop().lose()
    peers.append(memory.raw())
    assert not peers[-1].over
    clean(memory, *peers)


def test_rapid_resets(memory: Memory) -> None:
    peer = Peer(memory)
    sent = 0
    while not peer.raw.over and sent < 5000:
        stream = peer.h2.get_next_available_stream_id()
        peer.h2.send_headers(stream, SLOW)
        peer.h2.send_data(stream, REQUEST, end_stream=True)
        peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
        peer.turn()
        sent += 1
    assert sent <= 2000
    assert peer.farewell is not None
    assert peer.farewell.error_code == ErrorCodes.ENHANCE_YOUR_CALM
    assert memory.table.calls == 0
    assert works(memory)
    clean(memory, peer)


def test_resets_in_one_piece(memory: Memory) -> None:
    peer = Peer(memory)
    for _ in range(90):
        stream = peer.h2.get_next_available_stream_id()
        peer.h2.send_headers(stream, HEADERS)
        peer.h2.send_data(stream, REQUEST, end_stream=True)
        peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
    peer.turn()
    assert not peer.raw.over
    assert peer.of(StreamEnded, peer.call())
    clean(memory, peer)


@pytest.mark.parametrize("frame_type", [PingFrame(0, b"12345678"), SettingsFrame(0, {4: 70000})])
def test_floods_of_control_frames(memory: Memory, frame_type: Any) -> None:
    peer = Peer(memory)
    data = frame_type.serialize() * 50
    for _ in range(200):
        if peer.raw.over:
            break
        peer.raw_frames(data)
    assert peer.raw.over
    assert peer.raw.received.count(data[:9]) < 2100
    assert works(memory)
    clean(memory, peer)


def test_pings_at_a_usual_rate_are_answered_for_ever(memory: Memory) -> None:
    peer = Peer(memory)
    for _ in range(4000):
        memory.clock.advance(0.05)
        peer.h2.ping(b"12345678")
        peer.turn()
    assert peer.of(StreamEnded, peer.call())
    clean(memory, peer)


def test_huge_headers(memory: Memory) -> None:
    peer = Peer(memory)
    waiting = peer.call(SLOW)
    for size in (17_000, 60_000, 120_000):
        big = peer.call([*HEADERS, ("x-big", "y" * size), ("x-kept", str(size))])
        (answer,) = peer.of(ResponseReceived, big)
        assert dict(answer.headers)[b"grpc-status"] == b"8"
        assert b"16384 bytes" in dict(answer.headers)[b"grpc-message"]
        # The table that both ends keep is the same as before: what refers to it is understood.
        assert peer.of(StreamEnded, peer.call([*HEADERS, ("x-kept", str(size))]))
    memory.handlers.waiting[0].callback(None)
    peer.turn()
    assert peer.of(StreamEnded, waiting)
    assert works(memory)
    clean(memory, peer)


def test_headers_without_end(memory: Memory) -> None:
    peer = Peer(memory)
    first = HeadersFrame(1, b"\x00" * 10)
    peer.raw_frames(first.serialize())
    for _ in range(1100):
        if peer.raw.over:
            break
        peer.raw_frames(ContinuationFrame(1, b"\x00\x00\x00" * 333).serialize())
        assert len(peer.raw.protocol._chosen._guard._buffer) < 20_000
    assert peer.raw.over
    clean(memory, peer)


def test_a_request_that_never_ends(memory: Memory) -> None:
    peer = Peer(memory)
    streams = [peer.call(body=REQUEST[:3], end=False), peer.call(body=None, end=False)]
    assert memory.factory.budget.held == 3
    for _ in range(16):
        memory.clock.advance(1)
        peer.turn()
    assert memory.factory.budget.held == 0
    for stream in streams:
        assert dict(peer.of(ResponseReceived, stream)[0].headers)[b"grpc-status"] == b"4"
    clean(memory, peer)


def test_more_streams_than_allowed(memory: Memory) -> None:
    peer = Peer(memory)
    for _ in range(100):
        peer.call(SLOW)
    assert memory.table.calls == 100
    peer.h2.remote_settings[3] = 1000
    peer.h2.remote_settings.acknowledge()
    refused = peer.call(SLOW)
    assert peer.of(StreamReset, refused)[0].error_code == ErrorCodes.REFUSED_STREAM
    assert memory.table.calls == 100
    memory.handlers.waiting[0].callback(None)
    peer.turn()
    assert peer.of(StreamEnded, peer.call())
    assert works(memory)
    clean(memory, peer)


def test_two_messages_in_a_unary_call(memory: Memory) -> None:
    peer = Peer(memory)
    stream = peer.call(body=REQUEST * 2)
    (answer,) = peer.of(ResponseReceived, stream)
    assert dict(answer.headers)[b"grpc-status"] == b"13"
    stream = peer.call(body=b"")
    assert dict(peer.of(ResponseReceived, stream)[0].headers)[b"grpc-status"] == b"13"
    stream = peer.call(body=REQUEST[:-1])
    assert dict(peer.of(ResponseReceived, stream)[0].headers)[b"grpc-status"] == b"13"
    stream = peer.call([*HEADERS, ("grpc-timeout", "soon")])
    assert dict(peer.of(ResponseReceived, stream)[0].headers)[b"grpc-status"] == b"13"
    clean(memory, peer)


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;x=y"])
def test_content_types_of_grpc(memory: Memory, kind: str) -> None:
    peer = Peer(memory)
    stream = peer.call([(name, kind if name == "content-type" else value) for name, value in HEADERS])
    assert peer.of(DataReceived, stream)
    clean(memory, peer)


def test_an_early_answer_ends_the_stream_of_an_endless_request(memory: Memory) -> None:
    peer = Peer(memory)
    stream = peer.call([(name, "/x/y" if name == ":path" else value) for name, value in HEADERS], None, end=False)
    assert dict(peer.of(ResponseReceived, stream)[0].headers)[b"grpc-status"] == b"12"
    assert peer.of(StreamReset, stream)[0].error_code == ErrorCodes.NO_ERROR
    clean(memory, peer)


def test_a_window_that_never_opens(memory: Memory) -> None:
    peer = Peer(memory)
    peer.h2.update_settings({4: 0})
    peer.turn()
    stream = peer.call()
    assert not peer.of(DataReceived, stream)
    for _ in range(31):
        memory.clock.advance(1)
        peer.turn()
    assert peer.of(StreamReset, stream)
    clean(memory, peer)

    def stop_reading(self) -> None:
        self.transport.producer.pauseProducing()


def test_a_connection_that_is_not_read_is_cut(memory: Memory) -> None:
    peer = Peer(memory)
    peer.raw.transport.producer.pauseProducing()
    for _ in range(29):
        memory.clock.advance(1)
    assert not peer.raw.over
    memory.clock.advance(1.1)
    assert peer.raw.over
    clean(memory, peer)


# HTTP/1.1


def test_a_request_dripped_byte_by_byte(memory: Memory) -> None:
    peer = memory.raw()
    line = b"GET /cluster/v1/frontier?edge_id=1 HTTP/1.1\r\nHost: x\r\n"
    for byte in line:
        if peer.over:
            break
        peer.send(bytes([byte]))
        memory.clock.advance(1)
    assert memory.clock.seconds() <= 16
    clean(memory, peer)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 20_000,
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK * 2,
        b"\x00\xff" * 20_000,
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_too_much_of_anything_ends_the_connection(memory: Memory, data: bytes) -> None:
    peer = memory.raw()
    for start in range(0, len(data), 10_000):
        if peer.over:
            break
        peer.send(data[start : start + 10_000])
    memory.clock.advance(LINGER)
    assert peer.over
    assert works(memory)
    clean(memory, peer)


def test_bodies_pass_unread(memory: Memory) -> None:
    peer = memory.raw()
    peer.send(b"GET /cluster/v1/frontier?edge_id=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n")
    for _ in range(50):
        peer.send(b"z" * 10_000)
    assert peer.received.startswith(b"HTTP/1.1 200")
    assert peer.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 404")
    clean(memory, peer)


def test_pipelined_requests_are_answered_in_turn(memory: Memory) -> None:
    peer = memory.raw()
    peer.send(b"GET /cluster/v1/frontier?edge_id=1 HTTP/1.1\r\nHost: x\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert peer.received.count(b"HTTP/1.1 ") == 2
    assert peer.received.index(b" 200 ") < peer.received.index(b" 404 ")
    clean(memory, peer)


def test_an_idle_connection_is_closed_and_a_used_one_kept() -> None:
    memory = Memory(http1=Http1Limits(idle=20, request=5))
    peer = memory.raw()
    for _ in range(4):
        assert peer.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        memory.clock.advance(15)
    assert not peer.over
    memory.clock.advance(6)
    assert peer.over
    clean(memory, peer)


def test_an_answer_that_is_not_read_is_given_up(memory: Memory) -> None:
    peer = memory.raw()
    peer.send(b"GET /cluster/v1/watch HTTP/1.1\r\nHost: x\r\n\r\n")
    assert memory.table.streams == 1
    peer.protocol._chosen.pauseProducing()
    for _ in range(31):
        memory.clock.advance(1)
    assert peer.over
    clean(memory, peer)


def test_plain_requests_over_http2(memory: Memory) -> None:
    peer = Peer(memory)
    plain = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/cluster/v1/frontier?edge_id=4")]
    stream = peer.call(plain, None)
    (answer,) = peer.of(ResponseReceived, stream)
    assert dict(answer.headers)[b":status"] == b"200"
    body = b"".join(event.data for event in peer.of(DataReceived, stream))
    assert b'"frontierId":"f4"' in body
    head = peer.call([(":method", "HEAD"), *plain[1:]], None)
    assert dict(peer.of(ResponseReceived, head)[0].headers)[b":status"] == b"404"
    assert not [event for event in peer.of(DataReceived, head) if event.data]
    watched = peer.call([*plain[:3], (":path", "/cluster/v1/watch")], None)
    assert b'"edgeId":"2"' in b"".join(event.data for event in peer.of(DataReceived, watched))
    peer.h2.reset_stream(watched)
    peer.turn()
    assert memory.handlers.stopped == 1
    clean(memory, peer)


def test_limits_are_settings() -> None:
    memory = Memory(http2=Http2Limits(max_streams=3))
    peer = Peer(memory)
    assert peer.h2.remote_settings.max_concurrent_streams == 3
    clean(memory, peer)


def test_answers_that_nobody_reads_are_bounded(memory: Memory) -> None:
    peer = Peer(memory)
    peer.h2.update_settings({4: 0})
    peer.turn()
    many = [(name, f"/{CLUSTER}/ListFrontiers" if name == ":path" else value) for name, value in HEADERS]
    body = frame(message("ListFrontiersRequest", count=3000).SerializeToString())
    streams = [peer.call(many, body) for _ in range(40)]
    refused = [stream for stream in streams if peer.of(ResponseReceived, stream)[0].stream_ended is not None]
    assert 25 < len(refused) < 35
    assert 30_000_000 < memory.factory.budget.unsent < 40_000_000
    assert works(memory)
    peer.h2.update_settings({4: 10_000_000})
    peer.h2.increment_flow_control_window(100_000_000)
    peer.turn()
    assert memory.factory.budget.unsent == 0
    assert peer.of(DataReceived, peer.call())
    clean(memory, peer)


def test_when_memory_is_short_those_who_read_go_on() -> None:
    memory = Memory(ControlPlaneLimits(answer_bytes=5_000_000))
    peer = Peer(memory)
    peer.h2.update_settings({4: 0})
    peer.turn()
    many = [(name, f"/{CLUSTER}/ListFrontiers" if name == ":path" else value) for name, value in HEADERS]
    body = frame(message("ListFrontiersRequest", count=600).SerializeToString())
    answers = [peer.of(ResponseReceived, peer.call(many, body))[0] for _ in range(4)]
    assert [answer.stream_ended is None for answer in answers] == [True, True, False, False]
    assert works(memory)
    peer.raw.lose()
    assert memory.factory.budget.unsent == 0
