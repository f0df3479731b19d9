"""Names and encodings in Redis.

``frontlas:frontiers:*``, ``frontlas:alive:frontiers:*``, ``frontlas:edges:*`` and ``frontlas:services:*`` are
shared with the reference implementation and keep its names, types and texts where it reads them.  What is
ours alone begins with ``frontlas:x:``, which matches none of the patterns that it enumerates.
"""

from __future__ import annotations

import re

import msgspec

from frontlas_tx.registry.directory import Entry
from frontlas_tx.registry.records import Change, ChangeKind, EdgeRecord, ServiceRecord, service_name

INDEX = "frontlas:x:frontiers"
"""Hash: ``f:<frontier_id>`` an entry, ``t:<frontier_id>`` the epoch in which all its peers were written at least
once, ``taken`` a 0 or 1 for each number of a Frontier, ``i:<instance>`` when that Frontlas was last seen (ms), ``gap``
from when to when (ms) there was no Frontlas at all lately, ``epoch`` a random text whose absence shows that Redis lost
its data."""
CHANNEL = "frontlas:x:changes"
"""Messages: ``F`` alone says that a Frontier came or went, ``E`` and a JSON list carries changes of peers, ``M`` and a
JSON list edges that left a Frontier for another one; ``Q`` and a Frontier with the token of its holder ask the
Frontlas of that holder whether it lives, ``A`` with the token and whether it does is the answer."""

Move = tuple[str, int, int]
"""The Frontier that an edge has left, the edge, and since when (seconds) another one has it."""


def hash_key(frontier_id: str) -> str:
    """The node's hash, as the reference reads it."""
    return f"frontlas:frontiers:{frontier_id}"


def alive_key(frontier_id: str) -> str:
    """The node's life sign; its value is the holder's token (the reference writes 1 and never reads it)."""
    return f"frontlas:alive:frontiers:{frontier_id}"


def edge_key(edge_id: int) -> str:
    """The record of an edge, JSON."""
    return f"frontlas:edges:{edge_id}"


def service_key(service_id: int) -> str:
    """The records of a service: a hash with one field per Frontier."""
    return f"frontlas:services:{service_id}"


def edges_of(entry: Entry) -> str:
    """The set of edge ids that this process of a node holds."""
    return f"frontlas:x:edges:{entry.generation}:{entry.frontier_id}"


def services_of(entry: Entry) -> str:
    """The set of service ids that this process of a node holds."""
    return f"frontlas:x:services:{entry.generation}:{entry.frontier_id}"


def health_key(instance: str) -> str:
    """What one Frontlas writes and reads to see whether Redis works."""
    return f"frontlas:x:health:{instance}"


class _Edge(msgspec.Struct):
    frontier_id: str = ""
    addr: str = ""
    update_time: int = 0
    meta: str = ""


class _GoEdge(msgspec.Struct):
    frontier_id: str
    addr: str
    update_time: int


class _Service(msgspec.Struct):
    service: str = ""
    frontier_id: str = ""
    addr: str = ""
    update_time: int = 0


class _Entry(msgspec.Struct):
    id: str
    n: int
    sb: str
    eb: str
    boot: str
    token: str
    at: int
    left: int
    born: int
    gen: int
    re: int
    up: int = 0
    ip: str = ""
    has: int = 1
    ver: str = ""
    up_at: int = 0


_encode = msgspec.json.Encoder().encode
_edge = msgspec.json.Decoder(_Edge)
_service = msgspec.json.Decoder(_Service)
_entry = msgspec.json.Decoder(_Entry, strict=False)
_entries = msgspec.json.Decoder(list[_Entry], strict=False)
_changes = msgspec.json.Decoder(list[tuple[str, str, int, str, str, int]])
_question = msgspec.json.Decoder(tuple[str, str])
_answer = msgspec.json.Decoder(tuple[str, bool])
_moves = msgspec.json.Decoder(list[Move])
_REFERENCE_SERVICE = re.compile(r"service: (.*), frontier_id: (.*), addr: (.*), update_time: (\d+)", re.DOTALL)


