"""Checks the HTTP/2 frames of a peer before the HTTP/2 engine reads them.  Pure.

What is done here the engine (h2) cannot do: it closes itself on any GOAWAY although calls under way may still end, and
on headers that are too large although that concerns one call; it takes all that came in one go, however much that is;
and it does not count frames that cost the receiver work and the sender nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hpack import Decoder, HPACKError

from frontier_tx.rpc.header_block import BlockReader, HeaderDecoder, plain_block

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LAST_STREAM_ID = 2**31 - 1

SLICE = 2048
"""Bytes of a header block that are decoded in one go."""
MAX_BLOCK = 1024 * 1024
"""A larger header block ends the connection; one that is only over the limit of headers ends its call."""

_DATA, _HEADERS, _GOAWAY, _CONTINUATION = 0, 1, 7, 9
_HEADER = 9
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 1, 4, 8, 32
_PROTOCOL_ERROR, _COMPRESSION_ERROR, _ENHANCE_YOUR_CALM = 1, 9, 11
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


class BadBlock(ValueError):
    """Header frames that leave the two ends out of step, or have no end; ``code`` is for the GOAWAY."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Piece:
    """One frame: ``data`` is for the engine, and empty while a part of a frame is looked at; ``opens`` says of headers
    that they are complete."""

    data: bytes = b""
    goaway: GoAway | None = None
    opens: bool = False


_NOTHING = Piece()


class _Block:
    """Header frames of one stream that are decoded in slices."""

    __slots__ = ("flags", "pending", "reader", "stream", "total", "whole")

    def __init__(self, decoder: Decoder, stream: bytes, flags: int) -> None:
        self.reader = BlockReader(decoder)
        self.stream = stream
        self.flags = flags
        self.pending = bytearray()
        self.total = 0
        self.whole = False


class FrameGuard:
    """Cuts bytes into frames, keeps GOAWAY frames back, and counts frames that move no data.

    ``skip`` bytes at the start (the client's preface) are passed on unseen. ``weight`` grows by one for each control
    frame and each empty DATA frame. Resets of streams count no more than others: a caller may change its mind about
    many calls at once, but not thousands of times in a second. Header blocks of more than ``SLICE`` bytes are decoded
    here with the engine's ``decoder``, and passed on in short: what is too large costs its own call only.
    """

    def __init__(self, skip: int = 0, decoder: Decoder | None = None) -> None:
        self.weight = 0
        self._skip = skip
        self._decoder = HeaderDecoder() if decoder is None else decoder
        self._buffer = bytearray()
        self._block: _Block | None = None

    @property
    def waiting(self) -> int:
        """Bytes that were not taken yet."""
        return len(self._buffer)

    @property
    def inside(self) -> bool:
        """Whether a frame or a block of headers is incomplete."""
        return bool(self._buffer) or self._block is not None

    def feed(self, data: bytes) -> None:
        """More bytes of the peer, to be taken frame by frame."""
        self._buffer += data

    def take(self) -> Piece | None:
        """The next frame, or None when it is not complete.

        Raises ``FrameTooLong`` and ``BadBlock``, after which the connection is of no use.
        """
        if self._block is not None and (self._block.pending or self._block.whole):
            return self._go_on(self._block)
        buffer = self._buffer
        if self._skip:
            if len(buffer) < self._skip:
                return None
            skipped, self._skip = self._skip, 0
            return Piece(self._cut(skipped))
        if len(buffer) < _HEADER:
            return None
        length = buffer[0] << 16 | buffer[1] << 8 | buffer[2]
        if length > _MAX_FRAME:
            raise FrameTooLong(f"a frame of {length} bytes, at most {_MAX_FRAME} are taken")
        if len(buffer) < _HEADER + length:
            return None
        kind, flags = buffer[3], buffer[4]
        frame = self._cut(_HEADER + length)
        if self._block is not None:
            return self._continue(self._block, frame)
        if kind == _GOAWAY and length >= 8:
            return Piece(goaway=_parse(frame[_HEADER:]))
        if kind == _HEADERS:
            if length > SLICE or not flags & _END_HEADERS:
                return self._begin(frame)
            return Piece(frame, opens=True)
        if kind != _DATA or (not length and not flags & _END_STREAM):
            self.weight += 1
        return Piece(frame)

    def _cut(self, size: int) -> bytes:
        cut = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return cut

    def _begin(self, frame: bytes) -> Piece:
        flags, start, end = frame[4], _HEADER, len(frame)
        if flags & _PADDED and start < end:
            end -= frame[start]
            start += 1
        if flags & _PRIORITY:
            start += 5
        if start > end:
            # The engine answers that with the right error.
            return Piece(frame, opens=True)
        self._block = block = _Block(self._decoder, frame[5:_HEADER], flags)
        self._more(block, frame[start:end], flags)
        return _NOTHING

    def _continue(self, block: _Block, frame: bytes) -> Piece:
        if frame[3] != _CONTINUATION or frame[5:_HEADER] != block.stream:
            raise BadBlock("another frame within a block of headers", _PROTOCOL_ERROR)
        self.weight += 1
        self._more(block, frame[_HEADER:], frame[4])
        return _NOTHING

    def _more(self, block: _Block, data: bytes, flags: int) -> None:
        block.total += len(data)
        if block.total > MAX_BLOCK:
            raise BadBlock(f"headers of more than {MAX_BLOCK} bytes", _ENHANCE_YOUR_CALM)
        block.pending += data
        block.whole = bool(flags & _END_HEADERS)

    def _go_on(self, block: _Block) -> Piece:
        try:
            block.reader.feed(bytes(block.pending[:SLICE]))
            del block.pending[:SLICE]
            if block.pending or not block.whole:
                return _NOTHING
            fields = block.reader.end()
        except HPACKError as error:
            raise BadBlock(f"headers that cannot be decoded: {error}", _COMPRESSION_ERROR) from None
        self._block = None
        return Piece(_frames(plain_block(fields), block.stream, block.flags & _END_STREAM), opens=True)


def _frames(data: bytes, stream: bytes, flags: int) -> bytes:
    """Header frames with this block."""
    out = bytearray()
    parts = [data[at : at + _MAX_FRAME] for at in range(0, len(data), _MAX_FRAME)] or [b""]
    for number, part in enumerate(parts):
        bits = (0 if number else flags) | (_END_HEADERS if number == len(parts) - 1 else 0)
        kind = _CONTINUATION if number else _HEADERS
        out += len(part).to_bytes(3, "big") + bytes((kind, bits)) + stream + part
    return bytes(out)


def _parse(payload: bytes) -> GoAway:
    last, code = struct.unpack_from(">II", payload)
    return GoAway(last & LAST_STREAM_ID, code, payload[8:])
