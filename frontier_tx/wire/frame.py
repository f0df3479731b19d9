"""Frames: the 14-byte header and what follows it (docs/protocol.md, "Frames")."""

from enum import IntEnum
from struct import Struct

import msgspec

from frontier_tx.wire.errors import IllegalPacket, OversizedPacket, ProtocolError, UnsupportedPacket

VERSION = 1
HEADER = Struct(">BBQI")
#: Header and the session id that starts every body of the session's packets.
SESSION_HEADER = Struct(">BBQIQ")
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


class FrameReader:
    """Cuts a byte stream into frames.

    Raw bytes of a stream (type Stream) are passed on as they come, each piece as a frame of its own with the
    same ids: their boundaries carry no meaning, so a block of any size needs no buffer. Every other frame
    is held until it is whole; what is held never exceeds ``limit`` and a header.
    """

    __slots__ = ("limit", "failure", "_chunks", "_held", "_needed", "_raw_left", "_raw_ids")

    def __init__(self, limit: int = DEFAULT_BODY_LIMIT) -> None:
        self.limit = limit
        #: Why no further byte is looked at; the frames before the fault were still given out.
        self.failure: ProtocolError | None = None
        self._chunks: list[bytes] = []
        self._held = 0
        self._needed = 0
        self._raw_left = 0
        self._raw_ids = (0, 0)

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return self._held

    @property
    def in_frame(self) -> bool:
        """Whether the peer is in the middle of a frame."""
        return self._held > 0 or self._raw_left > 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take received bytes; return the frames they complete, and set ``failure`` at the first bad header."""
        if self.failure is not None:
            return []
        frames: list[Frame] = []
        if self._held:
            self._chunks.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return frames
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._held = 0
        pos = 0
        size = len(data)
        if self._raw_left:
            piece = data[: self._raw_left]
            pos = len(piece)
            self._raw_left -= pos
            if piece:
                frames.append(Frame(STREAM, *self._raw_ids, piece))
        unpack = SESSION_HEADER.unpack_from
        append = frames.append
        limit = self.limit
        while True:
            left = size - pos
            if left >= 22:
                _, kind, packet_id, length, session_id = unpack(data, pos)
            elif left >= HEADER_SIZE:
                _, kind, packet_id, length = HEADER.unpack_from(data, pos)
                session_id = 0
            else:
                self._needed = HEADER_SIZE
                break
            if length > limit:
                self.failure = OversizedPacket(length, limit)
                return frames
            shortest = MIN_BODY.get(kind)
            if shortest is None:
                self.failure = UnsupportedPacket(kind)
                return frames
            if length < shortest:
                self.failure = IllegalPacket(f"{FrameType(kind).name} with a body of {length} bytes")
                return frames
            end = pos + HEADER_SIZE + length
            if end > size:
                if kind == STREAM and left >= 22:
                    self._raw_left = end - size
                    self._raw_ids = (packet_id, session_id)
                    if left > 22:
                        append(Frame(STREAM, packet_id, session_id, data[pos + 22 :]))
                    return frames
                self._needed = HEADER_SIZE + (8 if kind == STREAM else length)
                break
            if kind in OF_SESSION:
                append(Frame(kind, packet_id, session_id, data[pos + 22 : end]))
            else:
                append(Frame(kind, packet_id, 0, data[pos + HEADER_SIZE : end]))
            pos = end
        if pos < size:
            self._chunks.append(data[pos:] if pos else data)
            self._held = size - pos
        return frames
