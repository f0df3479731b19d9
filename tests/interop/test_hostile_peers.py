"""Peers that flood, drip, hang, lie or do not read: the others go on, and memory stays within bounds."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.gateways import StartedGateway
from tests.interop.raw_peer import (
    ANYBODY_META,
    CONN,
    CONN_ACK,
    DISMISS,
    HEARTBEAT,
    HEARTBEAT_ACK,
    MESSAGE,
    MESSAGE_ACK,
    REGISTER,
    REQUEST,
    RESPONSE,
    SERVICE_META,
    SESSION,
    SESSION_ACK,
    STREAM,
    Bystanders,
    Closed,
    RawPeer,
    b64,
    connected,
    frame,
    on_session,
)

pytestmark = [pytest.mark.timeout(40), pytest.mark.differs("promise 3: it does not hold up")]

MIB = 1 << 20


def resident(gateway: StartedGateway) -> int:
    """Bytes of memory that the gateway process holds."""
    text = Path(f"/proc/{gateway.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) * 1024


@pytest.fixture(scope="module")
def bystanders(module_gateway: StartedGateway) -> Iterator[Bystanders]:
    pair = Bystanders(module_gateway.edge, module_gateway.service)
    yield pair
    pair.stop()


@pytest.fixture(autouse=True)
def _stays_alive(module_gateway: StartedGateway) -> Iterator[None]:
    yield
    assert module_gateway.alive(), "\n".join(module_gateway.last_words())


@pytest.fixture(params=["edge", "service"])
def address(request: pytest.FixtureRequest, module_gateway: StartedGateway) -> str:
    return module_gateway.edge if request.param == "edge" else module_gateway.service


def flood(peer: RawPeer, data: bytes, times: int, longest: float) -> int:
    """Write `data` up to `times` times for `longest` seconds, without reading; how often it was taken."""
    until = time.monotonic() + longest
    for number in range(times):
        peer.socket.settimeout(max(0.01, until - time.monotonic()))
        try:
            peer.socket.sendall(data)
        except OSError:
            return number
    return times


def test_ten_thousand_connections_of_garbage(module_gateway: StartedGateway, bystanders: Bystanders) -> None:
    garbage = random.Random(1)
    before = resident(module_gateway)
    with bystanders.undisturbed(slowest=2.0):
        for batch in range(100):
            with contextlib.ExitStack() as stack:
                for number in range(100):
                    target = module_gateway.edge if (batch + number) % 2 else module_gateway.service
                    peer = stack.enter_context(RawPeer(target))
                    with contextlib.suppress(Closed):
                        peer.send(garbage.randbytes(garbage.choice((1, 14, 30, 300))))
    assert resident(module_gateway) - before < 64 * MIB


def test_silence_and_half_frames_before_the_handshake_end(
    module_gateway: StartedGateway, bystanders: Bystanders
) -> None:
    """10 s is how long a peer may take; the Go end gives up after the same time."""
    beginnings = [b"", b"\x01", frame(CONN, 1)[:13], frame(CONN, 1, bytes(10) + b"{}")[:-1]]
    # the declared 10 MiB must not be set aside in advance
    beginnings.append(b"\x01\x01" + bytes(8) + (10 * MIB).to_bytes(4, "big"))
    before = resident(module_gateway)
    with bystanders.undisturbed(), contextlib.ExitStack() as stack:
        peers = []
        for target in (module_gateway.edge, module_gateway.service):
            for beginning in beginnings * 20:
                peers.append(stack.enter_context(RawPeer(target)))
                peers[-1].send(beginning)
        # one keeps dripping bytes of frames that do not count, which must not keep it alive either
        dripping = stack.enter_context(RawPeer(module_gateway.edge))
        until = time.monotonic() + 25
        ended = False
        while time.monotonic() < until and not ended:
            try:
                dripping.send_frame(HEARTBEAT)
            except Closed:
                ended = True
            ended = ended or dripping.closes(0.25)
        assert ended
        assert resident(module_gateway) - before < 64 * MIB
        assert all(peer.closes(max(0.05, until + 1 - time.monotonic())) for peer in peers)


def test_handshake_and_frames_in_single_bytes(address: str, bystanders: Bystanders) -> None:
    meta = json.dumps({"meta": b64(ANYBODY_META)}).encode()
    with bystanders.undisturbed(), RawPeer(address) as peer:
        for byte in frame(CONN, 9, b"\x18\0" + bytes(8) + meta):
            peer.send(bytes([byte]))
            time.sleep(0.001)
        assert peer.read_kind(CONN_ACK, 9)[0] == 0
        for byte in frame(HEARTBEAT, 11):
            peer.send(bytes([byte]))
            time.sleep(0.001)
        assert peer.read_kind(HEARTBEAT_ACK, 11) == b""
        assert peer.answers()


def test_many_frames_in_one_segment(address: str, bystanders: Bystanders) -> None:
    with bystanders.undisturbed(), connected(address, ANYBODY_META) as peer:
        peer.send(b"".join(frame(HEARTBEAT, number) for number in range(1, 501)))
        assert {peer.read()[1] for _ in range(500)} == set(range(1, 501))


@pytest.mark.parametrize("shaken", [False, True], ids=["before_handshake", "after_handshake"])
def test_declared_lengths_set_nothing_aside(
    module_gateway: StartedGateway, bystanders: Bystanders, address: str, shaken: bool
) -> None:
    before = resident(module_gateway)
    with bystanders.undisturbed(), contextlib.ExitStack() as stack:
        for _ in range(50):
            peer = stack.enter_context(connected(address, ANYBODY_META) if shaken else RawPeer(address))
            peer.send(b"\x01\x51" + bytes(8) + (10 * MIB).to_bytes(4, "big") + b"abc")
        assert resident(module_gateway) - before < 32 * MIB


DEEP = 100_000


@pytest.mark.parametrize(
    "body",
    [
        b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"x":' + b'{"a":' * DEEP,
        b'{"value":' + b"[" * DEEP,
        b'{"timeout":' + b"9" * 100_000 + b"}",
        b'{"timeout":1e400}',
        b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(50_000)) + b"}",
        b'{"topic":"' + b"t" * 5_000_000 + b'"}',
        b'{"value":[' + b"1," * 500_000 + b"1]}",
    ],
    ids=["arrays", "objects", "open_arrays", "long_number", "infinite", "keys", "long_topic", "number_array"],
)
@pytest.mark.parametrize("kind", [MESSAGE, REQUEST, RESPONSE], ids=["message", "request", "response"])
def test_json_made_to_hurt(address: str, bystanders: Bystanders, kind: int, body: bytes) -> None:
    with bystanders.undisturbed(), connected(address, ANYBODY_META) as peer:
        with contextlib.suppress(Closed):
            peer.send_frame(kind, on_session(1, body))
        assert peer.answers() or peer.closes(2)


LARGE = 10_000_000


@pytest.mark.parametrize(
    "body",
    [
        b'{"value":[' + b"1," * (LARGE // 2) + b"1]}",
        b'{"zzz":[' + b"{}," * (LARGE // 3) + b"{}]}",
        b"{" + b'"a":1,' * (LARGE // 6) + b'"a":1}',
        b'{"topic":"' + b"\xff" * LARGE + b'"}',
    ],
    ids=["numbers", "objects", "keys", "not_utf8"],
)
def test_largest_frames_of_odd_json(
    module_gateway: StartedGateway, bystanders: Bystanders, address: str, body: bytes
) -> None:
    """No library writes such bodies; reading them must cost neither the others' time nor much memory."""
    before = resident(module_gateway)
    with bystanders.undisturbed(), connected(address, ANYBODY_META) as peer:
        with contextlib.suppress(Closed):
            peer.send_frame(MESSAGE, on_session(1, body))
        assert peer.answers() or peer.closes(2)
        assert resident(module_gateway) - before < 96 * MIB


