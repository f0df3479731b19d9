"""JSON as the other implementation of this wire reads and writes it (docs/protocol.md, "JSON").

Reading is the slow, tolerant way: the codec tries a strict and fast decoder first and comes here only for what
that one refuses. Writing is the same text for the same value, byte for byte.
"""

import base64
import binascii
import codecs
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from frontier_tx.wire.times import UNSET, parse_time

_SURROGATE = re.compile("[\ud800-\udfff]")
_FOLD = str.maketrans({"\u017f": "s", "\u212a": "k"})

#: Bytes of JSON that are read the slow way. Large bodies in canonical form never come here, and a body that is made to
#: be slow must not hold up others: this much takes some 50 ms at worst.
MOST = 131_072

Reader = Callable[[Any], Any]


def _each_byte_replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("frontier_tx.each_byte_replaced", _each_byte_replaced)


class _Number(str):
    """The text of a number: whether it is a whole one decides whoever wants it."""


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as they stood, repeated ones included."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read_object(text: bytes, shape: Mapping[str, Reader]) -> dict[str, Any]:
    """Read one JSON object, keeping the keys of ``shape``, each through its reader.

    Keys match without regard to case and the last one wins; unknown keys and nulls are skipped; a body that
    is null is an empty object.

    :raises ValueError: it is not JSON, not an object, or a value is not what its key demands.
    """
    if len(text) > MOST:
        raise ValueError(f"{len(text)} bytes of JSON in other than the canonical form, at most {MOST} are read")
    try:
        parsed = json.loads(
            text.decode("utf-8", "frontier_tx.each_byte_replaced"),
            object_pairs_hook=_Pairs,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise ValueError("nested too deep") from None
    return _take(parsed, shape)


def _take(parsed: Any, shape: Mapping[str, Reader]) -> dict[str, Any]:
    if parsed is None:
        return {}
    if not isinstance(parsed, _Pairs):
        raise ValueError("not a JSON object")
    taken: dict[str, Any] = {}
    for key, value in parsed:
        name = key if key in shape else key.translate(_FOLD).lower()
        reader = shape.get(name)
        if reader is not None and value is not None:
            taken[name] = reader(value)
    return taken


def read_string(value: Any) -> str:
    """A string; lone surrogates become U+FFFD."""
    if not isinstance(value, str) or isinstance(value, _Number):
        raise ValueError("not a string")
    return _SURROGATE.sub("\ufffd", value)


def read_strings(value: Any) -> tuple[str, ...]:
    """A list of strings; null elements are empty ones."""
    if isinstance(value, _Pairs) or not isinstance(value, list):
        raise ValueError("not a list of strings")
    return tuple("" if item is None else read_string(item) for item in value)


def read_bytes(value: Any) -> bytes:
    """Padded standard base64, in which line ends are skipped, or a list of numbers 0 to 255."""
    if isinstance(value, list) and not isinstance(value, _Pairs):
        return bytes(read_integer(item) for item in value)
    text = read_string(value).replace("\r", "").replace("\n", "")
    try:
        if len(text) % 4:
            raise ValueError("base64 without padding")
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not base64: {error}") from None
    return decoded


def read_integer(value: Any) -> int:
    """A whole number without fraction or exponent."""
    if not isinstance(value, _Number) or not value.lstrip("-").isdigit() or len(value) > 20:
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
    """A time; its text is kept, as offset and digits cannot be told from the instant."""
    text = read_string(value)
    parse_time(text)
    return text


def read_nested_deadline(value: Any) -> str:
    """The deadline inside the ``context`` object."""
    deadline = _take(value, {"deadline": read_time}).get("deadline", UNSET)
    assert isinstance(deadline, str)
    return deadline


def escape(encoded: bytes) -> bytes:
    """Finish a JSON text whose strings still hold the characters that the other implementation escapes."""
    for plain, escaped in _ESCAPES:
        if plain in encoded:
            encoded = encoded.replace(plain, escaped)
    return encoded


_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
