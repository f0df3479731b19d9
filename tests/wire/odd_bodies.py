"""Bodies as an ill-meaning, odd or broken peer may write them: made from good ones, by rule and by chance."""

import base64
import json
import random
from collections.abc import Callable

from frontier_tx.wire import body as b

KEYS = {
    "message": ["key", "value", "topic", "custom", "error", "timeout", "deadline", "context"],
    "conn": ["meta", "error"],
    "session": ["meta", "error", "peer"],
    "register": ["error"],
}
BYTES = {"key", "value", "custom", "meta"}
TIMES = [
    "0001-01-01T00:00:00Z", "2026-11-24T01:29:08.5+02:00", "2026-11-24T01:29:08Z", "2026-11-24T1:29:08Z",
    "2026-11-24T01:29:08,25Z", "2026-11-24T01:29:08.123456789123Z", "2026-11-24T01:29:08.1000Z",
    "2026-11-24T01:29:08+24:00", "2026-11-24T01:29:08-00:60", "2026-11-24T01:29:08-24:60",
    "2026-11-24T01:29:08+25:00", "2026-11-24T01:29:08+00:61", "2026-11-24T01:29:08-00:00",
    "2026-11-24T01:29:60Z", "2026-11-24T24:00:00Z", "2024-02-29T23:59:59.999999999Z", "2025-02-29T00:00:00Z",
    "0000-01-01T00:00:00Z", "0000-01-01T00:00:00+24:00", "0000-02-29T12:00:00+05:30",
    "9999-12-31T23:59:59.999999999-24:00", "9999-12-31T23:59:59-23:59", "0001-01-01T02:00:00+02:00",
    "0001-01-01T00:00:00.000000001Z", "0001-01-01T00:00:00.0000000001Z", "", "2026-11-24T01:29:08",
    "2026-11-24T01:29:08z", "2026-11-24 01:29:08Z", "2026-11-24T01:29:08.Z", "10000-01-01T00:00:00Z",
    "2026-11-24T01:29:08+0200", "2026-11-24T01:29:08Z ", " 2026-11-24T01:29:08Z", "2026-11-24T01:29:08+1:00",
    "0399-12-31T23:59:59-23:00", "0400-01-01T00:00:00+23:00", "2026-11-24T01:29:08.5 Z", "2026-1-24T01:29:08Z",
]  # fmt: skip
NUMBERS = [
    "0", "-0", "1", "-1", "00", "1.0", "1e3", "1E0", "9223372036854775807", "9223372036854775808",
    "18446744073709551616", "-9223372036854775808", "-9223372036854775809", "255", "256", "0.5", "1e400",
    "9" * 40, "9" * 5000, "-", "+1", ".5", "NaN", "Infinity", "-Infinity", "0x10", "1_000",
]  # fmt: skip
STRINGS = [
    b"", b"a", b"<&>", b"\\u003c", b"\\n\\r\\t\\b\\f\\/\\\\\\\"", b"\\u0000", b"\\ud800", b"\\ud83d\\ude00",
    b"\\ude00\\ud83d", b"\\ud83dx", b"\\ud83d\\u0041", b"\\uD83D\\uDE00", b"\xf0\x9f\x98\x80", b"\xff",
    b"a\xe4\xb8b", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf",
    b"\xe2\x80\xa8\xe2\x80\xa9", b"\x7f", b"\x01", b"\n", b"\\x41", b"\\u12", b"\\'", b"0001-01-01T00:00:00Z",
    b"value", b"\\\"value\\\":\\\"", b"\\ud83d\xf0\x9f\x98\x80", b"\x80\\ude00",
]  # fmt: skip
BASE64 = [
    b"", b"YQ==", b"YWI=", b"YWJj", b"YR==", b"YWJ=", b"YQ", b"YQ=", b"YQ===", b"YQ======", b"YQ==YQ==",
    b"Y=Q=", b"====", b"-_8=", b"+/8=", b"+\\/8=", b"\\u0059Q==", b"YQ\\u003d\\u003D", b"Y\\nQ=\\r=",
    b"YQ==\\n", b"Y\nQ==", b"Y Q==", b"YQ==\\t", b"\xff\xff==", b"\\ud83d===", b"\xc5\xb8Q==", b"@@@@",
]  # fmt: skip
WEIRD = [
    b"null", b"true", b"false", b"{}", b"[]", b"[null]", b"[1,2,255]", b"[ 1 , 2 ]", b"[-0]", b"[256]",
    b"[-1]", b"[1.0]", b'["a"]', b'""', b"0", b"nul", b"[[]]", b'{"deadline":null}', b'{"a":1}', b"[1,]",
    b"{,}", b'{"a"}', b'{"a":}', b"[" * 60 + b"]" * 60,
]  # fmt: skip
_ESCAPED = {"/": "\\/", "+": "\\u002b", "=": "\\u003D"}