TIMES = [
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00-23:59", "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:59.999999999Z", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00+99:99",
    "1969-12-31T23:59:59Z",
]  # fmt: skip


@pytest.mark.parametrize("text", TIMES)
@pytest.mark.parametrize("key", ["deadline", "context"])
def test_times_at_the_edge_of_the_calendar(
    module_gateway: StartedGateway, bystanders: Bystanders, key: str, text: str
) -> None:
    """A call with such a deadline is answered, or ends its own connection; the edge that is called stays."""
    with (
        bystanders.undisturbed(),
        connected(module_gateway.edge) as edge,
        connected(module_gateway.service, SERVICE_META) as service,
    ):
        value = {"deadline": text} if key == "context" else text
        fields = {"key": b64(b"m"), "custom": b64(edge.client_id.to_bytes(8, "big")), key: value}
        body = (1).to_bytes(8, "big") + json.dumps(fields).encode()
        number = service.send_frame(REQUEST, body)
        with contextlib.suppress(TimeoutError):
            _, asked, _ = edge.read(0.3)
            edge.send_frame(RESPONSE, on_session(1, {"key": b64(b"m")}), asked)
        try:
            service.read_kind(RESPONSE, number, 3)
        except Closed:
            pass
        else:
            assert service.answers()
        assert edge.answers()


