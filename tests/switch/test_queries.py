"""Lists of the control plane: filters, order, paging, counts."""

from collections.abc import Callable
from typing import Any

import pytest

from frontier_tx.switch.legs import NO_TRANSPORT, Kind, Leg
from frontier_tx.switch.queries import (
    EdgeNamesSelection,
    EdgeSelection,
    Page,
    ServiceNamesSelection,
    ServiceSelection,
    at_once,
    list_edge_rpcs,
    list_edges,
    list_service_rpcs,
    list_service_topics,
    list_services,
    text_of,
)
from frontier_tx.switch.repository import Repository
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.states import Role

from .world import WALL, World

START = int(WALL)


@pytest.fixture
def repository() -> Repository:
    """Edges 3, 1, 2 a second apart, 4 with 2; services 10 to 12, the last two at the same time."""
    world = World()
    for edge_id, meta, host in ((3, b"Abc", "10.0.0.3"), (1, b"abd", "10.0.0.1"), (2, b"b%c", "10.0.0.2")):
        edge = world.edge(edge_id, meta, host)
        edge.register(b"status")
        edge.register(f"only{edge_id}".encode())
        world.advance(1)
    world.clock.advance(-1)
    world.edge(4, b"\xff", "10.0.0.4")
    world.service("billing", ("news", "bills"), (b"pay", b"status"), 10)
    world.advance(1)
    world.service("Bills", ("news",), (b"pay",), 11)
    world.service("audit", (), (b"log",), 12)
    return world.core.repository


def edge_ids(repository: Repository, **wanted: object) -> list[int]:
    page = at_once(list_edges(repository, EdgeSelection(**wanted)))  # type: ignore[arg-type]
    assert page.count == len(page.items)
    return [record.id for record in page.items]


def service_ids(repository: Repository, **wanted: object) -> list[int]:
    return [record.id for record in at_once(list_services(repository, ServiceSelection(**wanted))).items]  # type: ignore[arg-type]


def test_records(repository: Repository) -> None:
    (edge,) = at_once(list_edges(repository, EdgeSelection(edge_id=3))).items
    assert (edge.id, edge.meta, edge.address, edge.since) == (3, b"Abc", "10.0.0.3:40001", START)
    (service,) = at_once(list_services(repository, ServiceSelection(service="audit"))).items
    assert (service.id, service.name, service.address) == (12, "audit", "127.0.0.1:40007")
    assert service.since == START + 3


def test_meta_that_is_no_text_is_found_as_it_is_shown(repository: Repository) -> None:
    assert text_of(repository.edges[4].meta) == "\ufffd"
    assert edge_ids(repository, meta="\ufffd") == [4]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, [4, 2, 1, 3]),
        ({"meta": "ab"}, [1]),
        ({"meta": "A"}, [3]),
        ({"meta": "%"}, []),
        ({"addr": "10.0.0.1"}, [1]),
        ({"addr": "10.", "meta": "b"}, [2]),
        ({"rpc": "only2"}, [2]),
        ({"rpc": "Only2"}, []),
        ({"rpc": "stat"}, []),
        ({"edge_id": 9}, []),
        ({"edge_id": 1, "meta": "A"}, []),
        ({"start_time": START, "end_time": START + 1}, [3]),
        ({"start_time": START + 1, "end_time": START + 2}, [1]),
        ({"start_time": START + 1}, [4, 2, 1, 3]),
        ({"end_time": START + 1}, [4, 2, 1, 3]),
        ({"start_time": START + 1, "end_time": START + 1}, []),
        ({"start_time": -5, "end_time": START + 1}, [3]),
        ({"order": "edge_id"}, [4, 3, 2, 1]),
        ({"order": "+edge_id"}, [1, 2, 3, 4]),
        ({"order": "+create_time"}, [3, 1, 2, 4]),
        ({"order": "+meta"}, [3, 1, 2, 4]),
        ({"order": "-addr"}, [4, 3, 2, 1]),
        ({"order": "addr", "meta": "b"}, [2]),
        ({"order": "+colour"}, [4, 2, 1, 3]),
        ({"order": "-"}, [4, 2, 1, 3]),
    ],
)
def test_edges(repository: Repository, wanted: dict[str, object], ids: list[int]) -> None:
    assert edge_ids(repository, **wanted) == ids


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, [12, 11, 10]),
        ({"service": "bill"}, [10]),
        ({"service": "B"}, [11]),
        ({"rpc": "pay"}, [11, 10]),
        ({"topic": "news"}, [11, 10]),
        ({"topic": "news", "rpc": "status"}, [10]),
        ({"topic": "bills", "service": "audit"}, []),
        ({"rpc": "nobody"}, []),
        ({"topic": "nobody"}, []),
        ({"addr": "127.0.0.1:40007"}, [12]),
        ({"order": "service"}, [12, 10, 11]),
        ({"order": "-service"}, [11, 10, 12]),
        ({"order": "service_id"}, [10, 11, 12]),
        ({"order": "create_time"}, [10, 11, 12]),
        ({"start_time": START + 3, "end_time": START + 4}, [12, 11]),
    ],
)
def test_services(repository: Repository, wanted: dict[str, object], ids: list[int]) -> None:
    assert service_ids(repository, **wanted) == ids


