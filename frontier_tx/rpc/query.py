"""From a query string to the fields of a request message, by the rules and with the error texts clients know.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from google.protobuf.descriptor import FieldDescriptor

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SIGNED = re.compile(r"[+-]?[0-9]+\Z")
_UNSIGNED = re.compile(r"[0-9]+\Z")
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_SHORT_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: ("ParseInt", -(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: ("ParseInt", -(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: ("ParseUint", 0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: ("ParseUint", 0, 2**64 - 1),
}


class QueryError(ValueError):
    """A value that does not fit its field; the text is for the client."""


def quote(text: str) -> str:
    """The text between double quotes, in the manner of the servers that clients know."""
    out = []
    for char in text:
        if char in _SHORT_ESCAPES:
            out.append(_SHORT_ESCAPES[char])
        elif char.isprintable():
            out.append(char)
        elif char < "\x80":
            out.append(f"\\x{ord(char):02x}")
        elif char <= "\uffff":
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(f"\\U{ord(char):08x}")
    return f'"{"".join(out)}"'


def parse_query(query: bytes) -> dict[str, list[str]]:
    """Keys in order of appearance, each with its values.

    A plus sign is a blank. A pair with a broken escape or a semicolon is left out; undecodable bytes become U+FFFD.
    """
    found: dict[str, list[str]] = {}
    for pair in query.split(b"&"):
        if not pair or b";" in pair or _BROKEN_ESCAPE.search(pair):
            continue
        key, _, value = pair.partition(b"=")
        found.setdefault(_text(key), []).append(_text(value))
    return found


def _text(raw: bytes) -> str:
    return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8", "replace")


def fill(message: Any, values: Iterable[tuple[str, list[str]]]) -> None:
    """Set the fields of ``message`` named by keys of a query; raises ``QueryError``.

    A key is a field's name or its name in camel case, with ``[]`` behind it or not; any other is ignored.
    """
    for key, texts in values:
        first, dot, rest = key.partition(".")
        field = _field(message, first)
        if field is None:
            continue
        if dot:
            if field.message_type is None or field.is_repeated:
                raise QueryError(f"invalid path: {quote(first)} is not a message")
            fill(getattr(message, field.name), [(rest, texts)])
            continue
        oneof = field.containing_oneof
        if oneof is not None and message.WhichOneof(oneof.name):
            raise QueryError(f"field already set for oneof {quote(oneof.name)}")
        if field.is_repeated:
            getattr(message, field.name).extend([_convert(field, text, "list") for text in texts])
        elif len(texts) > 1:
            raise QueryError(f"too many values for field {quote(field.name)}: {', '.join(texts)}")
        elif texts[0]:
            setattr(message, field.name, _convert(field, texts[0], "field"))


def fill_from_path(message: Any, name: str, text: str) -> None:
    """Set a field from a part of the path, over whatever the query said; raises ``QueryError``."""
    field = _field(message, name)
    if field is not None:
        setattr(message, field.name, _convert(field, text, "field"))


def _field(message: Any, key: str) -> Any:
    name = key.removesuffix("[]")
    descriptor = message.DESCRIPTOR
    return descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)


def _convert(field: Any, text: str, what: str) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.type == FieldDescriptor.TYPE_STRING:
        return text
    try:
        if field.cpp_type in _INTEGERS:
            return _integer(text, *_INTEGERS[field.cpp_type])
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return _boolean(text)
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            return _enumerated(field, text)
    except QueryError as error:
        raise QueryError(f"parsing {what} {quote(field.name)}: {error}") from None
    raise QueryError(f"parsing {what} {quote(field.name)}: a value of this type cannot be given in a query")


def _integer(text: str, parser: str, low: int, high: int) -> int:
    if not (_SIGNED if parser == "ParseInt" else _UNSIGNED).match(text):
        raise QueryError(f"strconv.{parser}: parsing {quote(text)}: invalid syntax")
    # Python refuses to convert thousands of digits; so many are out of range anyway.
    value = int(text) if len(text.lstrip("+-0")) < 30 else high + 1
    if not low <= value <= high:
        raise QueryError(f"strconv.{parser}: parsing {quote(text)}: value out of range")
    return value


def _boolean(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise QueryError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def _enumerated(field: Any, text: str) -> int:
    value = field.enum_type.values_by_name.get(text)
    if value is not None:
        return int(value.number)
    number = _integer(text, "ParseInt", -(2**31), 2**31 - 1)
    if number not in field.enum_type.values_by_number:
        raise QueryError(f"{quote(text)} is not a valid value")
    return number