def test_sessions_to_nobody_without_end(address: str, bystanders: Bystanders) -> None:
    with bystanders.undisturbed(), connected(address, ANYBODY_META) as peer:
        body = bytes([0, 0x10])
        opens = b"".join(
            frame(SESSION, number, body + number.to_bytes(8, "big") + b'{"peer":"4242"}')
            for number in range(100_001, 103_001)
        )
        flood(peer, opens, 1, 5)
        with contextlib.suppress(Closed):
            peer.read_kind(SESSION_ACK)
            peer.read_kind(DISMISS)


def test_sessions_that_are_never_finished(module_gateway: StartedGateway, bystanders: Bystanders) -> None:
    """The edge never acks what the service opens to it: those opens must end, others go on."""
    with (
        bystanders.undisturbed(),
        connected(module_gateway.edge) as edge,
        connected(module_gateway.service, SERVICE_META) as service,
    ):
        peer = json.dumps({"peer": str(edge.client_id)}).encode()
        for number in range(1, 501):
            service.send_frame(SESSION, b"\0\x10" + (number + 1000).to_bytes(8, "big") + peer)
        assert service.answers()
    assert connected(module_gateway.edge).answers()


def test_session_ids_that_clash(module_gateway: StartedGateway, bystanders: Bystanders, address: str) -> None:
    with bystanders.undisturbed(), connected(address, ANYBODY_META) as peer:
        for negotiate in (0, 1, 1, 7, 7, 2**64 - 1):
            for acquire in (b"\0\0", b"\0\x10"):
                peer.send_frame(SESSION, acquire + negotiate.to_bytes(8, "big") + b'{"peer":"raw"}')
        assert peer.answers() or peer.closes(2)


def test_registrations_without_end(bystanders: Bystanders, module_gateway: StartedGateway) -> None:
    with bystanders.undisturbed(), connected(module_gateway.service, SERVICE_META) as peer:
        names = b"".join(
            frame(REGISTER, number, (1).to_bytes(8, "big") + b"method-%d" % number) for number in range(1, 20_001)
        )
        flood(peer, names, 1, 5)
        assert peer.answers() or peer.closes(2)


def test_odd_method_names(bystanders: Bystanders, module_gateway: StartedGateway) -> None:
    with bystanders.undisturbed(), connected(module_gateway.service, SERVICE_META) as peer:
        for name in (b"", b"\xff\xfe", b"\0", b"n" * 1_000_000, b'"'):
            peer.send_frame(REGISTER, (1).to_bytes(8, "big") + name)
        assert peer.answers() or peer.closes(2)


@pytest.mark.parametrize("kind", [HEARTBEAT, REQUEST, STREAM, MESSAGE], ids=["heartbeat", "request", "raw", "message"])
def test_peer_that_sends_and_never_reads(
    module_gateway: StartedGateway, bystanders: Bystanders, address: str, kind: int
) -> None:
    """Its answers pile up: beyond a bound it is not read any more, or dropped."""
    before = resident(module_gateway)
    bodies = {
        HEARTBEAT: b"",
        STREAM: (1).to_bytes(8, "big") + bytes(1000),
        REQUEST: on_session(1, {"key": b64(b"x" * 500)}),
        MESSAGE: on_session(1, {"topic": "nobody" * 50}),
    }
    block = b"".join(frame(kind, number, bodies[kind]) for number in range(1, 501))
    with bystanders.undisturbed(slowest=2.0):
        peer = RawPeer(address, receive_buffer=4096)
        peer.shake_hands(ANYBODY_META)
        with peer:
            flood(peer, block, 200, 3)
            assert resident(module_gateway) - before < 64 * MIB


def test_edge_that_does_not_read_what_it_is_sent(module_gateway: StartedGateway, bystanders: Bystanders) -> None:
    before = resident(module_gateway)
    slow = RawPeer(module_gateway.edge, receive_buffer=4096)
    slow.shake_hands()
    with bystanders.undisturbed(slowest=2.0), slow, connected(module_gateway.service, SERVICE_META) as service:
        fields = {"value": b64(bytes(16_000)), "custom": b64(slow.client_id.to_bytes(8, "big"))}
        flood(service, frame(MESSAGE, 77, on_session(1, fields)), 6000, 3)
        assert resident(module_gateway) - before < 96 * MIB
        # the honest one that wrote to it is not punished for ever
        assert connected(module_gateway.service, SERVICE_META).answers()


def test_stream_that_is_not_read(module_gateway: StartedGateway, bystanders: Bystanders) -> None:
    before = resident(module_gateway)
    slow = RawPeer(module_gateway.edge, receive_buffer=4096)
    slow.shake_hands()
    with bystanders.undisturbed(slowest=2.0), slow, connected(module_gateway.service, SERVICE_META) as service:
        service.send_frame(
            SESSION, b"\0\x10" + (99).to_bytes(8, "big") + json.dumps({"peer": str(slow.client_id)}).encode()
        )
        while True:
            kind, number, body = slow.read()
            if kind == SESSION:
                slow.send_frame(SESSION_ACK, body[:2] + body[2:10] + body[2:10] + b"{}", number)
                break
        session = service.read_kind(SESSION_ACK)[10:18]
        flood(service, frame(STREAM, 1, session + bytes(32_000)), 4000, 3)
        assert resident(module_gateway) - before < 96 * MIB


