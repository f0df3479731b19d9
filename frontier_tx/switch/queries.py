"""What the control plane lists: who is online, and the methods and topics they brought, filtered, ordered and in pages.

Pure functions over a ``Repository``; nothing is kept between two of them. A list costs one pass over the peers that its
index cannot rule out (about a second for a million edges) and memory for the page alone: a query for one id, for a
service's method or for a topic looks only at those that have it.

Rules that all lists share (docs/gateway.md, "Listing"):

* Text filters match the beginning, exactly as written, in the lists of peers; anywhere and without regard to case in
  the lists of methods and topics. An empty filter, like an id of 0, is none.
* The time window is ``start_time <= t < end_time`` in Unix seconds; it counts only with both ends given and not 0.
* ``order`` is a field's name behind ``-`` (descending), ``+`` (ascending) or nothing; an unknown one means the default,
  ``create_time`` descending. Text is ordered without regard to case. Ties go by id, newest first.
* ``page`` counts from 1; if it or ``page_size`` is not positive, page 1 of 10 is meant.
* ``count`` is the number of matches on all pages.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from frontier_tx.switch.legs import Leg
from frontier_tx.switch.repository import Repository

DEFAULT_PAGE_SIZE = 10
_DEFAULT_ORDER = "-create_time"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class EdgeRecord:
    """An edge online: ``meta`` as text, ``addr`` remote host:port, ``create_time`` Unix seconds."""

    edge_id: int
    meta: str
    addr: str
    create_time: int


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A service online; several may have the same name in ``service``."""

    service_id: int
    service: str
    addr: str
    create_time: int