class OddBodies:
    """Makes bodies of one kind; the same seed makes the same ones."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        self._random = random.Random(f"{kind} {seed}")
        self._changes: list[Callable[[bytes], bytes]] = [
            self._flip, self._cut, self._insert, self._double, self._escape, self._space,
        ]  # fmt: skip

    def __call__(self) -> bytes:
        """Make the next one."""
        chance = self._random
        text = self._plain() if chance.random() < 0.2 else self._object()
        for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 2, 5))):
            text = chance.choice(self._changes)(text)
        return text

    def _plain(self) -> bytes:
        """A body as a good end writes it."""
        chance = self._random
        data = [chance.randbytes(chance.choice((0, 0, 3, 30, 1200, 2000))) for _ in range(3)]
        error = chance.choice(("", "no", "<\u2028>"))
        match self.kind:
            case "message":
                topic = chance.choice(("", "t", "\U0001f600"))
                return b.message_json(key=data[0], value=data[1], custom=data[2], topic=topic, error=error)
            case "conn":
                return b.encode_data(b.ConnData(data[0], error))
            case "session":
                return b.encode_data(b.SessionData(data[0], error, chance.choice(("", "42", "name"))))
        return b.encode_data(b.RegisterData(error))

    def _object(self) -> bytes:
        chance = self._random
        known = KEYS[self.kind]
        keys = [key for key in known if chance.random() < 0.4]
        if chance.random() < 0.3:
            keys += chance.choices(known, k=chance.randint(1, 3))
        if chance.random() < 0.3:
            chance.shuffle(keys)
        if chance.random() < 0.2:
            keys.insert(chance.randint(0, len(keys)), chance.choice(["zzz", "", "valu\u00e9", "frame_limitx"]))
        items = [self._key(key) + b":" + self._value(key) for key in keys]
        return b"{" + b",".join(items) + b"}"

    def _key(self, key: str) -> bytes:
        chance = self._random
        match chance.randrange(20):
            case 0:
                key = key.upper()
            case 1:
                key = key.title()
            case 2:
                key = key.replace("k", "\u212a").replace("s", "\u017f")
            case 3 if key:
                at = chance.randrange(len(key))
                return b'"%s\\u%04x%s"' % (key[:at].encode(), ord(key[at]), key[at + 1 :].encode())
        return b'"' + key.encode() + b'"'

    def _value(self, key: str) -> bytes:
        chance = self._random
        if chance.random() < 0.05:
            return chance.choice(WEIRD)
        if chance.random() < 0.02:
            return chance.choice(NUMBERS).encode()
        if key in BYTES:
            return self._bytes()
        if key == "timeout":
            return (
                chance.choice(NUMBERS).encode() if chance.random() < 0.7 else b"%d" % chance.randint(-(10**18), 10**18)
            )
        if key == "deadline":
            return b'"' + self._time() + b'"'
        if key == "context":
            keys = chance.choices([b"deadline", b"Deadline", b"x"], k=chance.randint(0, 3))
            return b"{" + b",".join(b'"' + inner + b'":"' + self._time() + b'"' for inner in keys) + b"}"
        return (
            b'"'
            + b"".join(chance.choices(STRINGS if chance.random() < 0.4 else STRINGS[:10], k=chance.randint(0, 3)))
            + b'"'
        )

    def _bytes(self) -> bytes:
        chance = self._random
        kind = chance.randrange(10)
        if kind < 2:
            return b'"' + chance.choice(BASE64[:5] if chance.random() < 0.5 else BASE64) + b'"'
        # Both sides of each size at which the reader goes another way.
        text = base64.b64encode(chance.randbytes(chance.choice((1, 20, 380, 1100, 1160, 4000, 30_000)))).decode()
        if kind == 3:
            return json.dumps(list(base64.b64decode(text)[:400])).encode()
        if kind == 4:
            plain = chance.choice(list(_ESCAPED))
            text = text.replace(plain, _ESCAPED[plain])
        elif kind == 5:
            text = "\\r\\n".join(text[at : at + 76] for at in range(0, len(text), 76))
        return b'"' + text.encode() + b'"'

    def _time(self) -> bytes:
        chance = self._random
        text = chance.choice(TIMES[:9] if chance.random() < 0.6 else TIMES)
        if chance.random() < 0.03 and text:
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice("0123456789:-+.,TZ ") + text[at + 1 :]
        if chance.random() < 0.02 and text:
            text = text[:-1] + f"\\u{ord(text[-1]):04x}"
        return text.encode()

    # -- changes by chance --------------------------------------------------------------------------------

    def _at(self, text: bytes) -> int:
        # In the middle of a payload little happens: both ends are where the structure is.
        chance = self._random
        at = chance.randrange(min(len(text), 200) + 1)
        return at if chance.random() < 0.5 else len(text) - at

    def _flip(self, text: bytes) -> bytes:
        at = self._at(text)
        return text[:at] + bytes((self._random.randrange(256),)) + text[at + 1 :]

    def _cut(self, text: bytes) -> bytes:
        at = self._at(text)
        return text[:at] + text[at + self._random.randint(1, 4) :]

    def _insert(self, text: bytes) -> bytes:
        at = self._at(text)
        piece = self._random.choice(
            [*WEIRD, *STRINGS, *BASE64, b'"', b"\\", b",", b":", b"{", b"}", b"[", b"]", b"null,"]
        )
        return text[:at] + piece + text[at:]

    def _double(self, text: bytes) -> bytes:
        at, end = sorted((self._at(text), self._at(text)))
        return text[:end] + text[at:end][:100_000] + text[end:]

    def _escape(self, text: bytes) -> bytes:
        at = self._at(text)
        return text[:at] + (b"\\u%04x" % text[at] if at < len(text) else b"") + text[at + 1 :]

    def _space(self, text: bytes) -> bytes:
        at = self._at(text)
        return text[:at] + self._random.choice((b" ", b"\n", b"\t", b"\r", b"\x0b", b"\xc2\xa0")) + text[at:]
