"""Packets: frames with all their fields, as tests want to see them (docs/protocol.md, "Packets").

The state machines read and write the same bodies piece by piece; they do not build these objects.
"""

from dataclasses import dataclass, field

from frontier_tx.wire import frame as f
from frontier_tx.wire.body import (
    ConnData,
    MessageData,
    RegisterData,
    SessionData,
    decode_conn,
    decode_register,
    decode_session,
    encode_data,
    encode_message,
    read_message,
)
from frontier_tx.wire.errors import IllegalPacket
from frontier_tx.wire.fixed import (
    ACQUIRE_CLIENT_ID,
    ACQUIRE_PACKET_ID,
    ACQUIRE_SESSION_ID,
    CANCEL_FIXED,
    CANCELED,
    CLEAR,
    CONN_ACK_FIXED,
    CONN_FIXED,
    CREDIT_FIXED,
    DEADLINE_EXCEEDED,
    RETAIN,
    SESSION_ACK_FIXED,
    SESSION_FIXED,
    heartbeat_seconds,
)

#: Names of ``wire.fixed`` that tests find here.
__all__ = [
    "ACQUIRE_CLIENT_ID",
    "ACQUIRE_PACKET_ID",
    "ACQUIRE_SESSION_ID",
    "CANCELED",
    "CLEAR",
    "DEADLINE_EXCEEDED",
    "RETAIN",
    "SESSION_ACK_FIXED",
    "SESSION_FIXED",
]


@dataclass(slots=True, kw_only=True)
class Conn:
    """First frame of a client."""

    packet_id: int
    flags: int = ACQUIRE_CLIENT_ID | 1 << 4
    client_id: int = 0
    data: ConnData = field(default_factory=ConnData)

    @property
    def heartbeat(self) -> int:
        """Heartbeat interval of the client in seconds."""
        return heartbeat_seconds(self.flags >> 4 & 3)


@dataclass(slots=True, kw_only=True)
class ConnAck:
    """The server's answer; it is a refusal if and only if ``data.error`` is not empty."""

    packet_id: int
    code: int = 0
    client_id: int = 0
    data: ConnData = field(default_factory=ConnData)


@dataclass(slots=True, kw_only=True)
class Bare:
    """DisConn, Heartbeat or HeartbeatAck: a type and an id."""

    type: f.FrameType
    packet_id: int


@dataclass(slots=True, kw_only=True)
class DisConnAck:
    """Answer to a DisConn."""

    packet_id: int
    code: int = 0
    data: ConnData = field(default_factory=ConnData)


@dataclass(slots=True, kw_only=True)
class Session:
    """Asks to open a session."""

    packet_id: int
    priority: int = 0
    flags: int = 0
    negotiate_id: int = 0
    data: SessionData = field(default_factory=SessionData)


@dataclass(slots=True, kw_only=True)
class SessionAck:
    """Answer to a Session."""

    packet_id: int
    negotiate_id: int = 0
    session_id: int = 0
    data: SessionData = field(default_factory=SessionData)


@dataclass(slots=True, kw_only=True)
class Dismissal:
    """Dismiss or DismissAck."""

    type: f.FrameType
    packet_id: int
    session_id: int
    data: SessionData = field(default_factory=SessionData)


@dataclass(slots=True, kw_only=True)
class Message:
    """Message, MessageAck, Request or Response."""

    type: f.FrameType
    packet_id: int
    session_id: int
    data: MessageData


@dataclass(slots=True, kw_only=True)
class Stream:
    """Raw bytes of a session."""

    packet_id: int
    session_id: int
    data: bytes = b""


@dataclass(slots=True, kw_only=True)
class StreamCredit:
    """Lets the peer send ``freed`` more bytes on the session; an extension."""

    packet_id: int
    session_id: int
    freed: int = 0


@dataclass(slots=True, kw_only=True)
class RequestCancel:
    """Gives up the Request with the same packet id; ``reason`` is 1 for canceled, 2 for deadline exceeded."""

    packet_id: int
    session_id: int
    reason: int = CANCELED


@dataclass(slots=True, kw_only=True)
class Register:
    """Announces a method."""

    packet_id: int
    session_id: int
    method: bytes = b""


@dataclass(slots=True, kw_only=True)
class RegisterAck:
    """Answer to a Register."""

    packet_id: int
    session_id: int
    data: RegisterData = field(default_factory=RegisterData)


Packet = (
    Conn
    | ConnAck
    | Bare
    | DisConnAck
    | Session
    | SessionAck
    | Dismissal
    | Message
    | Stream
    | StreamCredit
    | RequestCancel
    | Register
    | RegisterAck
)