@dataclass(frozen=True, slots=True)
class Page(Generic[_T]):
    """One page of a list, and how much there is on all of them."""

    items: list[_T]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What every list can be asked for; see the rules above."""

    page: int = 0
    page_size: int = 0
    start_time: int = 0
    end_time: int = 0
    order: str = ""

    def includes(self, when: int) -> bool:
        """Whether a time lies in the window."""
        return not (self.start_time and self.end_time) or self.start_time <= when < self.end_time

    @property
    def span(self) -> tuple[int, int]:
        """First match of the page and the one behind its last."""
        if self.page <= 0 or self.page_size <= 0:
            return 0, DEFAULT_PAGE_SIZE
        first = (self.page - 1) * self.page_size
        return first, first + self.page_size


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSelection(Selection):
    """Edges; ``rpc`` is the exact name of a method that they registered."""

    meta: str = ""
    addr: str = ""
    rpc: str = ""
    edge_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSelection(Selection):
    """Services; ``rpc`` and ``topic`` are exact names."""

    service: str = ""
    addr: str = ""
    rpc: str = ""
    topic: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeNamesSelection(Selection):
    """Methods of edges."""

    meta: str = ""
    edge_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceNamesSelection(Selection):
    """Methods or topics of services."""

    service: str = ""
    service_id: int = 0


def edge_record(leg: Leg) -> EdgeRecord:
    """Describe an edge."""
    return EdgeRecord(leg.id, _text(leg.meta), leg.address, int(leg.since))


def service_record(leg: Leg) -> ServiceRecord:
    """Describe a service."""
    return ServiceRecord(leg.id, leg.name, leg.address, int(leg.since))


def list_edges(repository: Repository, wanted: EdgeSelection) -> Page[EdgeRecord]:
    """List edges; ``order`` knows edge_id, meta, addr and create_time and is descending without a sign."""
    rpc, meta, addr = wanted.rpc.encode(), wanted.meta, wanted.addr
    found = (
        leg
        for leg in _of_id(repository.edges, wanted.edge_id)
        if (not addr or leg.address.startswith(addr))
        and (not rpc or rpc in leg.methods)
        and (not meta or _text(leg.meta).startswith(meta))
        and wanted.includes(int(leg.since))
    )
    page = _page(found, wanted, _EDGE_FIELDS, "-", lambda leg: leg.id)
    return Page([edge_record(leg) for leg in page.items], page.count)


def list_services(repository: Repository, wanted: ServiceSelection) -> Page[ServiceRecord]:
    """List services; ``order`` knows service_id, service, addr and create_time and is ascending without a sign."""
    rpc, topic = wanted.rpc.encode(), wanted.topic
    candidates: Iterable[Leg] = repository.services.values()
    if rpc:
        candidates = repository.by_method.get(rpc, ())
    elif topic:
        candidates = repository.by_topic.get(topic, ())
    found = (
        leg
        for leg in candidates
        if leg.name.startswith(wanted.service)
        and leg.address.startswith(wanted.addr)
        and (not topic or topic in leg.topics)
        and wanted.includes(int(leg.since))
    )
    page = _page(found, wanted, _SERVICE_FIELDS, "+", lambda leg: leg.id)
    return Page([service_record(leg) for leg in page.items], page.count)


def list_edge_rpcs(repository: Repository, wanted: EdgeNamesSelection) -> Page[str]:
    """List the distinct methods of edges; ``order`` knows rpc, edge_id and create_time (of registering)."""
    meta = wanted.meta.lower()
    rows = (
        _Row(_text(method), leg.id, int(when))
        for leg in _of_id(repository.edges, wanted.edge_id)
        if leg.methods and (not meta or meta in _text(leg.meta).lower())
        for method, when in leg.methods.items()
    )
    return _names(rows, wanted, _row_fields("rpc", "edge_id"))


def list_service_rpcs(repository: Repository, wanted: ServiceNamesSelection) -> Page[str]:
    """List the distinct methods of services; ``order`` knows rpc, service_id and create_time (of registering)."""
    rows = (
        _Row(_text(method), leg.id, int(when))
        for leg in _named(repository, wanted)
        for method, when in leg.methods.items()
    )
    return _names(rows, wanted, _row_fields("rpc", "service_id"))


def list_service_topics(repository: Repository, wanted: ServiceNamesSelection) -> Page[str]:
    """List the distinct topics of services; ``order`` knows topic, service_id and create_time (of connecting)."""
    rows = (_Row(topic, leg.id, int(leg.since)) for leg in _named(repository, wanted) for topic in leg.topics)
    return _names(rows, wanted, _row_fields("topic", "service_id"))


@dataclass(frozen=True, slots=True)
class _Row:
    """One name that one peer brought."""

    name: str
    id: int
    when: int


_Field = Callable[[Any], Any]
_EDGE_FIELDS: dict[str, _Field] = {
    "edge_id": lambda leg: leg.id,
    "meta": lambda leg: _text(leg.meta).lower(),
    "addr": lambda leg: leg.address.lower(),
    "create_time": lambda leg: int(leg.since),
}
_SERVICE_FIELDS: dict[str, _Field] = {
    "service_id": lambda leg: leg.id,
    "service": lambda leg: leg.name.lower(),
    "addr": lambda leg: leg.address.lower(),
    "create_time": lambda leg: int(leg.since),
}


def _row_fields(name: str, peer_id: str) -> dict[str, _Field]:
    return {
        name: lambda row: row.name.lower(),
        peer_id: lambda row: row.id,
        "create_time": lambda row: row.when,
    }


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _of_id(table: dict[int, Leg], wanted_id: int) -> Iterable[Leg]:
    if not wanted_id:
        return table.values()
    leg = table.get(wanted_id)
    return () if leg is None else (leg,)


def _named(repository: Repository, wanted: ServiceNamesSelection) -> Iterator[Leg]:
    service = wanted.service.lower()
    return (leg for leg in _of_id(repository.services, wanted.service_id) if service in leg.name.lower())


def _order(order: str, fields: dict[str, _Field], unsigned: str) -> tuple[_Field, bool]:
    """Return the key to order by, and whether descending."""
    sign, name = (order[0], order[1:]) if order[:1] in ("-", "+") else (unsigned, order)
    if name not in fields:
        sign, name = _DEFAULT_ORDER[0], _DEFAULT_ORDER[1:]
    return fields[name], sign == "-"


def _page(
    found: Iterable[_T], wanted: Selection, fields: dict[str, _Field], unsigned: str, id_of: Callable[[_T], int]
) -> Page[_T]:
    """Cut the page out of what was found, keeping no more than its end in memory."""
    key, descending = _order(wanted.order, fields, unsigned)
    first, behind = wanted.span
    count = 0

    def counted() -> Iterator[_T]:
        nonlocal count
        for item in found:
            count += 1
            yield item

    if descending:
        best = heapq.nlargest(behind, counted(), key=lambda item: (key(item), id_of(item)))
    else:
        best = heapq.nsmallest(behind, counted(), key=lambda item: (key(item), -id_of(item)))
    return Page(best[first:], count)


def _names(rows: Iterable[_Row], wanted: Selection, fields: dict[str, _Field]) -> Page[str]:
    """A name stands where the first of its rows stands; it is listed and counted once."""
    key, descending = _order(wanted.order, fields, "+")

    def rank(row: _Row) -> tuple[Any, int]:
        return key(row), row.id if descending else -row.id

    firsts: dict[str, _Row] = {}
    for row in rows:
        if wanted.includes(row.when):
            seen = firsts.get(row.name)
            if seen is None or (rank(row) > rank(seen) if descending else rank(row) < rank(seen)):
                firsts[row.name] = row
    ordered = sorted(firsts.values(), key=lambda row: row.name)
    ordered.sort(key=rank, reverse=descending)
    first, behind = wanted.span
    return Page([row.name for row in ordered[first:behind]], len(ordered))
