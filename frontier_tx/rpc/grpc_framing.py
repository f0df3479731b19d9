"""The parts of gRPC over HTTP/2 that are text and bytes: message frames, timeouts, messages in trailers.  Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from frontier_tx.rpc.status import RpcError, Status

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of one message by default, the usual limit of gRPC."""

PACKED = 40
"""Packed numbers that cost the decoder as much as one field."""
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)
_FIXED = {1: 8, 5: 4}
_UNFINISHED = bytes(range(128, 256))

PREFIX = struct.Struct(">BI")

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])\Z")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_ESCAPE = re.compile(rb"[^ -$&-~]")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")


MAX_STATUS_MESSAGE = 4096
"""Bytes of a status message, since usual clients take 8 KiB of trailers and lose the whole status beyond that."""


def frame(message: bytes) -> bytes:
    """A message as it stands in DATA frames, uncompressed."""
    return PREFIX.pack(0, len(message)) + message


class MessageReader:
    """Cuts the bytes of one stream into messages of at most ``limit`` bytes each."""

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def held(self) -> int:
        """Bytes of a message that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with ``data``; raises ``RpcError`` for what cannot be one."""
        self._buffer += data
        while len(self._buffer) >= PREFIX.size:
            compressed, length = PREFIX.unpack_from(self._buffer)
            if length > self._limit:
                raise RpcError(
                    Status.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({length} vs. {self._limit})"
                )
            if compressed:
                raise RpcError(
                    Status.INTERNAL, "grpc: compressed flag set with identity or empty encoding; send it uncompressed"
                )
            if len(self._buffer) < PREFIX.size + length:
                return
            message = bytes(self._buffer[PREFIX.size : PREFIX.size + length])
            del self._buffer[: PREFIX.size + length]
            yield message


def crowded(message: bytes, descriptor: Any, most: int) -> bool:
    """Whether a message in wire format has more than ``most`` fields, or ``PACKED`` times as many packed values, which
    would make the decoder work for long. What is malformed is left to the decoder."""
    position, end, count = 0, len(message), 0
    try:
        while position < end:
            count += 1
            if count > most:
                return True
            tag, position = _varint(message, position)
            kind = tag & 7
            if kind == 0:
                _, position = _varint(message, position)
            elif kind == 2:
                size, position = _varint(message, position)
                field = descriptor.fields_by_number.get(tag >> 3) if size > 1 else None
                if field is not None and field.is_repeated and field.type not in _TEXTS:
                    packed = message[position : position + size]
                    count += len(packed.translate(None, _UNFINISHED)) // PACKED
                position += size
            elif kind in _FIXED:
                position += _FIXED[kind]
            elif kind > 4:
                return False
    except IndexError:
        return False
    return count > most


def _varint(message: bytes, position: int) -> tuple[int, int]:
    byte = message[position]
    position += 1
    if byte < 128:
        return byte, position
    number, shift = byte & 127, 7
    while byte >= 128 and shift < 70:
        byte = message[position]
        position += 1
        number |= (byte & 127) << shift
        shift += 7
    return number, position


def parse_timeout(text: str) -> float:
    """Seconds of a ``grpc-timeout`` header; raises ``ValueError`` when it is none."""
    match = _TIMEOUT.match(text)
    if match is None:
        raise ValueError(f"malformed grpc-timeout {text[:32]!r}: up to 8 digits and one of H, M, S, m, u, n")
    return int(match[1]) * _UNITS[match[2]]


def format_timeout(seconds: float) -> str:
    """The ``grpc-timeout`` for this many seconds, rounded up to a unit that 8 digits can hold."""
    for unit, scale in (("u", 1e6), ("m", 1e3), ("S", 1.0), ("M", 1 / 60)):
        amount = int(max(seconds, 0.0) * scale) + 1
        if amount < 10**8:
            return f"{amount}{unit}"
    return "99999999H"


def encode_message(text: str) -> bytes:
    """A status message for the ``grpc-message`` trailer: bytes outside printable ASCII, and ``%``, as ``%XX``.

    A text that would take more than ``MAX_STATUS_MESSAGE`` bytes is cut, and ends with ``…``.
    """
    kept, end = text[:MAX_STATUS_MESSAGE], "…" if len(text) > MAX_STATUS_MESSAGE else ""
    while True:
        encoded = _ESCAPE.sub(lambda match: b"%%%02X" % match[0][0], (kept + end).encode("utf-8", "replace"))
        if len(encoded) <= MAX_STATUS_MESSAGE:
            return encoded
        kept, end = kept[: len(kept) * 7 // 8], "…"


def decode_message(value: bytes) -> str:
    """The text of a ``grpc-message`` trailer; a broken escape is taken literally."""
    return _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), value).decode("utf-8", "replace")
