"""Bodies: the JSON objects at the end of most frames (docs/protocol.md, "Bodies").

Decoding tries a strict decoder first that knows the canonical form and nothing else; what it refuses is read
again by the tolerant rules of ``gojson``. A large value is not decoded at all: it is checked, kept as JSON text,
and goes out as it came in (``lifting``). Whatever else goes on to somebody is written anew from the fields: the text
of one peer never reaches the parser of another.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
import pybase64

from frontier_tx.wire import gojson, lifting
from frontier_tx.wire.errors import IllegalPacket
from frontier_tx.wire.gojson import find_escapable
from frontier_tx.wire.times import UNSET, canonical_time

#: From this many bytes of JSON on, a value stays text instead of being decoded and encoded again.
LARGE_BODY = 1536
_HUGE = 131_072
#: What a message or call may have beside its value, in bytes of JSON: method, topic, ``custom``, error text. A reader
#: of dense JSON or of text with one emoji pays for each byte of it.
BESIDE_VALUE = 524_288
#: The same beside the meta of a session.
BESIDE_META = 262_144

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
        return value if isinstance(value, bytes) else pybase64.b64decode(memoryview(value)[1:-1])


class _SmallData(MessageData, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    value: bytes = b""


class ConnData(msgspec.Struct, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Body of Conn, ConnAck and DisConnAck.

    Four extensions that other implementations skip: ``frame_limit`` is the largest body, in bytes, that the sender
    accepts, 0 stands for the protocol's 10 MiB; ``stream_window`` is how many bytes of a stream the sender lets
    its peer have under way, 0 says that it knows no such credit; ``kind`` is what dials, empty where it says nothing;
    ``trace_context`` is the version of ``trace_context`` that the sender puts into calls and messages, 0 for none.
    """

    meta: bytes = b""
    error: str = ""
    frame_limit: _Nanoseconds = 0
    stream_window: _Nanoseconds = 0
    kind: str = ""
    trace_context: _Nanoseconds = 0


class SessionData(msgspec.Struct, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Body of Session, SessionAck, Dismiss and DismissAck; ``peer`` names whom the stream is for."""

    meta: bytes = b""
    error: str = ""
    peer: str = ""


class RegisterData(msgspec.Struct, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Body of RegisterAck."""

    error: str = ""


_VALUE, _META = lifting.Key(b"value"), lifting.Key(b"meta")
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)
_Raw = msgspec.Raw
_encode = msgspec.json.Encoder().encode
_decode_small = msgspec.json.Decoder(_SmallData).decode

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
    "kind": gojson.read_string,
    "trace_context": gojson.read_duration,
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


#: Error text of what was read for a body that has more beside its payload than is read: the operation is refused, with
#: this text, and nothing else of it is known. Compare by identity.
UNFIT = "too much beside the payload"


def read_message(text: bytes) -> MessageData:
    """Read a MessageData.

    :return: the fields, ready to be written for others. The one with ``UNFIT`` as its error has no others.
    :raises IllegalPacket: no end would accept it.
    """
    string = None
    if len(text) >= LARGE_BODY:
        lifted = _VALUE.lift(text, BESIDE_VALUE)
        if lifted is not None:
            text, string = lifted
        elif len(text) > BESIDE_VALUE:
            return _unfit_message()
    try:
        data: MessageData = _decode_small(text)
        if data.deadline != UNSET:
            data.deadline = canonical_time(data.deadline)
        if data.context.deadline != UNSET:
            data.context.deadline = canonical_time(data.context.deadline)
    except _REFUSED:
        data = _read_tolerantly(text)
    if string is not None and data.value == lifting.MARK:
        try:
            data.value = msgspec.Raw(lifting.plain(string))
        except gojson.TooMuch:
            return _unfit_message()
        except ValueError as error:
            raise IllegalPacket(str(error)) from None
    return data


def decode_message(text: bytes) -> tuple[MessageData, bytes]:
    """Read a MessageData; return it with the canonical JSON for it, which is ``text`` itself where that is canonical.

    :raises IllegalPacket: no end would accept it.
    """
    data = read_message(text)
    written = encode_message(data)
    return data, text if written == text else written


def _unfit_message() -> MessageData:
    return MessageData(error=UNFIT, deadline=UNSET, context=NO_CONTEXT)


def _read_tolerantly(text: bytes) -> MessageData:
    try:
        taken = gojson.read_object(text, _MESSAGE_SHAPE)
    except gojson.TooMuch:
        return _unfit_message()
    except ValueError as error:
        raise IllegalPacket(str(error)) from None
    taken["context"] = Context(taken.get("context", UNSET))
    taken.setdefault("deadline", UNSET)
    return _SmallData(**taken)


