"""What Frontlas asks of a Frontier over its link: details of an edge, a kick; and of one that knows nothing of it."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from frontier_tx.atlas import messages as m
from frontier_tx.atlas import protocols
from frontier_tx.atlas.protocols import AtlasServerProtocol
from frontier_tx.atlas.reporter import Reporter
from frontier_tx.errors import TooManyPending
from frontier_tx.gateway import errands
from frontier_tx.gateway.errands import Errands, shortened
from frontier_tx.rpc.contract import frontier_contract
from frontier_tx.rpc.status import RpcError, Status
from frontlas_tx.cluster_plane.links import SECONDS, FrontierLinks
from tests.atlas.test_link import META, World

DETAILS = frontier_contract().message("frontier.v1.EdgeDetails")


class Asking(World):
    """A Frontier that runs errands, and who asks for them."""

    def __init__(self, version: str = "1.0", serve: Any = None) -> None:
        super().__init__()
        self.links = FrontierLinks(self.plane.link_of)
        self.errands = Errands(self.core.presence, self.clock, self.clock.seconds)
        meta = m.FrontierMeta(META.frontier_id, META.service_addr, META.edge_addr, "boot", version)
        self.reported = Reporter(
            self.core.repository,
            [self.endpoint],
            meta,
            self.clock,
            self.alarms,
            self.outlet,
            lambda: 0.5,
            serve=serve or self.errands.serve,
            wall_clock=self.clock.seconds,
        )  # type: ignore[list-item]
        self.core.presence.listeners.append(self.reported)
        self.reported.start()
        self.run(2)

    def link(self) -> AtlasServerProtocol:
        """Frontlas' end."""
        found = self.plane.link_of(META.frontier_id)
        assert found is not None
        return found

    def ask(self, question: Any, seconds: float = 0.5) -> Any:
        """The outcome, None while there is none."""
        outcome: list[Any] = []
        Deferred.fromCoroutine(question).addBoth(outcome.append)
        self.run(seconds)
        return getattr(outcome[0], "value", outcome[0]) if outcome else None

    def refused(self, question: Any, seconds: float = 0.5) -> tuple[Status, str]:
        error = self.ask(question, seconds)
        assert isinstance(error, RpcError)
        return error.status, error.message


def test_details_of_an_edge() -> None:
    world = Asking()
    world.edge(7)
    details = DETAILS.FromString(world.ask(world.links.edge_details("frontier01", 7)))
    assert (details.edge_id, details.create_time > 1_800_000_000, details.bytes_in > 0) == (7, True, True)
    assert world.refused(world.links.edge_details("frontier01", 8)) == (Status.NOT_FOUND, "edge not online")


def test_a_kick_is_answered_when_the_edge_is_gone() -> None:
    world = Asking()
    _, transport = world.edge(7)
    # The edge does not say goodbye; it is cut after a while.
    assert world.ask(world.links.kick_edge("frontier01", 7), 1) is None
    world.run(5)
    assert not transport.connected
    assert not world.core.repository.edges


def test_who_is_not_connected_here() -> None:
    world = Asking()
    status, text = world.refused(world.links.kick_edge("elsewhere", 7))
    assert (status, text.startswith("frontier elsewhere does not report to this Frontlas")) == (
        Status.UNAVAILABLE,
        True,
    )
    world.endpoint.away = True
    world.endpoint.pipes[-1].cut()
    world.run(1)
    assert world.plane.link_of("frontier01") is None


def test_a_go_frontier_is_not_asked() -> None:
    def never(method: str, value: bytes) -> Any:
        raise AssertionError

    world = Asking(version="", serve=never)
    status, text = world.refused(world.links.kick_edge("frontier01", 7))
    assert (status, "Go implementation" in text) == (Status.UNIMPLEMENTED, True)


def test_a_frontier_that_knows_no_such_method() -> None:
    world = Asking()
    status, _ = world.refused(world.links._ask("frontier01", "x_paint_it", 7))
    assert status is Status.UNIMPLEMENTED


def test_a_frontier_that_does_not_answer_in_time() -> None:
    world = Asking(serve=lambda method, value: Deferred())
    assert world.refused(world.links.kick_edge("frontier01", 7), SECONDS + 1)[0] is Status.DEADLINE_EXCEEDED


def test_a_link_that_ends_meanwhile() -> None:
    world = Asking(serve=lambda method, value: Deferred())
    outcome: list[Any] = []
    Deferred.fromCoroutine(world.links.kick_edge("frontier01", 7)).addErrback(outcome.append)
    world.run(0.5)
    world.endpoint.pipes[-1].cut()
    world.run(1)
    assert outcome[0].value.status is Status.UNAVAILABLE


def test_few_are_under_way_at_one_frontier(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Asking(serve=lambda method, value: Deferred())
    world.link().calls_at_most = 1
    Deferred.fromCoroutine(world.links.kick_edge("frontier01", 7)).addErrback(lambda _: None)
    assert world.refused(world.links.kick_edge("frontier01", 7))[0] is Status.RESOURCE_EXHAUSTED
    # A Frontlas that sends more than it should is refused by the Frontier, too.
    world.link().calls_at_most = 10
    monkeypatch.setattr(protocols, "ASKED_UNDER_WAY", 1)
    outcome: list[Any] = []
    world.link().call(m.KICK_EDGE, m.encode_edge(7)).addErrback(outcome.append)
    world.run(0.5)
    assert isinstance(outcome[0].value, TooManyPending)


@pytest.mark.parametrize("value", [b"", b"[]", b'{"edge_id":"x"}', b"\xff", b"{}"])
def test_a_value_that_names_no_edge(value: bytes) -> None:
    world = Asking()
    outcome: list[Any] = []
    world.link().call(m.KICK_EDGE, value).addErrback(outcome.append)
    world.run(0.5)
    assert outcome


def test_many_methods_are_cut_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "MOST_BYTES", 1000)
    made = shortened(DETAILS(edge_id=7, methods=[f"method-{n}" for n in range(1000)]))
    assert made.ByteSize() <= 1000
    assert made.methods[0] == "method-0"
