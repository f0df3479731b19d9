"""Long base64 strings in bodies: taken out of the JSON before it is read, at the speed of a search for a quote.

What is left is short whatever the payload is, so a reader of any thoroughness can have it; and the string itself is
proven to be base64 before it goes on.
"""

import os
import re
from collections.abc import Callable

import msgspec
import pybase64

from frontier_tx.wire import gojson

#: Strings below this size are not worth it.
LEAST = 512
#: How many strings of a key are looked at, of which the longest is taken: objects beside it may have the same key.
TRIES = 8
#: Stands where the string was. Nobody outside knows it, so what is read as it stood in that very place.
_MARK_TEXT = pybase64.b64encode(os.urandom(15))
#: The same as JSON.
MARK_STRING = msgspec.Raw(b'"' + _MARK_TEXT + b'"')
MARK = pybase64.b64decode(_MARK_TEXT)
#: Base64 with escapes costs more than plain base64: this share of reading it the slow way. So much is read at most.
_ESCAPED_SHARE = 16
ESCAPED_MOST = 1_048_576

_unescaped = msgspec.json.Decoder(str).decode


class Key:
    """A key whose string may be lifted out of a JSON text."""

    __slots__ = ("_written", "_pattern")

    def __init__(self, name: bytes) -> None:
        self._written = b'"%s":"' % name
        self._pattern = re.compile(rb'"%s"[ \t\r\n]*:[ \t\r\n]*"' % name, re.IGNORECASE)

    def lift(self, text: bytes, most_left: int) -> tuple[bytes, memoryview] | None:
        """Take the string of this key out of a JSON text.

        :param most_left: how long what is left may be.
        :return: the text with ``MARK`` for the string, and the string with its quotes; None where the text has no long
            string of this key, or has too much beside it.

        The string is this key's if, and only if, the reader of what is left finds ``MARK`` as its value. Then it is to
        be checked by ``base64_of`` or ``plain``: nobody has looked at it yet. Otherwise it is of no account: another
        value of the same key follows it, or it belongs to some object that is skipped.
        """
        found = self._longest(text, most_left, self._after_canonical)
        if found is None or len(text) - (found[1] - found[0]) > gojson.MOST:
            # One that is written in another way may be longer.
            found = self._longest(text, most_left, self._after_any) or found
        if found is None:
            return None
        start, end = found
        if end - start < LEAST or len(text) - (end - start) > most_left:
            return None
        return text[:start] + _MARK_TEXT + text[end:], memoryview(text)[start - 1 : end + 1]

    def _longest(self, text: bytes, most_left: int, after: Callable[[bytes, int, int], int]) -> tuple[int, int] | None:
        best: tuple[int, int] | None = None
        end = 0
        for _ in range(TRIES):
            start = after(text, end, most_left + end)
            if start < 0:
                break
            end = text.find(b'"', start)
            if end < 0:
                break
            if best is None or end - start > best[1] - best[0]:
                best = start, end
        return best

    def _after_canonical(self, text: bytes, start: int, end: int) -> int:
        at = text.find(self._written, start, end)
        return at if at < 0 else at + len(self._written)

    def _after_any(self, text: bytes, start: int, end: int) -> int:
        match = self._pattern.search(text, start, end)
        return -1 if match is None else match.end()


def put_back(text: bytes, string: msgspec.Raw) -> bytes:
    """Put a string into a JSON text in which ``MARK_STRING`` stands for it."""
    before, _, after = text.partition(bytes(MARK_STRING))
    return b"".join((before, memoryview(string), after))


def base64_of(string: memoryview) -> bytes:
    """Return what a JSON string of base64 holds; line ends in it are skipped.

    :raises TooMuch: it is too long to be read as it is written.
    :raises ValueError: it is something else.
    """
    try:
        return gojson.strict_base64(string[1:-1])
    except ValueError:
        return gojson.strict_base64(_plain_text(string))


def plain(string: memoryview) -> memoryview | bytes:
    """Return a JSON string of base64 as it is written canonically: the string itself, mostly.

    :raises TooMuch: it is too long to be read as it is written.
    :raises ValueError: it is something else.
    """
    try:
        gojson.strict_base64(string[1:-1])
    except ValueError:
        return b'"' + pybase64.b64encode(gojson.strict_base64(_plain_text(string))) + b'"'
    if bytes(string[-2:]) == b'="':
        last = bytes(string[-5:-1])
        written = pybase64.b64encode(pybase64.b64decode(last))
        if written != last:
            # Bits that mean nothing: readers that are strict about them refuse it.
            return b"".join((string[:-5], written, b'"'))
    return string


def _plain_text(string: memoryview) -> bytes:
    """Resolve escapes, and leave line ends out."""
    if b"\\" not in bytes(string):
        raise ValueError("not base64")
    if len(string) > ESCAPED_MOST:
        raise gojson.TooMuch(f"{len(string)} bytes of base64 with escapes, at most {ESCAPED_MOST} are read")
    gojson.METER.spent += len(string) // _ESCAPED_SHARE
    try:
        return _unescaped(string).encode("ascii").translate(None, b"\r\n")
    except (msgspec.DecodeError, UnicodeError):
        raise ValueError("not base64") from None
