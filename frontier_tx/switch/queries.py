"""What the control plane lists: who is online, and the methods and topics they brought, filtered, ordered and in pages.

Pure functions over a ``Repository``. Each is a generator that stops after every ``SLICE`` peers or names, so that
others get their turn, and returns the page; it shows the peers as they were when it began. A list costs one pass over
the peers that its index cannot rule out; the newest edges, a query for one id, for a service's method or for a topic
look only at those that have it.

Rules that all lists share (docs/control-plane.md, "Lists"):

* Text filters match the beginning, exactly as written, in the lists of peers; anywhere and without regard to case in
  the lists of methods and topics. An empty filter, like an id of 0, is none.
* The time window is ``start_time <= t < end_time`` in Unix seconds; it counts only with both ends given and not 0.
* ``order`` is a field's name behind ``-`` (descending), ``+`` (ascending) or nothing; an unknown one means the default,
  ``create_time`` descending. Text is ordered without regard to case. Ties go by id, in the same direction, and names of
  one peer in the order in which they came; with a filter by id never backwards, as on the reference's store.
* ``page`` counts from 1; if it or ``page_size`` is not positive, page 1 of 10 is meant.
* ``count`` is the number of matches on all pages.
"""

import heapq
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any, Generic, TypeVar

from frontier_tx.switch.legs import Leg
from frontier_tx.switch.repository import Repository

DEFAULT_PAGE_SIZE = 10
#: So many peers or names are looked at before others get their turn: half a millisecond.
SLICE = 500
#: Of a meta so many bytes count for its place; some peers send metas of 64 KiB.
ORDERED_BYTES = 1024

_T = TypeVar("_T")
_R = TypeVar("_R")
Steps = Generator[None, None, _T]


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

    @property
    def timed(self) -> bool:
        """Whether there is a time window."""
        return bool(self.start_time and self.end_time)

    def includes(self, when: float) -> bool:
        """Whether a time lies in the window."""
        return not self.timed or self.start_time <= int(when) < self.end_time

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


