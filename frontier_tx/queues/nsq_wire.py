"""What goes over a connection to nsqd, as bytes: frames that come, commands that go. No I/O."""

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAGIC = b"  V2"
NOP = b"NOP\n"
HEARTBEAT = b"_heartbeat_"
OK = b"OK"
RESPONSE, ERROR = 0, 1
#: nsqd answers a producer with words and a small section of JSON; a frame beyond this is of another protocol.
MOST_FRAME_BYTES = 1_048_576

_HEADER = struct.Struct(">II")
_SIZE = struct.Struct(">I")
_TOPIC = re.compile(r"[.a-zA-Z0-9_-]+(#ephemeral)?")
MOST_TOPIC = 64


class ProtocolError(Exception):
    """What came is no frame of nsqd."""


class Frames:
    """Cuts frames from what a connection brings."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the kind and the body of each frame that is whole now.

        :raises ProtocolError: a size that no frame of nsqd has.
        """
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= _HEADER.size:
                size, kind = _HEADER.unpack_from(self._buffer, at)
                if not 4 <= size <= MOST_FRAME_BYTES:
                    raise ProtocolError("what answers there does not speak the protocol of nsqd")
                end = at + 4 + size
                if len(self._buffer) < end:
                    break
                body = bytes(self._buffer[at + _HEADER.size : end])
                at = end
                yield kind, body
        finally:
            del self._buffer[:at]


def is_topic(topic: str) -> bool:
    """Whether nsqd knows such names: 1 to 64 of letters, digits, ``.``, ``_`` and ``-``, maybe ``#ephemeral``."""
    return len(topic) <= MOST_TOPIC and _TOPIC.fullmatch(topic) is not None


def identify(fields: Mapping[str, Any]) -> bytes:
    """The command that says who connects, and what both are to do."""
    return b"IDENTIFY\n" + _sized(json.dumps(fields).encode())


def auth(secret: str) -> bytes:
    """The command that logs in where nsqd asks for it."""
    return b"AUTH\n" + _sized(secret.encode())


def publish(topic: str, values: Sequence[bytes]) -> bytes:
    """The command that publishes one or several messages; nsqd answers it once."""
    if len(values) == 1:
        return b"PUB " + topic.encode() + b"\n" + _sized(values[0])
    body = b"".join((_SIZE.pack(len(values)), *map(_sized, values)))
    return b"MPUB " + topic.encode() + b"\n" + _sized(body)


def error_of(body: bytes) -> tuple[str, str]:
    """Code and whole text of an error frame, such as ``E_BAD_TOPIC PUB topic name "a b" is not valid``."""
    text = " ".join(body[:300].decode("utf-8", "replace").split())
    return text.split(" ", 1)[0], text


def answer_of(body: bytes) -> Mapping[str, Any]:
    """What nsqd agreed to; nothing where it is too old to tell."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _sized(data: bytes) -> bytes:
    return _SIZE.pack(len(data)) + data