def encode_message(data: MessageData) -> bytes:
    """Write a MessageData."""
    value = data.value
    if type(value) is _Raw and len(value) > _HUGE:
        return _encode_huge(data, value)
    text = _encode(data)
    topic, error = data.topic, data.error
    # The whole of a large body is gone through only where it must be.
    if (topic and find_escapable(topic)) or (error and find_escapable(error)):
        return gojson.escape(text)
    return text


def _encode_huge(data: MessageData, value: msgspec.Raw) -> bytes:
    """The same without the encoder, whose buffer grows by doubling."""
    data.value = lifting.MARK_STRING
    try:
        return lifting.put_back(encode_message(data), value)
    finally:
        data.value = value


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
    kept: Any = _quoted_base64(value) if len(value) > LARGE_BODY else value
    return encode_message(
        MessageData(key=key, value=kept, topic=topic, custom=custom, error=error, deadline=deadline, context=context)
    )


def decode_conn(text: bytes) -> ConnData:
    """Read a ConnData.

    :raises IllegalPacket: no end would accept it, or it has more beside its meta than is read.
    """
    data = _with_meta(text, _read_conn, BESIDE_META)
    if data is None:
        raise IllegalPacket(UNFIT)
    return data


def decode_session(text: bytes) -> SessionData:
    """Read a SessionData; one that has more beside its meta than is read has ``UNFIT`` as its error, and nothing else.

    :raises IllegalPacket: no end would accept it.
    """
    if text == EMPTY_OBJECT:
        return SessionData()
    data = _with_meta(text, _read_session, BESIDE_META)
    return SessionData(error=UNFIT) if data is None else data


def decode_register(text: bytes) -> RegisterData:
    """Read a RegisterData; one that is longer than is read has ``UNFIT`` as its error.

    :raises IllegalPacket: no end would accept it.
    """
    if text == EMPTY_OBJECT:
        return RegisterData()
    data = _read_register(text) if len(text) <= BESIDE_META else None
    return RegisterData(error=UNFIT) if data is None else data


def encode_data(data: ConnData | SessionData | RegisterData) -> bytes:
    """Write any of the small bodies."""
    if isinstance(data, RegisterData) or len(data.meta) <= LARGE_BODY:
        return gojson.escape(_encode(data))
    # As with values, the encoder's own base64 is too slow for much of it.
    text = _encode(msgspec.structs.replace(data, meta=_quoted_base64(data.meta)))
    peer = data.peer if isinstance(data, SessionData) else ""
    return gojson.escape(text) if find_escapable(data.error) or find_escapable(peer) else text


def _quoted_base64(data: bytes) -> Any:
    return msgspec.Raw(b'"' + pybase64.b64encode(data) + b'"')


_Small = TypeVar("_Small", ConnData, SessionData, RegisterData)


def _reader(
    kind: type[_Small], fast: Callable[[bytes], _Small], shape: Mapping[str, gojson.Reader]
) -> Callable[[bytes], _Small | None]:
    def read(text: bytes) -> _Small | None:
        """Read a body of a bounded length; None: it is too long to be read as it is written."""
        try:
            return fast(text)
        except _REFUSED:
            pass
        try:
            return kind(**gojson.read_object(text, shape))
        except gojson.TooMuch:
            return None
        except ValueError as error:
            raise IllegalPacket(str(error)) from None

    return read


_read_conn = _reader(ConnData, msgspec.json.Decoder(ConnData).decode, _CONN_SHAPE)
_read_session = _reader(SessionData, msgspec.json.Decoder(SessionData).decode, _SESSION_SHAPE)
_read_register = _reader(RegisterData, msgspec.json.Decoder(RegisterData).decode, _REGISTER_SHAPE)
_WithMeta = TypeVar("_WithMeta", ConnData, SessionData)


def _with_meta(text: bytes, read: Callable[[bytes], _WithMeta | None], most_beside: int) -> _WithMeta | None:
    if len(text) >= LARGE_BODY:
        lifted = _META.lift(text, most_beside)
        if lifted is not None:
            data = read(lifted[0])
            if data is not None and data.meta == lifting.MARK:
                try:
                    data.meta = lifting.base64_of(lifted[1])
                except gojson.TooMuch:
                    return None
                except ValueError as error:
                    raise IllegalPacket(str(error)) from None
            return data
        if len(text) > most_beside:
            return None
    return read(text)