def at_once(steps: Steps[_T]) -> _T:
    """Run all steps of a list without a pause, and return its page."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def list_edges(repository: Repository, wanted: EdgeSelection) -> Steps[Page[Leg]]:
    """List edges; ``order`` knows edge_id, meta, addr and create_time and is descending without a sign."""
    tests: list[_Test] = []
    if wanted.addr:
        tests.append(lambda leg: leg.address.startswith(wanted.addr))
    if wanted.rpc:
        rpc = wanted.rpc.encode()
        tests.append(lambda leg: rpc in leg.methods)
    if wanted.meta:
        tests.append(_meta_begins(wanted.meta))
    by_default = _ordered(wanted.order, _EDGE_KEYS, "-") == ("create_time", True)
    if repository.in_order and by_default and not (tests or wanted.edge_id or wanted.timed) and wanted.span[1] <= SLICE:
        return _newest(repository.edges, wanted)
    return _page(_of_id(repository.edges, wanted.edge_id), tests, wanted, _EDGE_KEYS, "-")


def list_services(repository: Repository, wanted: ServiceSelection) -> Steps[Page[Leg]]:
    """List services; ``order`` knows service_id, service, addr and create_time and is ascending without a sign."""
    rpc, topic = wanted.rpc.encode(), wanted.topic
    candidates: Iterable[Leg] = repository.services.values()
    if rpc:
        candidates = repository.by_method.get(rpc, ())
    elif topic:
        candidates = repository.by_topic.get(topic, ())
    tests: list[_Test] = []
    if wanted.service:
        tests.append(lambda leg: leg.name.startswith(wanted.service))
    if wanted.addr:
        tests.append(lambda leg: leg.address.startswith(wanted.addr))
    if rpc and topic:
        tests.append(lambda leg: topic in leg.topics)
    return _page(candidates, tests, wanted, _SERVICE_KEYS, "+")


def list_edge_rpcs(repository: Repository, wanted: EdgeNamesSelection) -> Steps[Page[str]]:
    """List the distinct methods of edges; ``order`` knows rpc, edge_id and create_time (of registering)."""
    meta = wanted.meta.lower()

    def fits(leg: Leg) -> bool:
        return meta in text_of(leg.meta).lower()

    legs = _of_id(repository.edges, wanted.edge_id)
    return _names(legs, fits if meta else None, _methods, wanted, ("rpc", "edge_id"), bool(wanted.edge_id))


def list_service_rpcs(repository: Repository, wanted: ServiceNamesSelection) -> Steps[Page[str]]:
    """List the distinct methods of services; ``order`` knows rpc, service_id and create_time (of registering)."""
    return _names(*_named(repository, wanted), _methods, wanted, ("rpc", "service_id"), bool(wanted.service_id))


def list_service_topics(repository: Repository, wanted: ServiceNamesSelection) -> Steps[Page[str]]:
    """List the distinct topics of services; ``order`` knows topic, service_id and create_time (of connecting)."""
    return _names(*_named(repository, wanted), _topics, wanted, ("topic", "service_id"), bool(wanted.service_id))


def text_of(raw: bytes) -> str:
    """Bytes of a peer as text; what is no UTF-8 becomes U+FFFD."""
    return raw.decode("utf-8", "replace")


_Test = Callable[[Leg], bool]
_Key = Callable[[Leg], Any]
_Run = list[tuple[Any, Any, _T]]
_DEFAULT_ORDER = "-create_time"
_EDGE_KEYS: dict[str, _Key] = {
    "edge_id": lambda leg: leg.id,
    "meta": lambda leg: text_of(leg.meta[:ORDERED_BYTES]).lower(),
    "addr": lambda leg: leg.address.lower(),
    "create_time": lambda leg: int(leg.since),
}
_SERVICE_KEYS: dict[str, _Key] = {
    "service_id": lambda leg: leg.id,
    "service": lambda leg: leg.name.lower(),
    "addr": lambda leg: leg.address.lower(),
    "create_time": lambda leg: int(leg.since),
}


def _of_id(table: dict[int, Leg], wanted_id: int) -> list[Leg]:
    if not wanted_id:
        return list(table.values())
    leg = table.get(wanted_id)
    return [] if leg is None else [leg]


def _meta_begins(text: str) -> _Test:
    if "\ufffd" in text:
        most = 4 * len(text)
        return lambda leg: text_of(leg.meta[:most]).startswith(text)
    # What begins with whole characters begins with their bytes.
    start = text.encode("utf-8", "surrogatepass")
    return lambda leg: leg.meta.startswith(start)


def _ordered(order: str, known: Iterable[str], unsigned: str) -> tuple[str, bool]:
    """Return the name of the field to order by, and whether descending."""
    sign, name = (order[0], order[1:]) if order[:1] in ("-", "+") else (unsigned, order)
    if name not in known:
        sign, name = _DEFAULT_ORDER[0], _DEFAULT_ORDER[1:]
    return name, sign == "-"


def _page(
    legs: Iterable[Leg], tests: list[_Test], wanted: Selection, keys: dict[str, _Key], unsigned: str
) -> Steps[Page[Leg]]:
    """Find what passes the tests, in slices, and put it in order, each slice by itself and then all together."""
    name, descending = _ordered(wanted.order, keys, unsigned)
    key = keys[name]
    if wanted.timed:
        tests = [*tests, lambda leg: wanted.includes(leg.since)]
    legs = list(legs)
    # Places in ``matches`` stand for the peers: what holds nothing but numbers and texts costs the collector nothing.
    matches: list[Leg] = []
    runs: list[_Run[int]] = []
    _, behind = wanted.span
    for start in range(0, len(legs), SLICE):
        found = legs[start : start + SLICE]
        for test in tests:
            found = [leg for leg in found if test(leg)]
        rows = [(key(leg), leg.id, place) for place, leg in enumerate(found, len(matches))]
        matches += found
        runs.append(_run(rows, behind, descending))
        yield
    return (yield from _cut(runs, len(matches), wanted, descending, matches.__getitem__))


def _newest(edges: dict[int, Leg], wanted: Selection) -> Steps[Page[Leg]]:
    """The default order without a filter: edges stand in the order in which they came."""
    first, behind = wanted.span
    walk = reversed(edges.values())
    found = list(islice(walk, behind))
    if found:
        # All of the last second, as those are ordered by their ids.
        second = int(found[-1].since)
        found.extend(takewhile(lambda leg: int(leg.since) == second, walk))
        found.sort(key=lambda leg: (int(leg.since), leg.id), reverse=True)
    yield from ()
    return Page(found[first:behind], len(edges))


def _named(repository: Repository, wanted: ServiceNamesSelection) -> tuple[list[Leg], _Test]:
    service = wanted.service.lower()
    return _of_id(repository.services, wanted.service_id), lambda leg: service in leg.name.lower()


def _methods(leg: Leg) -> Iterable[tuple[bytes | str, float]]:
    return leg.methods.items()


def _topics(leg: Leg) -> Iterable[tuple[bytes | str, float]]:
    return [(topic, leg.since) for topic in leg.topics]


def _names(
    legs: list[Leg],
    test: _Test | None,
    rows: Callable[[Leg], Iterable[tuple[bytes | str, float]]],
    wanted: Selection,
    fields: tuple[str, str],
    only_one: bool,
) -> Steps[Page[str]]:
    """A name stands where the first of those who brought it stands; it is listed and counted once."""
    field, descending = _ordered(wanted.order, (*fields, "create_time"), "+")
    timed, by_time, by_id = wanted.timed, field == "create_time", field == fields[1]
    sign = -1 if descending else 1
    backwards = descending and not only_one
    firsts: dict[bytes | str, tuple[int, int, int]] = {}
    seen = 0
    if descending:
        # Those that stand first come first, mostly.
        legs.reverse()
    for leg in legs:
        seen += 1 + len(leg.methods) + (len(leg.meta) >> 10)
        if seen >= SLICE:
            seen = 0
            yield
        if test is not None and not test(leg):
            continue
        peer_id = leg.id
        for number, (name, when) in enumerate(rows(leg)):
            if timed and not wanted.includes(when):
                continue
            first = sign * int(when) if by_time else sign * peer_id if by_id else 0
            best = firsts.get(name)
            if best is None or first <= best[0]:
                rank = (first, sign * peer_id, -number if backwards else number)
                if best is None or rank < best:
                    firsts[name] = rank
    walk = iter(firsts.items())
    runs: list[_Run[bytes | str]] = []
    by_name = field == fields[0]
    _, behind = wanted.span
    for _ in range(0, len(firsts), SLICE):
        if by_name:
            part: _Run[bytes | str] = [(_name(name).lower(), rank, name) for name, rank in islice(walk, SLICE)]
        else:
            # No two have the same rank.
            part = [(rank, 0, name) for name, rank in islice(walk, SLICE)]
        runs.append(_run(part, behind, descending and by_name))
        yield
    page = yield from _cut(runs, len(firsts), wanted, descending and by_name, _name)
    while firsts:
        # To let go of many at once takes long, too.
        for _ in range(min(SLICE, len(firsts))):
            firsts.popitem()
        yield
    return page


def _name(raw: bytes | str) -> str:
    return raw if isinstance(raw, str) else text_of(raw)


def _run(rows: _Run[_T], behind: int, descending: bool) -> _Run[_T]:
    """Rows in order, as far as they can be on the page or before it."""
    if 8 * behind < len(rows):
        return (heapq.nlargest if descending else heapq.nsmallest)(behind, rows)
    rows.sort(reverse=descending)
    return rows[:behind]


def _cut(
    runs: list[_Run[_R]], count: int, wanted: Selection, descending: bool, show: Callable[[_R], _T]
) -> Steps[Page[_T]]:
    """Cut the page out of runs that are in order each; nothing is left of them then.

    :param count: how many there are in all.
    :param show: makes what is on the page of what is in a run.
    """
    first, behind = wanted.span
    behind = min(behind, count) if first < count else 0
    merged = heapq.merge(*runs, reverse=descending)
    for start in range(0, min(first, behind), SLICE):
        deque(islice(merged, min(SLICE, first - start)), 0)
        yield
    items: list[_T] = []
    while len(items) < behind - first:
        items.extend([show(row[2]) for row in islice(merged, min(SLICE, behind - first - len(items)))])
        yield
    del merged
    for run in runs:
        run.clear()
        yield
    return Page(items, count)
