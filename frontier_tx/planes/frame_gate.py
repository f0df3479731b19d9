"""Looks at the HTTP/2 frames of a peer before the HTTP/2 engine does.  Pure.

Two things are done here that the engine (h2) cannot do: it closes itself on any GOAWAY although calls under way may
still end, and it does not count frames that cost the receiver work and the sender nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LAST_STREAM_ID = 2**31 - 1

_DATA, _HEADERS, _GOAWAY = 0, 1, 7
_HEADER = 9
_END_STREAM = 1
_MAX_GOAWAY = 16_384
_MAX_FRAME = 16_384


class FrameTooLong(ValueError):
    """A frame announces more than this end ever allowed; the engine would first wait for all of it."""


@dataclass(frozen=True, slots=True)
class GoAway:
    """The peer takes no streams above ``last_stream_id``; ``code`` 0 is an orderly end."""

    last_stream_id: int
    code: int
    text: bytes = b""

    def serialize(self) -> bytes:
        """The frame."""
        payload = struct.pack(">II", self.last_stream_id, self.code) + self.text
        return struct.pack(">I", len(payload))[1:] + bytes((_GOAWAY, 0, 0, 0, 0, 0)) + payload


class FrameGate:
    """Passes frames on, keeps GOAWAY frames back, and weighs the ones that move nothing forward.

    ``skip`` bytes at the start (the client's preface) are passed on unseen. ``weight`` grows by one for each control
    frame and each empty DATA frame. Resets of streams count no more than others: a caller may change its mind about
    many calls at once, but not thousands of times in a second.
    """

    def __init__(self, skip: int = 0) -> None:
        self.weight = 0
        self._skip = skip
        self._partial = b""
        self._withheld: bytearray | None = None

    def feed(self, data: bytes) -> tuple[bytes, list[GoAway]]:
        """What is for the engine, and the GOAWAY frames that ended in ``data``.

        Raises ``FrameTooLong``.
        """
        if self._partial:
            data, self._partial = self._partial + data, b""
        kept: list[bytes] = []
        goaways: list[GoAway] = []
        start = position = 0
        size = len(data)
        while position < size:
            if self._withheld is not None:
                taken = data[position : position + self._skip]
                self._withheld += taken
                position += len(taken)
                self._skip -= len(taken)
                start = position
                if not self._skip:
                    goaways.append(_parse(bytes(self._withheld)))
                    self._withheld = None
            elif self._skip:
                step = min(self._skip, size - position)
                self._skip -= step
                position += step
            elif size - position < _HEADER:
                self._partial = data[position:]
                break
            else:
                length = int.from_bytes(data[position : position + 3], "big")
                kind = data[position + 3]
                if kind == _GOAWAY and 8 <= length <= _MAX_GOAWAY:
                    kept.append(data[start:position])
                    self._withheld = bytearray()
                    self._skip = length
                    position += _HEADER
                    start = position
                    continue
                if length > _MAX_FRAME:
                    raise FrameTooLong(f"a frame of {length} bytes, at most {_MAX_FRAME} are taken")
                self._weigh(kind, length, data[position + 4])
                self._skip = length
                position += _HEADER
        if not kept and not goaways and start == 0 and position == size:
            return data, goaways
        kept.append(data[start:position])
        return b"".join(kept), goaways

    def _weigh(self, kind: int, length: int, flags: int) -> None:
        if kind == _DATA:
            if not length and not flags & _END_STREAM:
                self.weight += 1
        elif kind != _HEADERS:
            self.weight += 1


def _parse(payload: bytes) -> GoAway:
    last, code = struct.unpack_from(">II", payload)
    return GoAway(last & LAST_STREAM_ID, code, payload[8:])