def encode_edge(frontier_id: str, addr: str, update_time: int, meta: str = "") -> bytes:
    """The text of an edge record: these keys in this order without blanks; ``meta`` is ours, and left out if empty."""
    if meta:
        return _encode(_Edge(frontier_id, addr, update_time, meta))
    return _encode(_GoEdge(frontier_id, addr, update_time))


def decode_edge(edge_id: int, text: bytes | None) -> EdgeRecord | None:
    """An edge record; None if there is none or it cannot be read."""
    if not text:
        return None
    try:
        edge = _edge.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return EdgeRecord(edge_id, edge.frontier_id, edge.addr, edge.update_time, edge.meta)


def encode_service(service: str, frontier_id: str, addr: str, update_time: int) -> bytes:
    """The text of one field of a service's hash."""
    return _encode(_Service(service, frontier_id, addr, update_time))


def decode_service(service_id: int, text: bytes | None) -> ServiceRecord | None:
    """One field of a service's hash, ours or the reference's free text; None if it cannot be read."""
    if not text:
        return None
    try:
        if text.startswith(b"{"):
            found = _service.decode(text)
            return ServiceRecord(service_id, found.service, found.frontier_id, found.addr, found.update_time)
        match = _REFERENCE_SERVICE.fullmatch(text.decode())
    except (msgspec.DecodeError, UnicodeError):
        return None
    if match is None:
        return None
    name = match[1] and service_name(match[1])
    return ServiceRecord(service_id, name, match[2], match[3], int(match[4]))


def encode_entry(entry: Entry) -> bytes:
    """An entry of the index."""
    return _encode(
        _Entry(
            entry.frontier_id,
            entry.number,
            entry.sb,
            entry.eb,
            entry.boot,
            entry.token,
            entry.renewed,
            entry.left,
            entry.born,
            entry.generation,
            int(entry.respelled),
            int(entry.hung_up),
            entry.origin,
            entry.held,
            entry.version,
            entry.started,
        )
    )


def _to_entry(e: _Entry) -> Entry:
    state = (e.at, e.left, e.born, e.gen, bool(e.re), bool(e.up))
    return Entry(e.id, e.n, e.sb, e.eb, e.boot, e.token, *state, e.ip, e.has, e.ver, e.up_at)


def decode_entry(text: bytes) -> Entry:
    """An entry of the index."""
    return _to_entry(_entry.decode(text))


def decode_entries(text: bytes) -> dict[str, Entry]:
    """All entries of the index, as the poll script gives them."""
    return {entry.id: _to_entry(entry) for entry in _entries.decode(text)}


def encode_changes(changes: list[Change]) -> bytes:
    """A message for :data:`CHANNEL`."""
    return b"E" + _encode([(c.kind.value, c.frontier_id, c.peer_id, c.addr, c.service, c.update_time) for c in changes])


def decode_changes(message: bytes) -> list[Change]:
    """The changes in a message; none if it is of another kind or cannot be read."""
    if not message.startswith(b"E"):
        return []
    try:
        return [Change(ChangeKind(row[0]), *row[1:]) for row in _changes.decode(message[1:])]
    except (msgspec.DecodeError, UnicodeError, ValueError):
        return []


def encode_moves(moves: list[Move]) -> bytes:
    """A message for :data:`CHANNEL`."""
    return b"M" + _encode(moves)


def decode_moves(message: bytes) -> list[Move]:
    """The moves in a message; none if it cannot be read."""
    try:
        return _moves.decode(message[1:])
    except (msgspec.DecodeError, UnicodeError):
        return []


def encode_question(frontier_id: str, token: str) -> bytes:
    """A message for :data:`CHANNEL`."""
    return b"Q" + _encode((frontier_id, token))


def decode_question(message: bytes) -> tuple[str, str] | None:
    """Frontier and token of a question; None if it cannot be read."""
    try:
        return _question.decode(message[1:])
    except (msgspec.DecodeError, UnicodeError):
        return None


def encode_answer(token: str, alive: bool) -> bytes:
    """A message for :data:`CHANNEL`."""
    return b"A" + _encode((token, alive))


def decode_answer(message: bytes) -> tuple[str, bool] | None:
    """Token and life of an answer; None if it cannot be read."""
    try:
        return _answer.decode(message[1:])
    except (msgspec.DecodeError, UnicodeError):
        return None