@pytest.mark.parametrize(
    ("page", "page_size", "ids"),
    [
        (1, 3, [4, 2, 1]),
        (2, 3, [3]),
        (3, 3, []),
        (1, 1_000_000, [4, 2, 1, 3]),
        (0, 1, [4, 2, 1, 3]),
        (2, 0, [4, 2, 1, 3]),
        (-1, 2, [4, 2, 1, 3]),
        (1, -2, [4, 2, 1, 3]),
    ],
)
def test_pages_of_edges(repository: Repository, page: int, page_size: int, ids: list[int]) -> None:
    found = at_once(list_edges(repository, EdgeSelection(page=page, page_size=page_size)))
    assert [record.id for record in found.items] == ids
    assert found.count == 4


def test_a_page_without_numbers_holds_ten() -> None:
    world = World()
    for number in range(1, 26):
        world.edge(number)
    found = at_once(list_edges(world.core.repository, EdgeSelection()))
    assert [record.id for record in found.items] == list(range(25, 15, -1))
    assert found.count == 25


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, ["only2", "status", "only1", "only3"]),
        ({"order": "rpc"}, ["only1", "only2", "only3", "status"]),
        ({"order": "-rpc"}, ["status", "only3", "only2", "only1"]),
        ({"order": "edge_id"}, ["status", "only1", "only2", "only3"]),
        ({"order": "-edge_id"}, ["only3", "status", "only2", "only1"]),
        ({"order": "create_time"}, ["status", "only3", "only1", "only2"]),
        ({"edge_id": 1}, ["status", "only1"]),
        ({"edge_id": 9}, []),
        ({"meta": "BC"}, ["only3", "status"]),
        ({"start_time": START, "end_time": START + 1}, ["only3", "status"]),
    ],
)
def test_edge_rpcs(repository: Repository, wanted: dict[str, object], names: list[str]) -> None:
    found = at_once(list_edge_rpcs(repository, EdgeNamesSelection(**wanted)))  # type: ignore[arg-type]
    assert found.items == names
    assert found.count == len(names)


def test_pages_hold_distinct_names(repository: Repository) -> None:
    wanted = [EdgeNamesSelection(order="rpc", page=number, page_size=3) for number in (1, 2, 3)]
    pages = [at_once(list_edge_rpcs(repository, each)) for each in wanted]
    assert [page.items for page in pages] == [["only1", "only2", "only3"], ["status"], []]
    assert {page.count for page in pages} == {4}


def test_service_rpcs(repository: Repository) -> None:
    def names(**wanted: object) -> list[str]:
        return at_once(list_service_rpcs(repository, ServiceNamesSelection(**wanted))).items  # type: ignore[arg-type]

    assert names(order="rpc") == ["log", "pay", "status"]
    assert names(order="-service_id") == ["log", "pay", "status"]
    assert names(service="BILL", order="rpc") == ["pay", "status"]
    assert names(service_id=12) == ["log"]
    assert names(service_id=99) == []


