"""JSON as the other implementation of this wire reads and writes it (docs/protocol.md, "JSON").

Reading is the slow, tolerant way: the codec tries a strict and fast decoder first and comes here only for what
that one refuses. Writing is the same text for the same value, byte for byte.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pybase64

from frontier_tx.wire.times import UNSET, canonical_time

_SURROGATE = re.compile("[\ud800-\udfff]")
_FOLD = str.maketrans({"\u017f": "s", "\u212a": "k"})

#: Bytes of JSON that are read the slow way. Long values are taken out before (``lifting``), and a body that is made to
#: be slow must not hold up others: this much takes some 4 ms at worst.
MOST = 65_536

Reader = Callable[[Any], Any]


class TooMuch(ValueError):
    """More JSON in other than the canonical form than is read."""


class Meter:
    """What was read the slow way so far, for who lets senders pay for it: the process's work is done one by one."""

    __slots__ = ("spent",)

    def __init__(self) -> None:
        #: Bytes.
        self.spent = 0


METER = Meter()

# Numbers stay text, as bytes: whether one is a whole one decides whoever wants it, and long ones cost nothing.
_number = str.encode
_BYTES: dict[bytes | None, int] = {b"%d" % byte: byte for byte in range(256)}
# Where nothing was before, a null among numbers changes nothing.
_BYTES[None] = 0


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as they stood, repeated ones included."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_number, parse_float=_number, parse_constant=_no_constant
).decode


def read_object(text: bytes, shape: Mapping[str, Reader]) -> dict[str, Any]:
    """Read one JSON object, keeping the keys of ``shape``, each through its reader.

    Keys match without regard to case and the last one wins; unknown keys are skipped; a null empties what is bytes and
    leaves all else as it was; a body that is null is an empty object.

    :raises TooMuch: it is longer than what is read this way.
    :raises ValueError: it is not JSON, not an object, or the value that counts is not what its key demands.
    """
    if len(text) > MOST:
        raise TooMuch(f"{len(text)} bytes of JSON in other than the canonical form, at most {MOST} are read")
    METER.spent += len(text)
    try:
        # Each byte that is no UTF-8 becomes half a surrogate pair, as which the readers replace it.
        parsed = _decode(text.decode("utf-8", "surrogateescape"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    last: dict[str, Any] = {}
    _collect(parsed, shape, last)
    return {key: shape[key](value) for key, value in last.items()}


def _collect(parsed: Any, shape: Mapping[str, Reader], last: dict[str, Any]) -> None:
    """Find the value that counts for each key; those before it are not looked at, whatever they are."""
    if parsed is None:
        return
    if type(parsed) is not _Pairs:
        raise ValueError("not a JSON object")
    for key, value in parsed:
        reader = shape.get(key)
        if reader is None:
            # No key that is known without regard to case is longer in another case.
            if len(key) > LONGEST_KEY:
                continue
            key = (key if key.isascii() else key.translate(_FOLD)).lower()
            reader = shape.get(key)
            if reader is None:
                continue
        if reader is read_nested_deadline:
            # One that came before stays where another has none.
            _collect(value, _NESTED, last.setdefault(key, {}))
        elif value is not None or reader is read_bytes:
            last[key] = value


#: No key of any shape is longer than this.
LONGEST_KEY = 64


def read_string(value: Any) -> str:
    """A string; lone surrogates become U+FFFD."""
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value if value.isascii() else _SURROGATE.sub("\ufffd", value)


def read_strings(value: Any) -> tuple[str, ...]:
    """A list of strings; null elements are empty ones."""
    if type(value) is not list:
        raise ValueError("not a list of strings")
    return tuple("" if item is None else read_string(item) for item in value)


def read_bytes(value: Any) -> bytes:
    """Padded standard base64, in which line ends are skipped, or a list of numbers 0 to 255; nothing for null."""
    if value is None:
        return b""
    if type(value) is list:
        try:
            return bytes(map(_BYTES.__getitem__, value))
        except (KeyError, TypeError):
            raise ValueError("not a list of bytes") from None
    if not isinstance(value, str) or not value.isascii():
        raise ValueError("not base64")
    return strict_base64(value.encode().translate(None, b"\r\n"))


def strict_base64(text: bytes | memoryview) -> bytes:
    """Decode padded standard base64, and nothing that is merely like it.

    :raises ValueError: it is something else.
    """
    if len(text) % 4:
        raise ValueError("base64 without padding")
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"not base64: {error}") from None


def read_integer(value: Any) -> int:
    """A whole number without fraction or exponent."""
    if not isinstance(value, bytes) or not value.lstrip(b"-").isdigit() or len(value) > 20:
        raise ValueError("not a whole number")
    number = int(value)
    if not -(2**63) <= number < 2**64:
        raise ValueError("number out of range")
    return number


def read_duration(value: Any) -> int:
    """Nanoseconds."""
    number = read_integer(value)
    if number >= 2**63:
        raise ValueError("duration out of range")
    return number


def read_time(value: Any) -> str:
    """A time, in the one form that every end reads."""
    return canonical_time(read_string(value))


def read_nested_deadline(value: Any) -> str:
    """The deadline inside all ``context`` objects."""
    text = value.get("deadline")
    return UNSET if text is None else read_time(text)


_NESTED: Mapping[str, Reader] = {"deadline": read_time}


def escape(encoded: bytes) -> bytes:
    """Finish a JSON text whose strings still hold the characters that the other implementation escapes."""
    for plain, escaped in _ESCAPES:
        if plain in encoded:
            encoded = encoded.replace(plain, escaped)
    return encoded


#: Finds in a string what ``escape`` would change in its JSON.
find_escapable = re.compile("[<>&\u2028\u2029]").search
_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
