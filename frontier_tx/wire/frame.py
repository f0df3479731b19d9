"""Frames: the 14-byte header and what follows it (docs/protocol.md, "Frames")."""

from enum import IntEnum
from itertools import repeat
from struct import Struct

import msgspec

from frontier_tx.wire.errors import IllegalPacket, OversizedPacket, ProtocolError, UnsupportedPacket

VERSION = 1
HEADER = Struct(">BBQI")
#: Header and the session id that starts every body of the session's packets.
SESSION_HEADER = Struct(">BBQIQ")
SESSION_ID = Struct(">Q")
HEADER_SIZE = HEADER.size
#: What every end on this wire accepts unless it said otherwise in the handshake.
DEFAULT_BODY_LIMIT = 10_485_760


class FrameType(IntEnum):
    """The type byte."""

    CONN = 0x01
    CONN_ACK = 0x02
    DIS_CONN = 0x11
    DIS_CONN_ACK = 0x12
    HEARTBEAT = 0x21
    HEARTBEAT_ACK = 0x22
    SESSION = 0x31
    SESSION_ACK = 0x32
    DISMISS = 0x41
    DISMISS_ACK = 0x42
    MESSAGE = 0x51
    MESSAGE_ACK = 0x52
    STREAM = 0x61
    STREAM_CREDIT = 0x62
    REQUEST = 0x71
    RESPONSE = 0x72
    REQUEST_CANCEL = 0x73
    REGISTER = 0x81
    REGISTER_ACK = 0x82


# Plain integers: an IntEnum member compares several times slower, and these are compared for each frame.
CONN, CONN_ACK = int(FrameType.CONN), int(FrameType.CONN_ACK)
DIS_CONN, DIS_CONN_ACK = int(FrameType.DIS_CONN), int(FrameType.DIS_CONN_ACK)
HEARTBEAT, HEARTBEAT_ACK = int(FrameType.HEARTBEAT), int(FrameType.HEARTBEAT_ACK)
SESSION, SESSION_ACK = int(FrameType.SESSION), int(FrameType.SESSION_ACK)
DISMISS, DISMISS_ACK = int(FrameType.DISMISS), int(FrameType.DISMISS_ACK)
MESSAGE, MESSAGE_ACK = int(FrameType.MESSAGE), int(FrameType.MESSAGE_ACK)
STREAM, STREAM_CREDIT = int(FrameType.STREAM), int(FrameType.STREAM_CREDIT)
REQUEST, RESPONSE, REQUEST_CANCEL = (
    int(FrameType.REQUEST),
    int(FrameType.RESPONSE),
    int(FrameType.REQUEST_CANCEL),
)
REGISTER, REGISTER_ACK = int(FrameType.REGISTER), int(FrameType.REGISTER_ACK)

#: Smallest body of each type. Packets without a body may declare one; it is read and ignored.
MIN_BODY = {
    CONN: 10,
    CONN_ACK: 9,
    DIS_CONN: 0,
    DIS_CONN_ACK: 1,
    HEARTBEAT: 0,
    HEARTBEAT_ACK: 0,
    SESSION: 10,
    SESSION_ACK: 18,
    DISMISS: 8,
    DISMISS_ACK: 8,
    MESSAGE: 8,
    MESSAGE_ACK: 8,
    STREAM: 8,
    STREAM_CREDIT: 16,
    REQUEST: 8,
    RESPONSE: 8,
    REQUEST_CANCEL: 10,
    REGISTER: 8,
    REGISTER_ACK: 8,
}
#: The types whose body starts with the id of the session that they belong to.
OF_SESSION = frozenset(
    (
        DISMISS, DISMISS_ACK, MESSAGE, MESSAGE_ACK, STREAM, STREAM_CREDIT, REQUEST, RESPONSE, REQUEST_CANCEL,
        REGISTER, REGISTER_ACK,
    )
)  # fmt: skip
#: The last type that belongs to no session: all of the session's have greater ones.
LAST_WITHOUT_SESSION = SESSION_ACK
#: The types that the application layer of a session speaks, as opposed to its opening and closing.
OF_APPLICATION = OF_SESSION - {DISMISS, DISMISS_ACK, STREAM_CREDIT}


