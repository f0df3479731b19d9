"""Operations on edges that move between Frontiers, and what Frontlas says of that late: in memory, a fake clock."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from frontier_tx.clients import ConnectFailed, Edge
from frontier_tx.clients.cluster.finder import NEWS
from frontier_tx.clients.cluster.frontlas_client import FrontlasUnavailable, UnknownEdge
from frontier_tx.clients.core.presence import event_handler
from frontier_tx.errors import Canceled, EdgeNotOnline, OperationTimeout, TooManyPending
from tests.atlas.test_link import Endpoint
from tests.clients.test_cluster_list import World, outcome

EDGE = 7


class Moving(World):
    """Two gateways, 1 and 2, and an edge that tells where it is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(1, 2, **options)
        self.doors = {port: Endpoint(core.edges) for port, core in self.cores.items()}
        self.edge: Edge
        self.service.register("get_edge_id", lambda request: EDGE.to_bytes(8))
        self.connect()

    def pump(self) -> None:
        super().pump()
        for door in self.doors.values():
            for pipe in door.pipes:
                pipe.pump()

    def settle(self) -> None:
        """Let everything arrive, without time passing."""
        for _ in range(10):
            self.pump()
            self.clock.advance(0)

    def arrive(self, port: int, told: bool = True) -> None:
        """The edge connects here; ``told``: Frontlas knows."""
        self.edge = Edge(self.doors[port], reactor=self.clock, reconnect=None)  # type: ignore[arg-type]
        self.edge.register("where", lambda request: str(port).encode())
        self.edge.register("silent", lambda request: Deferred())
        connecting = self.edge.connect()
        self.settle()
        assert outcome(connecting) is None and self.edge.edge_id == EDGE
        if told:
            self.frontlas.holders[EDGE] = self.listed(port)

    def leave(self, told: bool = True) -> None:
        self.edge.close()
        self.settle()
        if told:
            del self.frontlas.holders[EDGE]

    def move(self, port: int, told: bool = True) -> None:
        self.leave(told=False)
        self.arrive(port, told)

    def where(self, **options: Any) -> Deferred[bytes]:
        return self.call(EDGE, "where", **options)

    def call(self, edge_id: int, method: str, **options: Any) -> Deferred[bytes]:
        calling = self.service.call(edge_id, method, **options)
        self.settle()
        return calling

    def open(self) -> Deferred[Any]:
        opening = self.service.open_stream(EDGE, b"meta")
        self.settle()
        return opening

    def die(self, port: int, silently: bool = False) -> None:
        """A gateway ends. ``silently``: its host with it, so that whoever connects there is not even refused."""
        for endpoint in (self.gates[port], self.doors[port]):
            endpoint.away = True
            for pipe in endpoint.pipes:
                pipe.cut()
        if silently:
            self.gates[port].connect = lambda factory: Deferred()  # type: ignore[method-assign]
        self.settle()

    @property
    def retries(self) -> int:
        return self.service.finder.retries


def test_a_call_a_message_and_a_stream_to_an_edge_that_moved_succeed_at_the_first_try() -> None:
    world = Moving()
    world.arrive(1)
    assert outcome(world.where()) == b"1"
    world.move(2)
    assert outcome(world.where()) == b"2"
    world.move(1)
    sending = world.service.publish(EDGE, b"news")
    receiving = world.edge.receive()
    world.settle()
    message = outcome(receiving)
    assert message.data == b"news"
    message.ack()
    world.settle()
    assert outcome(sending) is None
    world.move(2)
    accepting, opening = world.edge.accept_stream(), world.open()
    assert outcome(accepting).meta == b"meta" and outcome(opening).open
    assert world.retries == 2


