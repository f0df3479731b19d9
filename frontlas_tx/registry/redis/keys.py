"""Names and encodings in Redis.

``frontlas:frontiers:*``, ``frontlas:alive:frontiers:*``, ``frontlas:edges:*`` and ``frontlas:services:*`` are
shared with a Go Frontlas and keep its names, types and texts where it reads them.  What is
ours alone begins with ``frontlas:x:``, which matches none of the patterns that it enumerates.
"""

from __future__ import annotations

import re
from typing import Any

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
"""The Frontier that an edge has left (empty if that is not known), the edge, and since when (seconds) another one has
it."""


def hash_key(frontier_id: str) -> str:
    """The node's hash, as a Go Frontlas reads it."""
    return f"frontlas:frontiers:{frontier_id}"


def alive_key(frontier_id: str) -> str:
    """The node's life sign; its value is the holder's token (a Go Frontlas writes 1 and never reads it)."""
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


encode = msgspec.json.Encoder().encode
_edge = msgspec.json.Decoder(_Edge)
_service = msgspec.json.Decoder(_Service)
decode_entry = msgspec.json.Decoder(Entry, strict=False).decode
"""An entry of the index."""
decode_entries = msgspec.json.Decoder(list[Entry], strict=False).decode
"""All entries of the index, as the poll script gives them."""
_MESSAGES: dict[bytes, msgspec.json.Decoder[Any]] = {
    b"E": msgspec.json.Decoder(list[tuple[str, str, int, str, str, int]]),
    b"M": msgspec.json.Decoder(list[Move]),
    b"Q": msgspec.json.Decoder(tuple[str, str]),
    b"A": msgspec.json.Decoder(tuple[str, bool]),
}
_GO_SERVICE = re.compile(r"service: (.*), frontier_id: (.*), addr: (.*), update_time: (\d+)", re.DOTALL)


def encode_edge(frontier_id: str, addr: str, update_time: int, meta: str = "") -> bytes:
    """The text of an edge record: these keys in this order without blanks; ``meta`` is ours, and left out if empty."""
    if meta:
        return encode(_Edge(frontier_id, addr, update_time, meta))
    return encode(_GoEdge(frontier_id, addr, update_time))


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
    return encode(_Service(service, frontier_id, addr, update_time))


def decode_service(service_id: int, text: bytes | None) -> ServiceRecord | None:
    """One field of a service's hash, ours or the free text of a Go Frontlas; None if it cannot be read."""
    if not text:
        return None
    try:
        if text.startswith(b"{"):
            found = _service.decode(text)
            return ServiceRecord(service_id, found.service, found.frontier_id, found.addr, found.update_time)
        match = _GO_SERVICE.fullmatch(text.decode())
    except (msgspec.DecodeError, UnicodeError):
        return None
    if match is None:
        return None
    name = match[1] and service_name(match[1])
    return ServiceRecord(service_id, name, match[2], match[3], int(match[4]))


def encode_changes(changes: list[Change]) -> bytes:
    """A message for :data:`CHANNEL`."""
    return b"E" + encode([(c.kind.value, c.frontier_id, c.peer_id, c.addr, c.service, c.update_time) for c in changes])


def decode_message(message: bytes) -> tuple[bytes, Any]:
    """The kind of a message and what it carries: changes, or what its JSON says; the kind is empty if it cannot be
    read."""
    kind = message[:1]
    try:
        value: Any = _MESSAGES[kind].decode(message[1:]) if kind in _MESSAGES else None
        return kind, [Change(ChangeKind(row[0]), *row[1:]) for row in value] if kind == b"E" else value
    except (msgspec.DecodeError, ValueError):
        return b"", None
