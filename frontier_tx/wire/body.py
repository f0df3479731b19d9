"""Bodies: the JSON objects at the end of most frames (docs/protocol.md, "Bodies").

Decoding tries a strict decoder first that knows the canonical form and nothing else; what it refuses is read
again by the tolerant rules of ``gojson``. A large value is not decoded at all: it is checked, kept as JSON text,
and goes out as it came in.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import pybase64

from frontier_tx.wire import gojson
from frontier_tx.wire.errors import IllegalPacket
from frontier_tx.wire.times import UNSET, parse_time

#: From this many bytes of JSON on, a value stays text instead of being decoded and encoded again.
LARGE_BODY = 1536

_Nanoseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Context(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The ``context`` object of a MessageData: the deadline of the caller's context, as text."""

    deadline: str


NO_CONTEXT = Context(UNSET)


class MessageData(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Body of Message, MessageAck, Request and Response.

    ``key`` is the method, ``timeout`` nanoseconds, ``deadline`` a time as text. ``value`` is the payload: bytes,
    or, in a body that came as a large one, the JSON string that holds it.
    """

    key: bytes = b""
    value: Any = b""
    topic: str = ""
    custom: bytes = b""
    error: str = ""
    timeout: _Nanoseconds = 0
    deadline: str
    context: Context

    @property
    def payload(self) -> bytes:
        """The value as bytes, whichever way it is held."""
        value = self.value
        return value if isinstance(value, bytes) else pybase64.b64decode(bytes(value)[1:-1])


class _SmallData(MessageData, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    value: bytes = b""


class _LargeData(MessageData, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    value: msgspec.Raw = msgspec.Raw()


class ConnData(msgspec.Struct, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Body of Conn, ConnAck and DisConnAck.

    Two extensions that other implementations skip: ``frame_limit`` is the largest body, in bytes, that the sender
    accepts, 0 stands for the protocol's 10 MiB; ``stream_window`` is how many bytes of a stream the sender lets
    its peer have under way, 0 says that it knows no such credit.
    """

    meta: bytes = b""
    error: str = ""
    frame_limit: _Nanoseconds = 0
    stream_window: _Nanoseconds = 0


class SessionData(msgspec.Struct, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Body of Session, SessionAck, Dismiss and DismissAck; ``peer`` names whom the stream is for."""

    meta: bytes = b""
    error: str = ""
    peer: str = ""


class RegisterData(msgspec.Struct, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Body of RegisterAck."""

    error: str = ""


_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encode = msgspec.json.Encoder().encode
_decode_small = msgspec.json.Decoder(_SmallData).decode
_decode_large = msgspec.json.Decoder(_LargeData).decode
_decode_conn = msgspec.json.Decoder(ConnData).decode
_decode_session = msgspec.json.Decoder(SessionData).decode
_decode_register = msgspec.json.Decoder(RegisterData).decode

_MESSAGE_SHAPE: Mapping[str, gojson.Reader] = {
    "key": gojson.read_bytes,
    "value": gojson.read_bytes,
    "topic": gojson.read_string,
    "custom": gojson.read_bytes,
    "error": gojson.read_string,
    "timeout": gojson.read_duration,
    "deadline": gojson.read_time,
    "context": gojson.read_nested_deadline,
}
_CONN_SHAPE: Mapping[str, gojson.Reader] = {
    "meta": gojson.read_bytes,
    "error": gojson.read_string,
    "frame_limit": gojson.read_duration,
    "stream_window": gojson.read_duration,
}
_SESSION_SHAPE: Mapping[str, gojson.Reader] = {
    "meta": gojson.read_bytes,
    "error": gojson.read_string,
    "peer": gojson.read_string,
}
_REGISTER_SHAPE: Mapping[str, gojson.Reader] = {"error": gojson.read_string}

#: The body of an answer that says nothing but "done", and what stands at the end of every canonical one.
EMPTY_MESSAGE = _encode(_SmallData(deadline=UNSET, context=NO_CONTEXT))
EMPTY_OBJECT = b"{}"


def decode_message(text: bytes) -> tuple[MessageData, bytes]:
    """Read a MessageData; return it with JSON for it that any end accepts: mostly ``text`` itself.

    :raises IllegalPacket: no end would accept it.
    """
    try:
        data: MessageData
        if len(text) < LARGE_BODY:
            data = _decode_small(text)
        else:
            data = _decode_large(text)
            if data.value:
                check_json_base64(bytes(data.value))
        if data.deadline != UNSET:
            parse_time(data.deadline)
        if data.context.deadline != UNSET:
            parse_time(data.context.deadline)
        return data, text
    except (*_REFUSED, ValueError):
        data = _read_message(text)
        return data, encode_message(data)


def check_json_base64(text: bytes) -> None:
    """Refuse a JSON value that is not a string of padded base64 without any escapes.

    :raises ValueError: it is not.
    """
    if text[:1] != b'"' or text[-1:] != b'"':
        raise ValueError("not a string of base64")
    pybase64.b64decode(memoryview(text)[1:-1], validate=True)


def _read_message(text: bytes) -> MessageData:
    try:
        taken = gojson.read_object(text, _MESSAGE_SHAPE)
    except ValueError as error:
        raise IllegalPacket(str(error)) from None
    taken["context"] = Context(taken.get("context", UNSET))
    taken.setdefault("deadline", UNSET)
    return _SmallData(**taken)


def encode_message(data: MessageData) -> bytes:
    """Write a MessageData."""
    text = _encode(data)
    return gojson.escape(text) if data.topic or data.error else text


def message_json(
    *,
    key: bytes = b"",
    value: bytes = b"",
    topic: str = "",
    custom: bytes = b"",
    error: str = "",
    deadline: str = UNSET,
    context_deadline: str = UNSET,
) -> bytes:
    """Write the MessageData with these fields."""
    context = NO_CONTEXT if context_deadline == UNSET else Context(context_deadline)
    # The encoder's own base64 costs thirty times what this one does, which shows from a few kilobytes on.
    kept: Any = msgspec.Raw(b'"' + pybase64.b64encode(value) + b'"') if len(value) > LARGE_BODY else value
    return encode_message(
        MessageData(key=key, value=kept, topic=topic, custom=custom, error=error, deadline=deadline, context=context)
    )


def decode_conn(text: bytes) -> ConnData:
    """Read a ConnData.

    :raises IllegalPacket: no end would accept it.
    """
    try:
        return _decode_conn(text)
    except _REFUSED:
        return ConnData(**_tolerant(text, _CONN_SHAPE))


def decode_session(text: bytes) -> SessionData:
    """Read a SessionData.

    :raises IllegalPacket: no end would accept it.
    """
    if text == EMPTY_OBJECT:
        return SessionData()
    try:
        return _decode_session(text)
    except _REFUSED:
        return SessionData(**_tolerant(text, _SESSION_SHAPE))


def decode_register(text: bytes) -> RegisterData:
    """Read a RegisterData.

    :raises IllegalPacket: no end would accept it.
    """
    if text == EMPTY_OBJECT:
        return RegisterData()
    try:
        return _decode_register(text)
    except _REFUSED:
        return RegisterData(**_tolerant(text, _REGISTER_SHAPE))


def encode_data(data: ConnData | SessionData | RegisterData) -> bytes:
    """Write any of the small bodies."""
    return gojson.escape(_encode(data))


def _tolerant(text: bytes, shape: Mapping[str, gojson.Reader]) -> dict[str, Any]:
    try:
        return gojson.read_object(text, shape)
    except ValueError as error:
        raise IllegalPacket(str(error)) from None