def test_news_of_a_move_that_are_still_under_way_are_waited_for() -> None:
    world = Moving()
    world.arrive(1)
    assert outcome(world.where()) == b"1"
    # Each Frontier reports 20 times a second: for a moment Frontlas knows the old place, or none.
    for known in (world.listed(1), None):
        world.move(2, told=False)
        if known is None:
            del world.frontlas.holders[EDGE]
        calling = world.where()
        assert not calling.called
        world.frontlas.holders[EDGE] = world.listed(2)
        world.run(NEWS + 0.1)
        assert outcome(calling) == b"2"
        world.move(1)
        assert outcome(world.where()) == b"1"


def test_an_edge_that_left_is_not_waited_for_longer_than_news_take() -> None:
    world = Moving()
    world.arrive(1)
    assert outcome(world.where()) == b"1"
    world.leave()
    calling = world.where()
    world.run(NEWS + 0.1)
    error = outcome(calling)
    assert error.check(EdgeNotOnline) and str(error.value) == "edge not online"
    # From now on Frontlas is believed at once.
    assert outcome(world.where()).check(UnknownEdge)


def test_a_frontier_that_says_no_and_is_still_named_is_not_asked_for_ever() -> None:
    world = Moving()
    world.arrive(1)
    world.leave(told=False)
    asked = world.frontlas.asked
    calling = world.where()
    world.run(1)
    assert outcome(calling).check(EdgeNotOnline)
    assert world.frontlas.asked - asked == 3


def test_a_frontier_that_died_holds_up_nobody_whose_edge_is_elsewhere() -> None:
    """The first look-up after its death names the dead one, and connecting to a dead host takes long."""
    world = Moving()
    world.arrive(1)
    assert outcome(world.where()) == b"1"
    world.run(6)
    world.die(1, silently=True)
    calling = world.where(timeout=2)
    world.arrive(2)
    world.run(0.8)
    assert outcome(calling) == b"2"


def test_an_edge_whose_frontier_died_is_offline_as_soon_as_frontlas_says_so() -> None:
    world = Moving()
    world.arrive(1)
    world.run(6)
    world.die(1, silently=True)
    calling = world.where()
    del world.frontlas.holders[EDGE]
    world.run(0.8)
    assert outcome(calling).check(UnknownEdge)


def test_a_frontier_that_refuses_is_given_up_for_where_the_edge_is() -> None:
    world = Moving()
    world.arrive(1)
    world.run(6)
    world.die(1)
    calling = world.where()
    world.arrive(2)
    world.run(NEWS + 0.1)
    assert outcome(calling) == b"2"


def test_an_edge_whose_frontier_refuses_is_offline_when_frontlas_says_so() -> None:
    world = Moving()
    world.arrive(1)
    world.run(6)
    world.die(1)
    calling = world.where()
    del world.frontlas.holders[EDGE]
    world.run(NEWS + 0.1)
    assert outcome(calling).check(UnknownEdge)


def test_a_frontier_that_stays_away_is_named_in_the_end() -> None:
    world = Moving()
    world.arrive(1)
    world.run(6)
    world.die(1, silently=True)
    calling = world.where()
    world.run(6)
    error = outcome(calling)
    assert error.check(ConnectFailed) and "'f1' at 10.0.0.1:1: no connection within 5 s" in str(error.value)


def test_a_call_that_times_out_lets_the_next_one_ask_anew() -> None:
    """An edge may be elsewhere while its old Frontier has not noticed yet that its connection is dead."""
    world = Moving()
    world.arrive(1)
    assert outcome(world.where()) == b"1"
    half_open = world.edge
    half_open.register("where", lambda request: Deferred())
    world.arrive(2)
    calling = world.where(timeout=1)
    world.run(1.1)
    assert outcome(calling).check(OperationTimeout)
    asked = world.frontlas.asked
    assert outcome(world.where()) == b"2"
    assert world.frontlas.asked == asked + 1


def test_what_timed_out_is_still_used_while_frontlas_is_away() -> None:
    world = Moving()
    world.arrive(1)
    assert outcome(world.where()) == b"1"
    calling = world.call(EDGE, "silent", timeout=1)
    world.run(1.1)
    assert outcome(calling).check(OperationTimeout)
    world.frontlas.away = True
    assert outcome(world.where()) == b"1"


