"""Frames of AMQP: what goes out says what pika would say, what comes is told apart."""

from __future__ import annotations

from typing import Any

import pytest
from pika import BasicProperties
from pika.frame import Heartbeat, Method, decode_frame
from pika.spec import Basic, Channel, Connection

from frontier_tx.config.queues import AMQPProducer
from frontier_tx.queues.amqp_wire import Closed, Confirmation, Frames, Messages, ProtocolError
from frontier_tx.queues.record import Record


def a_record(value: bytes = b"body", topic: str = "t", when: float = 1_700_000_000.5) -> Record:
    return Record(topic, value, 7, "10.0.0.1:5", when, 7, None)


def messages(frame_bytes: int = 131_072, headers: bool = True, **producer: Any) -> Messages:
    return Messages(1, frame_bytes, AMQPProducer(exchange="x", **producer), "gw", headers)


def decoded(data: bytes) -> tuple[Any, BasicProperties, bytes, int]:
    """Method, properties, body, and the number of frames, as pika reads them."""
    frames: list[Any] = []
    while data:
        size, frame = decode_frame(data)
        assert size
        frames.append(frame)
        data = data[size:]
    method, header, *bodies = frames
    body = b"".join(each.fragment for each in bodies)
    assert header.body_size == len(body)
    return method.method, header.properties, body, len(frames)


def test_pika_reads_what_is_sent() -> None:
    fixed: dict[str, Any] = {"delivery_mode": 2, "type": "reading", "app_id": "me", "priority": 3, "reply_to": "r"}
    made = messages(mandatory=True, immediate=True, **fixed)
    for value, when in ((b"one", 1_700_000_000.5), (b"", 1_700_000_001.0), (b"\xce" * 300, 1.0)):
        record = a_record(value, when=when)
        method, properties, body, _ = decoded(made.frames(record))
        assert (method.exchange, method.routing_key, method.mandatory, method.immediate) == ("x", "t", True, True)
        assert body == value and properties.message_id == record.key and properties.timestamp == int(when)
        assert {name: getattr(properties, name) for name in fixed} == fixed
        headers = properties.headers
        assert int(headers.pop("frontier-time")) == int(when * 1000)
        assert headers == {
            "frontier-edge-id": "7", "frontier-address": "10.0.0.1:5", "frontier-topic": "t", "frontier-gateway": "gw",
        }  # fmt: skip


def test_headers_of_the_configuration_win_and_none_need_be_there() -> None:
    own = AMQPProducer(headers={"frontier-time": "never", "floor": 4})
    _, properties, _, _ = decoded(Messages(1, 4096, own, "", True).frames(a_record()))
    assert (properties.headers["frontier-time"], properties.headers["floor"]) == ("never", 4)
    _, properties, _, _ = decoded(messages(headers=False).frames(a_record()))
    assert properties.headers is None and properties.message_id


def test_a_message_keeps_its_key_and_large_ones_go_in_pieces() -> None:
    record = a_record(bytes(range(256)) * 40)
    record.key = "k"
    _, properties, body, frames = decoded(messages(4096).frames(record))
    assert (properties.message_id, body, frames) == ("k", record.value, 2 + 3)


def test_confirmations_are_told_apart_however_they_are_cut() -> None:
    heartbeat = Heartbeat().marshal()
    stream = b"".join(
        (
            Method(1, Basic.Ack(1)).marshal(),
            heartbeat,
            Method(1, Basic.Ack(9, True)).marshal(),
            Method(1, Basic.Nack(10)).marshal(),
            Method(1, Channel.Close(404, "NOT_FOUND  - gone", 60, 40)).marshal(),
            Method(0, Connection.Close(320, "CONNECTION_FORCED", 0, 0)).marshal(),
        )
    )
    for step in (1, 7, len(stream)):
        frames = Frames(4096)
        found = [each for at in range(0, len(stream), step) for each in frames.feed(stream[at : at + step])]
        assert found[:4] == [Confirmation(1, False, True), heartbeat, Confirmation(9, True, True),
                             Confirmation(10, False, False)]  # fmt: skip
        assert [each.why for each in found[4:] if isinstance(each, Closed)] == [
            "404 NOT_FOUND - gone",
            "320 CONNECTION_FORCED",
        ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does it want TLS"),
        (b"\x15\x03\x03\x00\x02\x02\x28\x00", "does it want TLS"),
        (b"AMQP\x00\x01\x00\x00", "another version of AMQP"),
        (b"\x01\x00\x01\x7f\xff\xff\xff\x00", "no AMQP"),
    ],
)
def test_what_is_no_amqp_is_named(data: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        list(Frames(4096).feed(data))