def decode(frame: f.Frame) -> Packet:
    """Read all of a frame.

    :raises IllegalPacket: the body is not what the type demands.
    """
    kind, packet_id, session_id, body = frame.type, frame.packet_id, frame.session_id, frame.body
    match kind:
        case f.CONN:
            flags, _, client_id = CONN_FIXED.unpack_from(body)
            return Conn(packet_id=packet_id, flags=flags, client_id=client_id, data=decode_conn(body[10:]))
        case f.CONN_ACK:
            code, client_id = CONN_ACK_FIXED.unpack_from(body)
            return ConnAck(packet_id=packet_id, code=code, client_id=client_id, data=decode_conn(body[9:]))
        case f.DIS_CONN | f.HEARTBEAT | f.HEARTBEAT_ACK:
            return Bare(type=f.FrameType(kind), packet_id=packet_id)
        case f.DIS_CONN_ACK:
            return DisConnAck(packet_id=packet_id, code=body[0], data=decode_conn(body[1:]))
        case f.SESSION:
            priority, flags, negotiate_id = SESSION_FIXED.unpack_from(body)
            return Session(
                packet_id=packet_id,
                priority=priority,
                flags=flags,
                negotiate_id=negotiate_id,
                data=decode_session(body[10:]),
            )
        case f.SESSION_ACK:
            _, negotiate_id, given = SESSION_ACK_FIXED.unpack_from(body)
            return SessionAck(
                packet_id=packet_id, negotiate_id=negotiate_id, session_id=given, data=decode_session(body[18:])
            )
        case f.DISMISS | f.DISMISS_ACK:
            return Dismissal(
                type=f.FrameType(kind), packet_id=packet_id, session_id=session_id, data=decode_session(body)
            )
        case f.MESSAGE | f.MESSAGE_ACK | f.REQUEST | f.RESPONSE:
            return Message(type=f.FrameType(kind), packet_id=packet_id, session_id=session_id, data=read_message(body))
        case f.STREAM:
            return Stream(packet_id=packet_id, session_id=session_id, data=body)
        case f.STREAM_CREDIT:
            (freed,) = CREDIT_FIXED.unpack_from(body)
            return StreamCredit(packet_id=packet_id, session_id=session_id, freed=freed)
        case f.REQUEST_CANCEL:
            (reason,) = CANCEL_FIXED.unpack_from(body)
            return RequestCancel(packet_id=packet_id, session_id=session_id, reason=reason)
        case f.REGISTER:
            return Register(packet_id=packet_id, session_id=session_id, method=body)
        case f.REGISTER_ACK:
            return RegisterAck(packet_id=packet_id, session_id=session_id, data=decode_register(body))
    raise IllegalPacket(f"type {kind:#04x}")


def encode(packet: Packet) -> bytes:
    """Write a packet as a frame, header included."""
    match packet:
        case Conn():
            fixed = CONN_FIXED.pack(packet.flags, 0, packet.client_id)
            return f.pack(f.CONN, packet.packet_id, fixed + encode_data(packet.data))
        case ConnAck():
            fixed = CONN_ACK_FIXED.pack(packet.code, packet.client_id)
            return f.pack(f.CONN_ACK, packet.packet_id, fixed + encode_data(packet.data))
        case Bare():
            return f.pack(packet.type, packet.packet_id)
        case DisConnAck():
            return f.pack(f.DIS_CONN_ACK, packet.packet_id, bytes((packet.code,)) + encode_data(packet.data))
        case Session():
            fixed = SESSION_FIXED.pack(packet.priority, packet.flags, packet.negotiate_id)
            return f.pack(f.SESSION, packet.packet_id, fixed + encode_data(packet.data))
        case SessionAck():
            fixed = SESSION_ACK_FIXED.pack(0, packet.negotiate_id, packet.session_id)
            return f.pack(f.SESSION_ACK, packet.packet_id, fixed + encode_data(packet.data))
        case Dismissal():
            return f.pack_of_session(packet.type, packet.packet_id, packet.session_id, encode_data(packet.data))
        case Message():
            return f.pack_of_session(packet.type, packet.packet_id, packet.session_id, encode_message(packet.data))
        case Stream():
            return f.pack_of_session(f.STREAM, packet.packet_id, packet.session_id, packet.data)
        case StreamCredit():
            return f.pack_of_session(
                f.STREAM_CREDIT, packet.packet_id, packet.session_id, CREDIT_FIXED.pack(packet.freed)
            )
        case RequestCancel():
            return f.pack_of_session(
                f.REQUEST_CANCEL, packet.packet_id, packet.session_id, CANCEL_FIXED.pack(packet.reason)
            )
        case Register():
            return f.pack_of_session(f.REGISTER, packet.packet_id, packet.session_id, packet.method)
        case _:
            return f.pack_of_session(f.REGISTER_ACK, packet.packet_id, packet.session_id, encode_data(packet.data))
