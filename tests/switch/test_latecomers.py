"""Edges that are back before the service that names them, as after each start of a gateway."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontier_tx.errors import ServiceOnline
from frontier_tx.switch import latecomers
from frontier_tx.switch.legs import Announced
from frontier_tx.wire import frame as f
from frontier_tx.wire.limits import Limits
from tests import packets as p

from .world import Peer, World

CONTROL = (b"get_edge_id", b"edge_online", b"edge_offline")


class Site:
    """A world with a service that names edges by their meta, and edges that come again when they are told goodbye.

    :param again: seconds after which an edge is back, as those of the Go library are.
    """

    def __init__(self, again: float = 3.2, **options: Any) -> None:
        self.world = World(limits=Limits(stream_window_bytes=1 << 20), **options)
        self.again = again
        self.events: list[tuple[str, int, str]] = []
        self.edges: dict[int, Peer] = {}
        self.services: list[Peer] = []
        self.refused: dict[int, str] = {}
        self.silent = False

    def service(self, *methods: bytes) -> Peer:
        made = self.world.service(methods=methods)
        self.services.append(made)
        return made

    def edge_comes(self, number: int) -> Peer:
        """``number`` is its meta, and the id that the service gives it."""
        made = self.edges[number] = self.world.connect(self.world.core.edges)
        made.conn(str(number).encode(), stream_window=1 << 20)
        return made

    def id_of(self, number: int) -> int:
        edge = self.edges[number]
        return edge.id if edge.leg.online else 0

    def run(self, seconds: float, step: float = 0.05) -> None:
        """Services answer, and edges that lost their connection come again."""
        lost: dict[int, float] = {}
        for _ in range(round(seconds / step)):
            self.world.advance(step)
            now = self.world.clock.seconds()
            for service in self.services:
                self.answer(service)
            for number, edge in list(self.edges.items()):
                if edge.closed and number not in lost:
                    lost[number] = now + self.again
                elif number in lost and lost[number] <= now:
                    del lost[number]
                    self.edge_comes(number)
            if not round(now, 2) % 8:
                for peer in (*self.services, *self.edges.values()):
                    if not peer.closed and peer.leg.online:
                        peer.send_bare(f.FrameType.HEARTBEAT)

    def answer(self, service: Peer) -> None:
        if self.silent or service.closed:
            return
        for request in service.take(f.FrameType.REQUEST):
            method, value = request.data.key.decode(), request.data.payload
            if method == "get_edge_id":
                service.respond(request, int(value).to_bytes(8))
                continue
            event = json.loads(value)
            error = self.refused.get(event["EdgeID"], "") if method == "edge_online" else ""
            if not error:
                self.events.append((method, event["EdgeID"], event["Str"]))
            service.respond(request, b"", error)

    def told(self, method: str) -> Counter[int]:
        return Counter(edge_id for what, edge_id, _ in self.events if what == method)


def test_edges_that_were_first_get_their_ids_and_are_announced_once() -> None:
    site = Site()
    for number in range(1, 101):
        site.edge_comes(number)
    site.run(2.0)
    assert len(site.world.core.repository.edges) == 100
    site.service(*CONTROL)
    # Some come while the others are asked to come again.
    for number in range(101, 111):
        site.edge_comes(number)
        site.run(0.3)
    site.run(20.0)
    everybody = dict.fromkeys(range(1, 111), 1)
    assert sorted(site.world.core.repository.edges) == list(range(1, 111))
    assert site.told("edge_online") == everybody
    assert site.told("edge_offline") == {}
    for edge in list(site.edges.values()):
        edge.cut()
    site.edges.clear()
    site.run(1.0)
    assert site.told("edge_offline") == everybody


def test_goodbyes_are_spread_and_say_why() -> None:
    site = Site(again=1000)
    for number in range(1, 101):
        site.edge_comes(number)
    site.service(*CONTROL)
    site.run(0.9)
    assert len(site.world.core.repository.edges) == 100
    left = []
    for _ in range(7):
        site.run(1.0, step=0.01)
        left.append(len(site.world.core.repository.edges))
    assert 75 <= left[0] <= 95
    assert 30 <= left[2] <= 60
    assert left[-1] == 0
    edge = site.edges[1]
    assert edge.closed and not edge.transport.aborted
    assert [x.data.error for x in edge.take(f.FrameType.DISMISS)] == [ServiceOnline.text]


def test_edges_with_ids_of_their_own_are_announced_and_not_sent_away() -> None:
    site = Site()
    edges = [site.world.edge(number, b"meta") for number in range(1, 301)]
    site.service(*CONTROL)
    site.run(3.0)
    assert not any(edge.closed for edge in edges)
    assert site.told("edge_online") == dict.fromkeys(range(1, 301), 1)
    edges[0].cut()
    site.run(0.2)
    assert site.told("edge_offline") == {1: 1}


def test_an_id_that_the_service_left_to_the_gateway_is_kept() -> None:
    site = Site()
    first = site.service(b"get_edge_id")
    edge = site.edge_comes(0)
    site.run(0.2)
    assert edge.leg.online
    first.cut()
    site.service(*CONTROL)
    site.run(3.0)
    assert edge.leg.online
    assert site.told("edge_online") == {edge.id: 1}


def test_a_service_that_comes_back_is_not_told_of_edges_again() -> None:
    site = Site()
    site.service(*CONTROL)
    for number in range(1, 6):
        site.edge_comes(number)
    site.run(0.5)
    for _ in range(3):
        site.services.pop().cut()
        site.run(0.5)
        site.service(*CONTROL)
        site.run(3.0)
    assert site.told("edge_online") == dict.fromkeys(range(1, 6), 1)
    assert site.told("edge_offline") == {}
    assert not any(edge.closed for edge in site.edges.values())


def test_functions_that_are_registered_one_after_the_other() -> None:
    """The Go library registers each when the one before was acknowledged, after a reconnect in any order."""
    site = Site()
    for number in range(1, 21):
        site.edge_comes(number)
    service = site.service(b"edge_offline")
    site.run(0.3)
    service.register(b"edge_online")
    site.run(0.3)
    service.register(b"get_edge_id")
    service.take(p.RegisterAck)
    site.run(15.0)
    assert site.told("edge_online") == dict.fromkeys(range(1, 21), 1)
    assert site.told("edge_offline") == {}


def test_an_id_service_that_comes_last_renames_edges_that_were_announced() -> None:
    site = Site()
    site.service(b"edge_online", b"edge_offline")
    site.edge_comes(7)
    site.run(0.2)
    allocated = site.id_of(7)
    site.service(b"get_edge_id")
    site.run(8.0)
    assert site.id_of(7) == 7
    assert [event[:2] for event in site.events] == [
        ("edge_online", allocated), ("edge_offline", allocated), ("edge_online", 7),
    ]  # fmt: skip


def test_two_services_hear_of_each_edge_once_together() -> None:
    site = Site()
    for number in range(1, 31):
        site.edge_comes(number)
    site.service(*CONTROL)
    site.service(*CONTROL)
    site.run(15.0)
    assert site.told("edge_online") == dict.fromkeys(range(1, 31), 1)


def test_an_edge_that_is_refused_late_is_sent_away_with_the_reason() -> None:
    site = Site(again=1000)
    edge = site.world.connect(site.world.core.edges)
    edge.conn(b"meta", 5, acquire=False, stream_window=1 << 20)
    site.refused[5] = "not today"
    site.service(b"edge_online", b"edge_offline")
    site.run(3.0)
    assert edge.closed and not edge.transport.aborted
    assert edge.one(f.FrameType.DISMISS).data.error == "not today"
    assert site.events == []


def test_an_edge_that_leaves_before_it_was_announced_is_not_missed() -> None:
    site = Site()
    edge = site.world.edge(5)
    site.service(*CONTROL)
    edge.cut()
    site.run(3.0)
    assert site.events == []


def test_an_edge_that_leaves_while_it_is_announced_late_is_heard_of_leaving() -> None:
    site = Site()
    edge = site.world.edge(5)
    site.service(*CONTROL)
    site.silent = True
    site.run(1.5)
    edge.cut()
    site.silent = False
    site.run(0.5)
    assert [what for what, _, _ in site.events] == ["edge_online", "edge_offline"]


def test_a_service_that_leaves_while_it_is_told_late_leaves_it_to_the_next() -> None:
    site = Site()
    edge = site.world.edge(5)
    site.service(*CONTROL)
    site.silent = True
    site.run(1.5)
    site.services.pop().cut()
    site.silent = False
    site.service(*CONTROL)
    site.run(3.0)
    assert edge.leg.announced is Announced.ONLINE
    assert site.told("edge_online") == {5: 1}


def test_a_service_that_does_not_answer_costs_the_edges_nothing() -> None:
    site = Site()
    edges = [site.world.edge(number) for number in range(1, 4)]
    site.service(b"edge_online", b"edge_offline")
    site.silent = True
    site.run(35.0)
    assert not any(edge.closed for edge in edges)
    assert {edge.leg.announced for edge in edges} == {Announced.ONLINE}


def test_so_many_are_under_way_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latecomers, "UNDER_WAY", 10)
    site = Site()
    for number in range(1, 101):
        site.world.edge(number)
    service = site.service(b"edge_online")
    site.silent = True
    site.run(3.0)
    assert len(service.inbox) == 10
    site.silent = False
    site.run(5.0)
    assert site.told("edge_online") == dict.fromkeys(range(1, 101), 1)


def test_large_metas_are_announced_a_few_at_a_time() -> None:
    site = Site()
    for number in range(1, 31):
        site.world.edge(number, bytes(100_000))
    service = site.service(b"edge_online")
    site.silent = True
    site.run(1.05)
    assert 0 < len(service.inbox) <= 4


def test_renewing_may_be_off() -> None:
    site = Site(renew_edge_ids=False)
    edge = site.edge_comes(1)
    site.service(*CONTROL)
    site.run(8.0)
    assert not edge.closed
    assert site.told("edge_online") == {edge.id: 1}


def test_an_edge_that_is_let_in_while_the_others_are_gone_through_is_not_forgotten() -> None:
    """``edge_online`` of an allocated id is still being answered when the id service comes."""
    site = Site()
    asked = site.service(b"edge_online", b"edge_offline")
    site.silent = True
    site.edge_comes(3)
    site.services.remove(asked)
    site.service(b"get_edge_id")
    site.silent = False
    site.run(4.0)
    site.services.append(asked)
    site.run(10.0)
    assert site.id_of(3) == 3
    assert site.told("edge_online")[3] == 1


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("edge"), st.integers(1, 4)),
        st.tuples(st.just("cut"), st.integers(1, 4)),
        st.tuples(st.just("service"), st.permutations(CONTROL), st.integers(1, 3)),
        st.tuples(st.just("service leaves"), st.integers(0, 3)),
        st.tuples(st.just("silent"), st.booleans()),
        st.tuples(st.just("run"), st.sampled_from((0.0, 0.1, 0.5, 1.1, 4.0))),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS)
def test_whoever_comes_and_goes_each_edge_has_its_id_in_the_end_and_was_announced_once(operations: list[Any]) -> None:
    site = Site()
    repository = site.world.core.repository
    for operation in operations:
        match operation:
            case "edge", number:
                # Also while the one before is still connected: it does not come again by itself then.
                site.edge_comes(number)
            case "cut", number if number in site.edges:
                site.edges[number].cut()
            case "service", order, count:
                service = site.service()
                for method in order[:count]:
                    service.register(method)
                    site.run(0.05)
                service.take(p.RegisterAck)
            case "service leaves", number if number < len(site.services):
                site.services.pop(number).cut()
            case "silent", silent:
                site.silent = silent
            case "run", seconds:
                site.run(seconds)
    site.silent = False
    site.service(*CONTROL)
    site.run(60.0)
    assert sorted(repository.edges) == sorted(site.edges)
    told = Counter((what, address) for what, _, address in site.events)
    assert set(told.values()) <= {1}
    for number, edge in site.edges.items():
        assert (edge.id, edge.leg.announced) == (number, Announced.ONLINE)
    online = {address for what, address in told if what == "edge_online"}
    parted = {address for what, address in told if what == "edge_offline"}
    assert not parted & {edge.leg.address for edge in site.edges.values()}
    presence = site.world.core.presence
    assert presence.arrivals.coming == {} == presence.arrivals.turns
    # Whoever was announced and is gone was heard of leaving, as long as somebody was there to hear it.
    if all(op[0] != "service leaves" and (op[0] != "service" or op[2] == len(CONTROL)) for op in operations):
        gone = {peer.leg.address for peer in site.world.peers if peer.leg.is_edge and not peer.leg.online}
        assert online & gone <= parted
    site.world.everybody_leaves()
    assert repository.holdings.total == 0
