"""Bodies of the atlas plane: the meta of the connection and the events of edges and services."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import msgspec

from frontier_tx.wire import gojson

EDGE_ONLINE = "edge_online"
EDGE_OFFLINE = "edge_offline"
EDGE_HEARTBEAT = "edge_heartbeat"
SERVICE_ONLINE = "service_online"
SERVICE_OFFLINE = "service_offline"
SERVICE_HEARTBEAT = "service_heartbeat"
FRONTIER_STATS = "frontier_stats"
#: Methods that every Frontlas has, in the order in which it announces them.
METHODS = (
    EDGE_ONLINE,
    EDGE_OFFLINE,
    EDGE_HEARTBEAT,
    SERVICE_ONLINE,
    SERVICE_OFFLINE,
    SERVICE_HEARTBEAT,
    FRONTIER_STATS,
)
#: Extensions: many events in one call, and both ends of a complete report; used only where they were announced.
EVENTS = "x_events"
SYNC_BEGIN = "x_sync_begin"
SYNC_END = "x_sync_end"
EXTENSIONS = (EVENTS, SYNC_BEGIN, SYNC_END)
#: What Frontlas asks of a Frontier of this implementation: everything about an edge (answered with a
#: ``frontier.v1.EdgeDetails``), and to close its connection.
EDGE_DETAILS = "x_edge_details"
KICK_EDGE = "x_kick_edge"
#: Events in one call of ``x_events`` at most.
EVENTS_AT_MOST = 1000

MAX_PEER_ID = 2**64 - 1

#: Bytes of the meta of a Frontier, of its identity, of an address (a host name with its port) and of a boot id. With
#: these a list of as many Frontiers as a registry may know stays below the 4 MiB that gRPC clients take.
META_BYTES = 16_384
FRONTIER_ID_BYTES = 255
ADDRESS_BYTES = 262
BOOT_ID_BYTES = 128
VERSION_BYTES = 64
#: Bytes of a peer's address as its Frontier saw it, which may be a path.
PEER_ADDRESS_BYTES = 512
#: Bytes of what an edge said of itself that are reported, and remembered.
EDGE_META_BYTES = 512
#: Bytes of a body that is written in another way than usual: reading it is slow.
ODD_BYTES = 16_384
#: Bytes of many events in one call, or of one with the whole meta of its service.
EVENTS_BYTES = 2_097_152


class BadEvent(ValueError):
    """A body that is not what its method demands; the text goes back to the Frontier."""


@dataclass(frozen=True, slots=True)
class FrontierMeta:
    """Who connects: identity, advertised addresses, and of the process, where it is one of this implementation, a
    random text, its version and when it began (Unix seconds)."""

    frontier_id: str
    service_addr: str
    edge_addr: str
    boot_id: str = ""
    version: str = ""
    started: int = 0

    def encode(self) -> bytes:
        """The meta of the Conn."""
        meta: dict[str, str | int] = {
            "frontier_id": self.frontier_id,
            "advertised_servicebound_addr": self.service_addr,
            "advertised_edgebound_addr": self.edge_addr,
        }
        for key in ("boot_id", "version", "started"):
            if value := getattr(self, key):
                meta[key] = value
        return _compact(meta)

    def reached_at(self, host: str) -> "FrontierMeta":
        """The same with ``host`` (a name, or an IP address without brackets) in addresses that have none."""
        prefix = f"[{host}]" if ":" in host else host
        service, edge = (
            prefix + addr if addr.startswith(":") else addr for addr in (self.service_addr, self.edge_addr)
        )
        return replace(self, service_addr=service, edge_addr=edge)

    @classmethod
    def decode(cls, text: bytes) -> "FrontierMeta":
        """Read the meta of a Conn.

        :raises BadEvent: it is not a JSON object, or a value is not text, too long, or has characters that no name has.
        """
        if len(text) > META_BYTES:
            raise BadEvent(f"illegal meta: {len(text)} bytes, at most {META_BYTES} are taken")
        try:
            taken = gojson.read_object(text, _META_SHAPE)
        except ValueError as error:
            raise BadEvent(_go_text(text, "apis.FrontierInstance") or f"illegal meta: {error}") from None
        for key, most in _META_TEXTS.items():
            _check_text(key, taken.get(key, ""), most, plain=key != "frontier_id")
        name, service, edge, boot, version = (taken.get(key, "") for key in _META_TEXTS)
        return cls(name, service, edge, boot, version, max(0, taken.get("started", 0)))

    @property
    def client_id(self) -> int:
        """The id that Frontlas gives to this Frontier, every time the same.

        A Go Frontier drops what waited during a gap of the link when its id changed.
        """
        digest = hashlib.sha256(self.frontier_id.encode()).digest()
        return int.from_bytes(digest[:8]) >> 1 | 1


_META_TEXTS = {
    "frontier_id": FRONTIER_ID_BYTES,
    "advertised_servicebound_addr": ADDRESS_BYTES,
    "advertised_edgebound_addr": ADDRESS_BYTES,
    "boot_id": BOOT_ID_BYTES,
    "version": VERSION_BYTES,
}
_META_SHAPE: dict[str, gojson.Reader] = {
    **dict.fromkeys(_META_TEXTS, gojson.read_string),
    "started": gojson.read_integer,
}


@dataclass(slots=True)
class PeerEvent:
    """One event of an edge or a service; ``service`` is the whole meta of the service as text, ``meta`` the beginning
    of that of an edge (both empty in other events than the one that it came).

    ``age`` is for how many seconds a peer had been there when it was reported, where that is a repetition: a peer that
    another Frontier has seen since is not taken from there.
    """

    method: str
    peer_id: int
    frontier_id: str = ""
    addr: str = ""
    service: str = ""
    age: int = 0
    meta: str = ""

    def encode(self) -> bytes:
        """The value of the call."""
        return _compact(self.fields())

    def fields(self) -> dict[str, Any]:
        """The object of the call, keys in the order in which they are written."""
        of_edge = self.method.startswith("edge")
        fields: dict[str, Any] = {
            "frontier_id": self.frontier_id,
            "edge_id" if of_edge else "service_id": self.peer_id,
        }
        if self.method == SERVICE_ONLINE:
            fields["service"] = self.service
        if self.method in (EDGE_ONLINE, SERVICE_ONLINE):
            fields["addr"] = self.addr
        if self.age:
            fields["age"] = self.age
        if self.meta:
            fields["meta"] = self.meta
        return fields

    @classmethod
    def decode(cls, method: str, text: "bytes | msgspec.Raw") -> "PeerEvent":
        """Read the value of a call of one of the six methods about peers.

        :raises BadEvent: it is not what the method demands, or names peer 0.
        """
        if len(memoryview(text)) > EVENTS_BYTES:
            raise BadEvent(f"illegal {method}: more than {EVENTS_BYTES} bytes")
        try:
            body = _body(text)
        except (msgspec.DecodeError, UnicodeError):
            return cls._decode_tolerantly(method, bytes(text))
        peer_id = body.edge_id if method.startswith("edge") else body.service_id
        if not 0 < peer_id <= MAX_PEER_ID:
            return cls._decode_tolerantly(method, bytes(text))
        _check_text("addr", body.addr, PEER_ADDRESS_BYTES)
        meta = _cut(body.meta) if body.meta else ""
        return cls(method, peer_id, body.frontier_id, body.addr, body.service, max(0, body.age), meta)

    @classmethod
    def _decode_tolerantly(cls, method: str, text: bytes) -> "PeerEvent":
        """The same for what is written in another way than usual, and for the texts of what is wrong."""
        if len(text) > ODD_BYTES:
            raise BadEvent(f"illegal {method}: {len(text)} bytes that are not the JSON of an event")
        kind = "".join(word.capitalize() for word in method.split("_"))
        id_key = "edge_id" if method.startswith("edge") else "service_id"
        shape: dict[str, gojson.Reader] = {
            "frontier_id": _field(gojson.read_string, kind, "frontier_id", "string"),
            id_key: _field(gojson.read_integer, kind, id_key, "uint64"),
            "addr": _field(gojson.read_string, kind, "addr", "string"),
            "service": _field(gojson.read_string, kind, "service", "string"),
            "age": _field(gojson.read_integer, kind, "age", "int64"),
            "meta": _field(gojson.read_string, kind, "meta", "string"),
        }
        try:
            taken = gojson.read_object(text, shape)
        except BadEvent:
            raise
        except ValueError as error:
            raise BadEvent(_go_text(text, f"apis.{kind}") or f"illegal {method}: {error}") from None
        peer_id = taken.get(id_key, 0)
        if not 0 < peer_id <= MAX_PEER_ID:
            raise BadEvent(f"illegal {id_key} {peer_id}: an id is a number from 1 to {MAX_PEER_ID}")
        frontier_id, addr, service, meta = (taken.get(key, "") for key in ("frontier_id", "addr", "service", "meta"))
        _check_text("addr", addr, PEER_ADDRESS_BYTES)
        return cls(method, peer_id, frontier_id, addr, service, max(0, taken.get("age", 0)), _cut(meta))


def encode_stats(frontier_id: str, edges: int, services: int) -> bytes:
    """The value of ``frontier_stats``."""
    return _compact({"frontier_id": frontier_id, "edge_count": edges, "service_count": services})


def encode_events(events: list[PeerEvent]) -> bytes:
    """The value of ``x_events``: a list of ``[method, body]``."""
    return _compact([[event.method, event.fields()] for event in events])


def split_events(text: bytes) -> list[msgspec.Raw]:
    """The items of the value of ``x_events``, each to be read with ``decode_some``.

    :raises BadEvent: it is no list of at most ``EVENTS_AT_MOST``.
    """
    if len(text) > EVENTS_BYTES:
        raise BadEvent(f"illegal {EVENTS}: more than {EVENTS_BYTES} bytes")
    try:
        listed = _events(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadEvent(f"illegal {EVENTS}: expected a list of at most {EVENTS_AT_MOST} events: {error}") from None
    return list(takewhile(len, msgspec.structs.astuple(listed)))


def decode_some(items: Iterable[msgspec.Raw]) -> tuple[list[PeerEvent], str]:
    """The events of some items, and what is wrong with the first of those that cannot be read."""
    events = []
    wrong = ""
    for item in items:
        try:
            method, text = _pair(item)
            if method not in METHODS or method == FRONTIER_STATS:
                raise ValueError(method)
            events.append(PeerEvent.decode(method, text))
        except BadEvent as error:
            wrong = wrong or str(error)
        except (msgspec.DecodeError, ValueError):
            wrong = wrong or f"illegal {EVENTS}: expected [method, body] for each event"
    return events, wrong


def decode_events(text: bytes) -> tuple[list[PeerEvent], str]:
    """Read the value of ``x_events`` at once: the events, and what is wrong with the first that cannot be read.

    :raises BadEvent: as ``split_events``.
    """
    return decode_some(split_events(text))


def encode_edge(edge_id: int) -> bytes:
    """The value of ``x_edge_details`` and ``x_kick_edge``."""
    return _compact({"edge_id": edge_id})


def decode_edge(text: bytes) -> int:
    """Read it.

    :raises BadEvent: it names no edge.
    """
    try:
        return _body(text).edge_id
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadEvent(f"expected the id of an edge: {error}") from None


class _Body(msgspec.Struct):
    """An event as it is usually written; whatever differs is read the tolerant way."""

    frontier_id: str = ""
    edge_id: int = 0
    service_id: int = 0
    addr: str = ""
    service: str = ""
    age: int = 0
    meta: str = ""


# A list of so many places: one that is longer is refused where it gets too long, and not when all of it was read.
_Events = msgspec.defstruct(
    "_Events",
    [(f"event{number}", msgspec.Raw, msgspec.Raw()) for number in range(EVENTS_AT_MOST)],
    array_like=True,
    forbid_unknown_fields=True,
)
_events = msgspec.json.Decoder(_Events).decode
_pair = msgspec.json.Decoder(tuple[str, msgspec.Raw]).decode
_body = msgspec.json.Decoder(_Body).decode


def _check_text(key: str, text: str, most: int, plain: bool = False) -> None:
    """Refuse what is too long or would not be seen; ``plain`` texts are of ASCII without blanks."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    if size > most:
        raise BadEvent(f"illegal {key}: {size} bytes, at most {most} are taken")
    if not text.isprintable() or (plain and (not text.isascii() or " " in text)):
        raise BadEvent(f"illegal {key}: it has characters that no such name has")