def test_a_connection_that_was_lost_for_a_moment_is_trusted_again_while_frontlas_is_away() -> None:
    world = Moving()
    world.arrive(1)
    assert outcome(world.where()) == b"1"
    world.gates[1].pipes[-1].cut()
    world.run(2)
    assert world.online == ["f1", "f2"]
    world.frontlas.away = True
    assert outcome(world.where()) == b"1"
    with pytest.raises(FrontlasUnavailable):
        raise outcome(world.call(EDGE + 1, "where")).value


def test_an_answer_of_frontlas_lives_from_when_it_came() -> None:
    world = Moving(cache_seconds=10)
    world.arrive(1)
    for _ in range(3):
        assert outcome(world.where()) == b"1"
        world.run(4)
    asked = world.frontlas.asked
    assert outcome(world.where()) == b"1"
    assert world.frontlas.asked == asked + 1


@pytest.mark.parametrize("way", ["call", "message"])
def test_an_edge_that_spoke_is_known_before_frontlas_knows_it(way: str) -> None:
    world = Moving(topics=("t",))
    world.service.register("hello", lambda request: b"")

    def speak() -> None:
        saying = world.edge.call("hello") if way == "call" else world.edge.publish("t", b"", at_most_once=True)
        world.settle()
        assert saying.called

    world.arrive(1, told=False)
    assert outcome(world.where()).check(UnknownEdge)
    speak()
    asked = world.frontlas.asked
    assert outcome(world.where()) == b"1"
    assert outcome(world.open()).open
    # It moves, and says so itself.
    world.move(2, told=False)
    speak()
    assert outcome(world.where()) == b"2"
    assert world.retries == 0 and world.frontlas.asked == asked


def test_what_an_edge_said_a_while_ago_is_not_enough_for_a_stream() -> None:
    world = Moving()
    world.service.register("hello", lambda request: b"")
    world.arrive(1)
    world.edge.call("hello")
    world.run(2)
    asked = world.frontlas.asked
    assert outcome(world.where()) == b"1" and world.frontlas.asked == asked
    assert outcome(world.open()).open and world.frontlas.asked == asked + 1


def test_those_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontier_tx.clients.cluster.finder.WORKING", 3)
    world = Moving()
    world.arrive(1)
    world.run(6)
    world.die(1, silently=True)
    waiting = [world.where() for _ in range(3)]
    assert outcome(world.where()).check(TooManyPending)
    waiting[0].cancel()
    waiting.append(world.where())
    world.run(6)
    assert outcome(waiting.pop(0)).check(Canceled)
    assert all(outcome(each).check(ConnectFailed) for each in waiting)
    assert world.service.finder.working == 0


def test_a_frontier_that_notices_late_that_an_edge_left_it_does_no_harm() -> None:
    told: list[tuple[str, int]] = []
    world = Moving()
    for event in ("edge_online", "edge_offline"):
        note = event_handler(lambda edge, event=event: told.append((event, edge.edge_id)))  # type: ignore[misc]
        world.service.register(event, note)
    world.settle()
    world.arrive(1)
    assert outcome(world.where()) == b"1"
    # The network between the edge and the first Frontier is gone, and nobody has noticed; the edge is at the second.
    [half_open] = world.doors[1].pipes
    world.doors[1].pipes.clear()
    world.arrive(2)
    accepting, opening = world.edge.accept_stream(), world.open()
    assert outcome(accepting).meta == b"meta" and outcome(opening).open
    for _ in range(120):
        world.run(0.5)
        if ("edge_offline", EDGE) in told:
            break
    # Both Frontiers are right about what they had, and say so in this order.
    assert told == [("edge_online", EDGE), ("edge_online", EDGE), ("edge_offline", EDGE)]
    assert half_open.transports[0].connected
    asked = world.frontlas.asked
    assert outcome(world.where()) == b"2"
    assert (world.frontlas.asked, world.retries) == (asked, 0)