def test_answers_that_nobody_asked_for(module_gateway: StartedGateway, bystanders: Bystanders) -> None:
    """An edge answers twice, late, with foreign ids and for others: the asker gets one answer, its own."""
    with (
        bystanders.undisturbed(),
        connected(module_gateway.edge) as edge,
        connected(module_gateway.edge) as liar,
        connected(module_gateway.service, SERVICE_META) as service,
    ):
        tail = b64(edge.client_id.to_bytes(8, "big"))
        numbers = [service.send_frame(REQUEST, on_session(1, {"key": b64(b"m"), "custom": tail})) for _ in range(3)]
        asked = [edge.read()[1] for _ in numbers]
        lie = on_session(1, {"key": b64(b"m"), "value": b64(b"lie")})
        truth = on_session(1, {"key": b64(b"m"), "value": b64(b"truth")})
        for near in range(min(asked) - 20, max(asked) + 20):
            liar.send_frame(RESPONSE, lie, near)
            liar.send_frame(MESSAGE_ACK, lie, near)
        assert liar.answers()
        for number in asked:
            edge.send_frame(RESPONSE, truth, number)
            edge.send_frame(RESPONSE, lie, number)
        assert edge.answers()
        got = {}
        for _ in numbers:
            kind, number, body = service.read()
            assert kind == RESPONSE
            got[number] = json.loads(body[8:])["value"]
        assert got == dict.fromkeys(numbers, b64(b"truth"))
        with pytest.raises(TimeoutError):
            service.read(0.2)


def test_same_packet_id_twice(module_gateway: StartedGateway, bystanders: Bystanders) -> None:
    """Both are passed on; the connection and the edge stay."""
    with (
        bystanders.undisturbed(),
        connected(module_gateway.edge) as edge,
        connected(module_gateway.service, SERVICE_META) as service,
    ):
        body = on_session(1, {"key": b64(b"m"), "custom": b64(edge.client_id.to_bytes(8, "big"))})
        service.send(frame(REQUEST, 5, body) * 2)
        with contextlib.suppress(TimeoutError):
            for _ in range(2):
                edge.send_frame(RESPONSE, on_session(1, {"key": b64(b"m")}), edge.read(1)[1])
        assert edge.answers()
        assert service.answers()


def test_broken_answer_fails_the_call(module_gateway: StartedGateway, bystanders: Bystanders) -> None:
    """The edge that sends it is dropped; whoever called it learns so at once."""
    with bystanders.undisturbed(), connected(module_gateway.service, SERVICE_META) as service:
        edge = connected(module_gateway.edge)
        with edge:
            tail = b64(edge.client_id.to_bytes(8, "big"))
            number = service.send_frame(REQUEST, on_session(1, {"key": b64(b"m"), "custom": tail}))
            edge.send_frame(RESPONSE, on_session(1, b'{"value":'), edge.read()[1])
            assert edge.closes(2)
        fields = json.loads(service.read_kind(RESPONSE, number, 2)[8:])
        assert fields["error"] == "force closed"


def test_half_open_edge_is_replaced_at_once(module_gateway: StartedGateway, bystanders: Bystanders) -> None:
    """The old connection answers nothing, as behind a network that drops everything."""
    with bystanders.undisturbed(), RawPeer(module_gateway.edge) as old, RawPeer(module_gateway.edge) as new:
        old.shake_hands(flags=0x10, wanted=987_654)
        at = time.monotonic()
        new.shake_hands(flags=0x10, wanted=987_654)
        assert time.monotonic() - at < 1
        assert new.client_id == 987_654
        with connected(module_gateway.service, SERVICE_META) as service:
            tail = b64((987_654).to_bytes(8, "big"))
            service.send_frame(REQUEST, on_session(1, {"key": b64(b"m"), "custom": tail}))
            assert new.read()[0] == REQUEST


def test_reset_in_the_middle(module_gateway: StartedGateway, bystanders: Bystanders, address: str) -> None:
    with bystanders.undisturbed():
        for number in range(200):
            peer = connected(address, ANYBODY_META) if number % 2 else RawPeer(address)
            with contextlib.suppress(Closed):
                peer.send(frame(STREAM, 1, (1).to_bytes(8, "big") + bytes(100)) + b"\x01\x51")
            linger = b"\x01\0\0\0\0\0\0\0"
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            peer.socket.close()
