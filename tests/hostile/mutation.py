"""Frames that no library would send, made from recorded ones and from hand-made ones by chance.

It shares no code with the project, so that a mistake of its codec is not repeated here. The same seed makes the same
frames.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

from tests.interop.raw_peer import (
    CONN,
    DIS_CONN,
    DIS_CONN_ACK,
    DISMISS,
    DISMISS_ACK,
    HEARTBEAT,
    HEARTBEAT_ACK,
    MESSAGE,
    MESSAGE_ACK,
    REGISTER,
    REGISTER_ACK,
    REQUEST,
    REQUEST_CANCEL,
    RESPONSE,
    SESSION,
    SESSION_ACK,
    STREAM,
    UNSET,
    b64,
    frame,
    on_session,
)

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
KINDS = (
    CONN, DIS_CONN, DIS_CONN_ACK, HEARTBEAT, HEARTBEAT_ACK, SESSION, SESSION_ACK, DISMISS, DISMISS_ACK, MESSAGE,
    MESSAGE_ACK, STREAM, 0x62, REQUEST, RESPONSE, REQUEST_CANCEL, REGISTER, REGISTER_ACK,
)  # fmt: skip
_STREAM_CREDIT = 0x62
_BODY = struct.Struct(">I")
HEADER = 14

#: Texts for the place of a value: some that other implementations take, and some that nobody does.
TAKEN = (
    b"null", b'""', b'"\\u0041\\u0041=="', b'"QQ==\\n"', b'"QUI\\u003d"', b"[65,66]", b'"0001-01-01T00:00:00\\u005a"',
)  # fmt: skip
REFUSED = (
    b'"QQ"', b"[256]", b"[" * 200, b"1e9", b"-0", b"18446744073709551616", b"true", b"{}", b'"\\ud800"', b'"\xff\xfe"',
    '"\U0001f600"'.encode(), b'"\\u0000"', b'"2026-13-01T00:00:00Z"', b'"9999-12-31T23:59:60Z"', b'"\x01"',
    b'"2026-01-01t00:00:00z"', b'"2026-01-01T00:00:00.123456789123Z"', b'"2026-01-01T00:00:00,5+23:59"',
    b'"-001-01-01T00:00:00Z"', b'"' + b"A" * 8000 + b'"', b'"' + b"<" * 3000 + b'"',
)  # fmt: skip
KEYS = (
    b"key", b"value", b"topic", b"custom", b"error", b"timeout", b"deadline", b"context", b"meta", b"peer", b"VALUE",
    b"frame_limit", b"stream_window", b"kind", b"\\u0076alue", "\u017fession".encode(), b"unknown", b"",
)  # fmt: skip


def recorded(leg: str) -> list[list[bytes]]:
    """What each end of a kind (``edge`` or ``service``) sent in each recorded conversation."""
    found: list[list[bytes]] = []
    for scenario in json.loads((VECTORS / "gateway-conversations.json").read_text())["scenarios"]:
        scripts: dict[str, list[bytes]] = {}
        for record in scenario["frames"]:
            if record.get("to_gateway") and record["leg"].startswith(leg) and "hex" in record:
                scripts.setdefault(record["leg"], []).append(bytes.fromhex(record["hex"]))
        found += scripts.values()
    return found


def broken() -> list[bytes]:
    """The recorded broken frames."""
    vectors = json.loads((VECTORS / "frames.json").read_text())["negative"]
    return [bytes.fromhex(vector["hex"]) for vector in vectors if "hex" in vector]


class Mutator:
    """Makes frames for one connection.

    :param names: methods, topics and peers that are worth calling.
    :param careful: whether its frames are whole and of known types, so that the connection lasts and what is in them
        goes on to others.
    :param tails: what goes behind ``custom``: ids of edges as eight bytes, for a service; for an edge none.
    """

    def __init__(self, chance: random.Random, names: list[str], tails: list[bytes], careful: bool) -> None:
        self.chance = chance
        self.names = names
        self.tails = tails
        self.careful = careful
        #: Ids of this connection that mean something to the gateway.
        self.sessions = [1]
        self.asked: list[tuple[int, int, int]] = []
        self._next = chance.randrange(1, 1 << 60)
        self._broken = broken()

    def fresh(self) -> int:
        self._next += 2
        return self._next

    def session(self) -> int:
        return self.chance.choice((*self.sessions, 1, 1, 0, 2**64 - 1))

    # -- whole frames -------------------------------------------------------------------------------------

    def make(self) -> bytes:
        """A frame, honest or not."""
        choose: Callable[[], bytes] = self.chance.choice((
            self.request, self.request, self.message, self.answer, self.answer, self.stream, self.open, self.register,
            self.cancel, self.odd, self.known_bad,
        ))  # fmt: skip
        made = choose()
        if self.careful:
            return made if choose not in (self.odd, self.known_bad) else self.stream()
        return self.mutated(made) if self.chance.random() < 0.5 else made

    def value(self) -> bytes:
        size = self.chance.choice((0, 1, 40, 700, 1600, 5000, 60_000))
        return b'"' + b64(self.chance.randbytes(size)).encode() + b'"'

    def custom(self) -> bytes:
        tail = self.chance.choice((*self.tails, b"", b"short")) if self.tails else b""
        return self.chance.randbytes(self.chance.choice((0, 0, 3))) + tail

    def fields(self, **texts: bytes) -> bytes:
        """A MessageData with these values as JSON, and some more that nobody expects."""
        items = [(name.encode(), text) for name, text in texts.items()]
        items += [(b"deadline", b'"' + UNSET.encode() + b'"'), (b"context", b'{"deadline":"' + UNSET.encode() + b'"}')]
        chance = self.chance
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            odd = (*TAKEN, self.value()) if self.careful and chance.random() < 0.98 else REFUSED
            key = chance.choice((b"value", b"VALUE", b"custom", b"unknown") if self.careful else KEYS)
            items.insert(chance.randrange(len(items) + 1), (key, chance.choice(odd)))
        if chance.random() < 0.1:
            chance.shuffle(items)
        space = chance.choice((b"", b"", b"", b" ", b"\n\t"))
        return b"{" + b",".join(space + b'"' + key + b'":' + text for key, text in items) + space + b"}"

    def name(self) -> bytes:
        return self.chance.choice((*self.names, "", "nobody", "x" * 300)).encode()

    def key(self) -> bytes:
        name = self.name() if self.chance.random() < 0.9 else self.chance.choice((b"\xff\xfe", b"\0", b"n" * 100_000))
        return b'"' + b64(name).encode() + b'"'

    def request(self) -> bytes:
        data = self.fields(key=self.key(), value=self.value(), custom=b'"' + b64(self.custom()).encode() + b'"')
        return frame(REQUEST, self.fresh(), on_session(self.session(), data))

    def message(self) -> bytes:
        topic = json.dumps(self.name().decode()).encode()
        data = self.fields(value=self.value(), topic=topic, custom=b'"' + b64(self.custom()).encode() + b'"')
        return frame(MESSAGE, self.fresh(), on_session(self.session(), data))

    def answer(self) -> bytes:
        """Of something that the gateway asked, or never did."""
        kind, packet_id, session = self.chance.choice((*self.asked[-20:], (RESPONSE, self.fresh(), 1)))
        texts = {"value": self.value()}
        if self.chance.random() < 0.3:
            texts["error"] = self.chance.choice((b'"no"',) if self.careful else (b'"no"', *REFUSED))
        return frame(kind, packet_id, on_session(session, self.fields(**texts)))

    def stream(self) -> bytes:
        size = self.chance.choice((0, 0, 1, 1, 30, 4096, 60_000))
        return frame(STREAM, self.fresh(), on_session(self.session(), self.chance.randbytes(size)))

    def open(self) -> bytes:
        number = self.fresh()
        peer = json.dumps(self.name().decode())
        if self.tails and self.chance.random() < 0.7:
            peer = json.dumps(str(int.from_bytes(self.chance.choice(self.tails))))
        meta = b64(self.chance.randbytes(self.chance.choice((0, 10, 3000))))
        fixed = b"\0" + self.chance.choice((b"\x10", b"\x10", b"\x10", b"\0")) + number.to_bytes(8)
        return frame(SESSION, number, fixed + f'{{"meta":"{meta}","peer":{peer}}}'.encode())

    def register(self) -> bytes:
        name = b"evil-" + self.chance.randbytes(self.chance.choice((1, 20, 5000)))
        return frame(REGISTER, self.fresh(), self.session().to_bytes(8) + name)

    def cancel(self) -> bytes:
        return frame(REQUEST_CANCEL, self._next, self.session().to_bytes(8) + self.chance.randbytes(2))

    def odd(self) -> bytes:
        """A type that has no business here, with a body of chance."""
        kind = self.chance.choice((HEARTBEAT, SESSION_ACK, DISMISS_ACK, _STREAM_CREDIT, REGISTER_ACK, DISMISS))
        session = self.chance.choice(self.sessions[1:] or [7])
        return frame(kind, self.fresh(), b"" if kind == HEARTBEAT else session.to_bytes(8) + self.chance.randbytes(16))

    def known_bad(self) -> bytes:
        return self.chance.choice(self._broken)

    # -- mutations ----------------------------------------------------------------------------------------

    def mutated(self, data: bytes) -> bytes:
        """The same frame with a few faults; mostly its length is put right, so that the body is looked at."""
        chance = self.chance
        made = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 5))):
            self._spoil(made)
        if len(made) >= HEADER and chance.random() < 0.9:
            made[10:14] = _BODY.pack(len(made) - HEADER)
        if len(made) >= 2 and chance.random() < 0.9:
            made[0] = 1
        return bytes(made)

    def _spoil(self, made: bytearray) -> None:
        chance = self.chance
        size = len(made)
        if size <= HEADER:
            made += chance.randbytes(20)
            return
        at = chance.randrange(HEADER, size)
        match chance.randrange(9):
            case 0:
                made[at] ^= 1 << chance.randrange(8)
            case 1:
                made[at] = chance.choice(b'"\\{}[],:\0\xff\x80')
            case 2:
                del made[at:]
            case 3:
                made += chance.randbytes(chance.choice((1, 8, 300)))
            case 4:
                made[at:at] = chance.choice((*TAKEN, *REFUSED))
            case 5:
                made[1] = chance.choice(KINDS)
            case 6:
                made[HEADER : HEADER + 8] = self.session().to_bytes(8)
            case 7:
                end = min(size, at + chance.randrange(1, 200))
                made[at:at] = made[at:end]
            case 8:
                made[chance.randrange(size)] = chance.randrange(256)