def test_service_topics(repository: Repository) -> None:
    def names(**wanted: object) -> list[str]:
        return at_once(list_service_topics(repository, ServiceNamesSelection(**wanted))).items  # type: ignore[arg-type]

    assert names(order="topic") == ["bills", "news"]
    assert names(order="-topic") == ["news", "bills"]
    assert names() == ["news", "bills"]
    assert names(service_id=11) == ["news"]
    assert names(start_time=START + 3, end_time=START + 9) == ["news"]


def test_what_leaves_is_not_listed() -> None:
    world = World()
    edge, service = world.edge(1), world.service("s", ("t",), (b"m",))
    edge.register(b"n")
    edge.cut()
    service.cut()
    repository = world.core.repository
    assert at_once(list_edges(repository, EdgeSelection())).count == 0
    assert at_once(list_edge_rpcs(repository, EdgeNamesSelection())).count == 0
    assert at_once(list_services(repository, ServiceSelection(rpc="m"))).count == 0
    assert at_once(list_service_rpcs(repository, ServiceNamesSelection())).count == 0
    assert at_once(list_service_topics(repository, ServiceNamesSelection())).count == 0


class Step:
    """Counts the steps of a list, and does something between two of them."""

    def __init__(self, steps: Any, between: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        while True:
            try:
                next(steps)
            except StopIteration as end:
                self.page = end.value
                return
            self.count += 1
            between()


def crowd(count: int) -> Repository:
    """So many edges, with metas and methods of all kinds."""
    repository = Repository()
    for number in range(1, count + 1):
        leg = Leg(
            Kind.EDGE, Connection(Role.SERVER, 0.0), NO_TRANSPORT, f"10.0.0.{number % 7}:1", START + number // 100
        )
        leg.id = number * 7919 % 1_000_003
        leg.meta = b"m%d" % (number % 13)
        repository.add(leg)
        leg.methods[b"common"] = leg.since
        leg.methods[b"own%d" % number] = leg.since + 1
    return repository


QUERIES = [
    lambda r, **page: list_edges(r, EdgeSelection(**page)),
    lambda r, **page: list_edges(r, EdgeSelection(meta="m1", **page)),
    lambda r, **page: list_edges(r, EdgeSelection(order="meta", **page)),
    lambda r, **page: list_edges(r, EdgeSelection(order="+addr", **page)),
    lambda r, **page: list_edge_rpcs(r, EdgeNamesSelection(**page)),
    lambda r, **page: list_edge_rpcs(r, EdgeNamesSelection(order="rpc", **page)),
    lambda r, **page: list_edge_rpcs(r, EdgeNamesSelection(order="-edge_id", **page)),
]


@pytest.mark.parametrize("query", QUERIES)
def test_pages_are_pieces_of_the_whole(query: Any) -> None:
    repository = crowd(3000)
    whole = at_once(query(repository, page=1, page_size=1_000_000))
    assert len(whole.items) == whole.count
    pieces: list[Any] = []
    for number in range(1, 1 + -(-whole.count // 401)):
        page = at_once(query(repository, page=number, page_size=401))
        assert page.count == whole.count
        pieces += page.items
    assert pieces == whole.items
    for beyond in (10**6, 2**62):
        assert at_once(query(repository, page=beyond, page_size=beyond)) == Page([], whole.count)


@pytest.mark.parametrize("query", QUERIES[1:])
def test_much_is_done_in_many_steps_and_shows_who_was_there_at_first(query: Any) -> None:
    repository = crowd(5000)
    whole = at_once(query(repository, page=1, page_size=6000))

    def go() -> None:
        repository.remove(next(iter(repository.edges.values())))

    stepped = Step(query(repository, page=1, page_size=6000), go)
    assert stepped.page == whole
    assert stepped.count >= 10


def test_a_clock_that_is_set_back() -> None:
    world = World()
    for edge_id, change in ((1, 0), (2, 5), (3, -3), (4, 1)):
        world.clock.advance(change)
        world.edge(edge_id)
    assert edge_ids(world.core.repository) == [2, 4, 3, 1]
