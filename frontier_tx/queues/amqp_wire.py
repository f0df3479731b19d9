"""The frames of AMQP 0-9-1 that come and go with each message: publishes out, confirmations in. No I/O.

Everything else on a connection is pika's. Its own way for a message costs several times as much: a Deferred each,
headers encoded anew, and a buffer that is copied for each frame.
"""

import struct
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from pika.frame import Header, Method, decode_frame
from pika.spec import Basic, BasicProperties, Connection
from pika.spec import Channel as ChannelMethods

from frontier_tx.config.queues import AMQPProducer
from frontier_tx.queues.headers import REMEMBERED, TIME, lasting_headers
from frontier_tx.queues.record import Record

#: A frame of a method: type 1, channel, size, class, method. A confirmation goes on: tag, whether it means all before
#: it as well, end.
_METHOD = struct.Struct(">BHIHH")
_CONFIRMATION = struct.Struct(">BHIHHQBB")
_BODY = struct.Struct(">BHI")
_LONG = struct.Struct(">Q")
_END = b"\xce"
_KINDS = (1, 2, 3, 8)
_ACK, _NACK = (60, 80), (60, 120)
_CLOSES = ((10, 50), (20, 40))
#: Header and end of a frame, bytes.
_AROUND = 8
#: Stand for what differs from message to message, in the frames that are made once.
_TIME_MARK, _KEY_MARK, _STAMP_MARK = "\x01" * 13, "\x02", b"\x03" * 8
_SIZE_AT = 11


class ProtocolError(Exception):
    """What came is no AMQP 0-9-1."""


class Confirmation(NamedTuple):
    """The broker has a message, or all up to it, or refuses them."""

    tag: int
    multiple: bool
    taken: bool


class Closed(NamedTuple):
    """The broker closes the channel or the connection; the frame is pika's to answer."""

    why: str
    frame: bytes


class Frames:
    """Cuts frames from what a connection brings.

    :param most_bytes: of a frame.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> "Iterator[Confirmation | Closed | bytes]":
        """Yield confirmations, and other frames that are whole now as they are.

        :raises ProtocolError: it is no AMQP 0-9-1; the text says so.
        """
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= _AROUND:
                kind, _, size = _BODY.unpack_from(buffer, at)
                if kind not in _KINDS or size > self._most:
                    version = "another version of AMQP" if buffer.startswith(b"AMQP") else "no AMQP (does it want TLS?)"
                    raise ProtocolError(f"what answers there speaks {version}")
                end = at + size + _AROUND
                if len(buffer) < end:
                    return
                start, at = at, end
                method = _METHOD.unpack_from(buffer, start)[3:] if kind == 1 and size >= 4 else None
                if method in (_ACK, _NACK):
                    tag, multiple = _CONFIRMATION.unpack_from(buffer, start)[5:7]
                    yield Confirmation(tag, bool(multiple & 1), method == _ACK)
                    continue
                frame = bytes(buffer[start:end])
                if method in _CLOSES:
                    yield Closed(_reason(frame), frame)
                else:
                    yield frame
        finally:
            del buffer[:at]


def _reason(frame: bytes) -> str:
    found: Any = decode_frame(frame)[1]
    method: Connection.Close | ChannelMethods.Close = found.method
    return " ".join(f"{method.reply_code} {method.reply_text}".split())


class _Properties(NamedTuple):
    """The frame of a message's properties, cut where messages differ: size, time, key, timestamp."""

    start: bytes
    before_time: bytes
    timed: bool
    before_key: bytes
    before_stamp: bytes
    end: bytes


class Messages:
    """Makes the frames of messages.

    :param channel: number of the channel.
    :param frame_bytes: what the broker takes in one frame.
    :param headers: whether metadata goes into headers.
    """

    def __init__(self, channel: int, frame_bytes: int, producer: AMQPProducer, gateway: str, headers: bool) -> None:
        self._channel = channel
        self._most = frame_bytes - _AROUND
        self._producer = producer
        self._gateway = gateway
        self._headers = headers
        self._fixed: Mapping[str, Any] = {
            name: value
            for name in (
                "content_type", "content_encoding", "delivery_mode", "priority", "reply_to", "expiration", "type",
                "user_id", "app_id",
            )
            if (value := getattr(producer, name))
        }  # fmt: skip
        self._method: Callable[[str], bytes] = lru_cache(REMEMBERED)(self._make_method)
        self._properties: Callable[..., _Properties] = lru_cache(REMEMBERED)(self._make_properties)

    def frames(self, record: Record) -> bytes:
        """All frames of a message; it gets a key if it has none."""
        value = record.value
        if not record.key:
            record.key = str(uuid.uuid4())
        key = record.key.encode()
        lasting = lasting_headers(record, self._gateway) if self._headers else ()
        start, before_time, timed, before_key, before_stamp, end = self._properties(lasting, len(key))
        time = b"%013d" % int(record.when * 1000) if timed else b""
        parts = [
            self._method(record.topic), start, _LONG.pack(len(value)), before_time, time, before_key, key,
            before_stamp, _LONG.pack(int(record.when)), end,
        ]  # fmt: skip
        for at in range(0, len(value), self._most):
            piece = value[at : at + self._most]
            parts += (_BODY.pack(3, self._channel, len(piece)), piece, _END)
        return b"".join(parts)

    def _make_method(self, topic: str) -> bytes:
        producer = self._producer
        method = Basic.Publish(0, producer.exchange, topic, producer.mandatory, producer.immediate)
        made: bytes = Method(self._channel, method).marshal()
        return made

    def _make_properties(self, lasting: tuple[tuple[str, str], ...], key_length: int) -> _Properties:
        headers = {**dict(lasting), **({TIME: _TIME_MARK} if lasting else {}), **self._producer.headers}
        stamp = _LONG.unpack(_STAMP_MARK)[0]
        properties = BasicProperties(
            headers=headers or None, message_id=_KEY_MARK * key_length, timestamp=stamp, **self._fixed
        )
        whole: bytes = Header(self._channel, 0, properties).marshal()
        rest, _, end = whole[_SIZE_AT + _LONG.size :].rpartition(_STAMP_MARK)
        rest, _, before_stamp = rest.rpartition(_KEY_MARK.encode() * key_length)
        before_time, timed, before_key = rest.partition(_TIME_MARK.encode())
        return _Properties(whole[:_SIZE_AT], before_time, bool(timed), before_key, before_stamp, end)
