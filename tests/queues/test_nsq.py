"""NSQ against a stand-in that does what the protocol's documents say; no real server was tried."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st

from frontier_tx.config.common import TLS
from frontier_tx.config.queues import MQM, NSQ, NSQProducer, QueueBuffer
from frontier_tx.queues import nsq, nsq_wire
from tests.launch.certificates import Authority
from tests.queues.nsqd import Nsqd, Refusal
from tests.queues.world import BODIES, numbered, way


@pytest.fixture
def server() -> Iterator[Nsqd]:
    made = Nsqd()
    yield made
    made.stop()


def config(server: Nsqd, **options: Any) -> MQM:
    return MQM(nsq=NSQ(enable=True, addrs=(server.addr,), producer=NSQProducer(topics=("t",)), **options))


@pytest_twisted.ensureDeferred
async def test_every_byte_arrives_in_order(server: Nsqd) -> None:
    bodies = [body for body in BODIES if body]
    async with way(config(server)) as way_:
        way_.publish("t", *bodies)
        way_.publish("u#ephemeral", b"x")
        way_.publish("t", *numbered(1000))
        await way_.ended(len(bodies) + 1001)
    assert way_.acknowledged == [*bodies, b"x", *numbered(1000)]
    assert [body for _, body in server.messages] == way_.acknowledged
    assert server.messages[len(bodies)] == ("u#ephemeral", b"x")
    assert b"PUB u#ephemeral" in server.commands and b"MPUB t" in server.commands
    assert len(server.commands) < 30, "messages of one topic go together"
    (client,) = server.clients
    assert client["client_id"] == "gw-1" and client["feature_negotiation"] is True


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_is_told_before_it_is_sent(server: Nsqd) -> None:
    async with way(config(server, max_message_bytes=100)) as way_:
        way_.publish("t", b"", b"x" * 101)
        for topic in ("a b", "", "x" * 65, "t\n", "ü", "#ephemeral"):
            way_.publish(topic, b"x")
        way_.publish("t", b"fine")
        await way_.ended(9)
        assert way_.forwarder.counters.reconnects == 0
    errors = [error for _, error in way_.told if error]
    assert errors[0] == "queue nsq: NSQ takes no empty messages"
    assert errors[1] == "queue nsq: 101 bytes are too many for NSQ, which takes 100"
    assert all("is no name of a topic" in error for error in errors[2:]) and len(errors) == 8
    assert server.messages == [("t", b"fine")]


@pytest_twisted.ensureDeferred
async def test_who_is_refused_among_many_fails_alone(server: Nsqd) -> None:
    def check(topic: str, body: bytes) -> None:
        if body == b"poison":
            raise Refusal("E_BAD_MESSAGE PUB not this")

    server.check = check
    values = [*numbered(300), b"poison", *numbered(300, 300)]
    async with way(config(server)) as way_:
        way_.publish("t", *values)
        await way_.ended(601, 30)
        assert [told for told in way_.told if told[1]] == [(b"poison", "queue nsq: E_BAD_MESSAGE PUB not this")]
        assert way_.acknowledged == numbered(600) == [body for _, body in server.messages]


@pytest_twisted.ensureDeferred
async def test_a_bound_that_nsqd_has_told_is_kept(server: Nsqd) -> None:
    server.most = 50
    async with way(config(server)) as way_:
        way_.publish("t", b"y" * 60)
        await way_.ended(1)
        assert way_.told == [(b"y" * 60, "queue nsq: E_BAD_MESSAGE PUB message too big 60 > 50")]
        await way_.until(lambda: way_.forwarder.counters.reconnects == 1)
        way_.publish("t", b"y" * 51, b"y" * 50)
        await way_.ended(3)
        assert way_.told[1:] == [
            (b"y" * 51, "queue nsq: 51 bytes are too many for NSQ, which takes 50"),
            (b"y" * 50, ""),
        ]
        assert way_.forwarder.counters.reconnects == 1


@pytest_twisted.ensureDeferred
async def test_a_topic_that_is_not_allowed_costs_one_connection(server: Nsqd) -> None:
    allowed = ["t"]

    def check(topic: str, body: bytes) -> None:
        if topic not in allowed:
            raise Refusal(f'E_UNAUTHORIZED AUTH failed for PUB on "{topic}" "" ')

    server.check = check
    error = 'queue nsq: E_UNAUTHORIZED AUTH failed for PUB on "secret" ""'
    async with way(config(server)) as way_:
        for count in range(1, 4):
            way_.publish("secret", *numbered(3))
            way_.publish("t", *numbered(3))
            await way_.ended(6 * count)
        assert [told for told in way_.told if told[1]] == [(value, error) for value in numbered(3)] * 3
        assert len(server.messages) == 9 and way_.forwarder.counters.reconnects == 1
        allowed.append("secret")
        way_.publish("secret", b"still")
        await way_.ended(19)
        assert way_.told[-1] == (b"still", error)
        way_.forwarder.broker._forbidden.clear()
        way_.publish("secret", b"now")
        await way_.ended(20)
        assert way_.told[-1] == (b"now", "")


@pytest_twisted.ensureDeferred
async def test_an_error_that_passes_is_tried_again(server: Nsqd) -> None:
    failures = iter(["E_PUB_FAILED PUB failed exiting", "E_MPUB_FAILED MPUB failed exiting"])

    def check(topic: str, body: bytes) -> None:
        for failure in failures:
            raise Refusal(failure)

    server.check = check
    async with way(config(server)) as way_:
        way_.publish("t", *numbered(10))
        await way_.ended(10)
    assert way_.acknowledged == numbered(10) == [body for _, body in server.messages]


@pytest_twisted.ensureDeferred
async def test_nothing_is_missing_after_lost_connections(server: Nsqd) -> None:
    count = 3000
    async with way(replace(config(server), buffer=QueueBuffer(seconds=60))) as way_:
        for start in range(0, count, 500):
            way_.publish("t", *numbered(500, start))
            await way_.ended(start + 1)
            server.drop()
            if start == 1000:
                server.stop()
                await way_.until(lambda: not way_.forwarder.connected)
                server.start()
        await way_.ended(count, 30)
        assert way_.acknowledged == numbered(count)
    assert list(dict.fromkeys(body for _, body in server.messages)) == numbered(count)


@pytest_twisted.ensureDeferred
async def test_signs_of_life(server: Nsqd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nsq, "HEARTBEAT", 0.4)
    async with way(config(server)) as way_:
        assert server.clients[0]["heartbeat_interval"] == 400
        server.heartbeat()
        await way_.until(lambda: server.nops == 1)
        await way_.until(lambda: not way_.forwarder.connected)
        assert way_.forwarder.trouble == "it gave no sign of life for 1 s"
        await way_.until(lambda: way_.forwarder.connected)


@pytest_twisted.ensureDeferred
async def test_tls_and_a_secret(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("nsqd", "nsqd.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "nsqd.pem", tmp_path / "nsqd.key")
    server = Nsqd(tls=context, secret="s3cret")
    tls = TLS(enable=True, ca_certs=(authority.file,), server_name="nsqd.example")
    async with way(config(server, tls=tls, auth_secret="s3cret")) as way_:
        way_.publish("t", *numbered(300))
        await way_.ended(300)
        assert way_.acknowledged == numbered(300)
    for options, said in (
        (
            {"tls": replace(tls, server_name="other.example"), "auth_secret": "s3cret"},
            "TLS: the certificate is not for other.example",
        ),
        ({"tls": tls, "auth_secret": "wrong"}, "E_AUTH_FAILED"),
        ({"tls": tls}, "mqm.nsq.auth_secret"),
    ):
        async with way(config(server, **options), connected=False) as way_:
            await way_.until(lambda said=said: said in way_.forwarder.trouble)  # type: ignore[misc]
    server.tls = None
    async with way(config(server, tls=tls), connected=False) as way_:
        await way_.until(lambda: "offers no TLS" in way_.forwarder.trouble)
    server.stop()


def test_frames_come_in_any_pieces() -> None:
    data = b"".join(
        struct.pack(">II", len(body) + 4, kind) + body for kind, body in ((0, b"OK"), (1, b"E_INVALID x"), (0, b""))
    )

    @given(st.lists(st.integers(0, len(data)), max_size=6))
    def pieces(cuts: list[int]) -> None:
        frames = nsq_wire.Frames()
        edges = [0, *sorted(cuts), len(data)]
        got = [frame for a, b in pairwise(edges) for frame in frames.feed(data[a:b])]
        assert got == [(0, b"OK"), (1, b"E_INVALID x"), (0, b"")]

    pieces()


@given(st.binary(max_size=64))
def test_any_bytes_end_a_connection_at_most(data: bytes) -> None:
    frames = nsq_wire.Frames()
    try:
        for kind, body in frames.feed(data):
            nsq_wire.error_of(body)
            nsq_wire.answer_of(body)
            assert kind >= 0
    except nsq_wire.ProtocolError:
        pass


@pytest_twisted.ensureDeferred
async def test_somebody_else_who_listens_there_is_named(server: Nsqd) -> None:
    other = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = other.accept()
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    section = replace(config(server).nsq, addrs=(f"127.0.0.1:{other.getsockname()[1]}",))
    async with way(MQM(nsq=section), connected=False) as way_:
        await way_.until(lambda: "does not speak the protocol of nsqd" in way_.forwarder.trouble)
    other.close()