def _cut(meta: str) -> str:
    return meta if len(meta) * 4 <= EDGE_META_BYTES else meta.encode()[:EDGE_META_BYTES].decode("utf-8", "ignore")


def _field(reader: gojson.Reader, kind: str, key: str, wanted: str) -> gojson.Reader:
    def read(value: Any) -> Any:
        try:
            return reader(value)
        except ValueError:
            given = _go_kind(value)
            # The text of a Go Frontlas, which its operators know from their logs.
            text = f"json: cannot unmarshal {given} into Go struct field {kind}.{key} of type {wanted}"
            raise BadEvent(text) from None

    return read


def _go_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, list):
        # gojson keeps an object as a list of pairs of its own class.
        return "array" if type(value) is list else "object"
    # And a number as the bytes of its text.
    return "string" if isinstance(value, str) else f"number {value.decode()}"


def _go_text(text: bytes, wanted: str) -> str:
    """What a Go Frontlas says about a body that is JSON but no object; empty if that is not the matter."""
    if len(text) > gojson.MOST:
        return ""
    kinds = {b"[": "array", b'"': "string", b"t": "bool", b"f": "bool"}
    first = text.strip()[:1]
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return ""
    kind = kinds.get(first, "number" if first in b"-0123456789" else "")
    return f"json: cannot unmarshal {kind} into Go value of type {wanted}" if kind else ""


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