class Frame(msgspec.Struct, gc=False):
    """One frame as it came.

    ``session_id`` is 0 and ``body`` the whole body for packets that belong to no session; otherwise the id
    is taken off, and ``body`` is what follows it.
    """

    type: int
    packet_id: int
    session_id: int
    body: bytes


def pack(frame_type: int, packet_id: int, body: bytes = b"") -> bytes:
    """Build a frame that belongs to no session."""
    return HEADER.pack(VERSION, frame_type, packet_id, len(body)) + body


def pack_of_session(frame_type: int, packet_id: int, session_id: int, body: bytes) -> bytes:
    """Build a frame of a session: its id goes in front of the body."""
    return SESSION_HEADER.pack(VERSION, frame_type, packet_id, len(body) + 8, session_id) + body


#: Frames cut in one go where nobody asked for fewer: all there are.
ALL = 0
#: Where fewer are asked for, what they hold is bounded too: a body costs by its length as well, but for raw bytes.
SLICE_BYTES = 65_536
_FOREVER = repeat(None)
#: An unknown type is short of any length.
_NO_TYPE = 1 << 33


class FrameReader:
    """Cuts a byte stream into frames.

    Raw bytes of a stream (type Stream) are passed on as they come, each piece as a frame of its own with the
    same ids: their boundaries carry no meaning, so a block of any size needs no buffer. Every other frame
    is held until it is whole, in one buffer that grows with what came; it never exceeds ``limit`` and a header.
    """

    __slots__ = ("limit", "failure", "_partial", "_needed", "_raw_left", "_raw_ids", "_uncut", "_at", "busy")

    def __init__(self, limit: int = DEFAULT_BODY_LIMIT) -> None:
        self.limit = limit
        #: Why no further byte is looked at; the frames before the fault were still given out.
        self.failure: ProtocolError | None = None
        self._partial: bytearray | None = None
        self._needed = 0
        self._raw_left = 0
        self._raw_ids = (0, 0)
        self._uncut = b""
        self._at = 0
        #: Whether the next bytes belong to what came before them, or to nothing at all.
        self.busy = False

    @property
    def held(self) -> int:
        """Bytes that are kept here: of a frame that is not whole (which takes up to an eighth more), and uncut ones."""
        return len(self._uncut) + len(self._partial or b"")

    @property
    def missing(self) -> int:
        """Bytes that are to come until the frame of which a part is held is whole, as far as its length is known."""
        return 0 if self._partial is None else self._needed - len(self._partial)

    @property
    def in_frame(self) -> bool:
        """Whether the peer is in the middle of a frame."""
        return self._partial is not None or self._raw_left > 0

    @property
    def more(self) -> bool:
        """Whether there is something left to cut, since fewer frames were asked for: ``feed`` is to be called again."""
        return self._at < len(self._uncut)

    def feed(self, data: bytes, most: int = ALL) -> list[Frame]:
        """Take received bytes; return the frames they complete, and set ``failure`` at the first bad header.

        :param most: no more frames than this (one more where a part of one was held), and once ``SLICE_BYTES`` were
            cut raw bytes of streams alone; 0: all. What is left stays here, and ``more`` tells so; the next call, with
            no bytes, goes on. Bytes that come earlier are put behind it.
        """
        frames: list[Frame] = []
        pos = 0
        if self.busy:
            data, pos = self._resume(data, frames)
        size = len(data)
        if pos == size:
            return frames
        unpack = SESSION_HEADER.unpack_from
        limit = self.limit
        turns, stop = _FOREVER, size
        if most != ALL:
            turns = repeat(None, most)
            if size - pos > SLICE_BYTES:
                stop = pos + SLICE_BYTES
        for _ in turns:
            left = size - pos
            if left >= 22:
                _, kind, packet_id, length, session_id = unpack(data, pos)
            elif left >= HEADER_SIZE:
                _, kind, packet_id, length = HEADER.unpack_from(data, pos)
                session_id = 0
            else:
                self._hold(data, pos, HEADER_SIZE)
                return frames
            if length > limit or length < MIN_BODY.get(kind, _NO_TYPE):
                self._fail(kind, length)
                return frames
            end = pos + HEADER_SIZE + length
            if end > size:
                if kind != STREAM or left < 22:
                    self._hold(data, pos, HEADER_SIZE + (8 if kind == STREAM else length))
                    return frames
                self._raw_left = end - size
                self._raw_ids = (packet_id, session_id)
                self.busy = True
                if left > 22:
                    frames.append(Frame(STREAM, packet_id, session_id, data[pos + 22 :]))
                return frames
            if kind > LAST_WITHOUT_SESSION:
                frames.append(Frame(kind, packet_id, session_id, data[pos + 22 : end]))
            else:
                frames.append(Frame(kind, packet_id, 0, data[pos + HEADER_SIZE : end]))
            pos = end
            if pos >= stop and (kind != STREAM or pos == size):
                break
        if pos == size:
            return frames
        self._uncut, self._at, self.busy = data, pos, True
        return frames

    def _hold(self, data: bytes, pos: int, needed: int) -> None:
        self._partial = bytearray(data[pos:] if pos else data)
        self._needed = needed
        self.busy = True

    def _resume(self, data: bytes, frames: list[Frame]) -> tuple[bytes, int]:
        """Go on where the last call stopped; return the bytes to cut, and where in them whole frames begin."""
        pos = 0
        if self.failure is not None:
            return b"", 0
        if self._uncut:
            pos = self._at
            if data:
                data, pos = self._uncut[pos:] + data, 0
            else:
                data = self._uncut
            self._uncut, self._at = b"", 0
        elif self._partial is not None:
            pos = self._complete(self._partial, data, frames)
        if self._raw_left:
            piece = data[pos : pos + self._raw_left]
            pos += len(piece)
            self._raw_left -= len(piece)
            if piece:
                frames.append(Frame(STREAM, *self._raw_ids, piece))
        self.busy = self.in_frame or self.failure is not None
        return data, pos

    def _complete(self, partial: bytearray, data: bytes, frames: list[Frame]) -> int:
        """Add to the frame that is not whole what belongs to it; return where in ``data`` that ends."""
        pos = 0
        while True:
            missing = self._needed - len(partial)
            partial += data[pos : pos + missing] if pos or missing < len(data) else data
            pos += missing
            if pos > len(data):
                return len(data)
            _, kind, packet_id, length = HEADER.unpack_from(partial)
            if length > self.limit or length < MIN_BODY.get(kind, _NO_TYPE):
                self._fail(kind, length)
                return len(data)
            whole = HEADER_SIZE + (8 if kind == STREAM else length)
            if self._needed == whole:
                break
            self._needed = whole
        self._partial = None
        if kind == STREAM:
            (session_id,) = SESSION_ID.unpack_from(partial, HEADER_SIZE)
            self._raw_left = length - 8
            self._raw_ids = (packet_id, session_id)
            if not self._raw_left:
                frames.append(Frame(STREAM, packet_id, session_id, b""))
        elif kind > LAST_WITHOUT_SESSION:
            (session_id,) = SESSION_ID.unpack_from(partial, HEADER_SIZE)
            frames.append(Frame(kind, packet_id, session_id, bytes(memoryview(partial)[22:])))
        else:
            frames.append(Frame(kind, packet_id, 0, bytes(memoryview(partial)[HEADER_SIZE:])))
        return pos

    def _fail(self, kind: int, length: int) -> None:
        """Look at nothing more, and let go of what is held."""
        self._partial = None
        self.busy = True
        if length > self.limit:
            self.failure = OversizedPacket(length, self.limit)
        elif kind not in MIN_BODY:
            self.failure = UnsupportedPacket(kind)
        else:
            self.failure = IllegalPacket(f"{FrameType(kind).name} with a body of {length} bytes")
