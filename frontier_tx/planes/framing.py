"""The parts of gRPC over HTTP/2 that are text and bytes: message frames, timeouts, messages in trailers.  Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from frontier_tx.planes.status import RpcError, Status

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of one message by default, the usual limit of gRPC."""

PREFIX = struct.Struct(">BI")

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])\Z")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_ESCAPE = re.compile(rb"[^ -$&-~]")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")


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
    """A status message for the ``grpc-message`` trailer: bytes outside printable ASCII, and ``%``, as ``%XX``."""
    return _ESCAPE.sub(lambda match: b"%%%02X" % match[0][0], text.encode("utf-8", "replace"))


def decode_message(value: bytes) -> str:
    """The text of a ``grpc-message`` trailer; a broken escape is taken literally."""
    return _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), value).decode("utf-8", "replace")
