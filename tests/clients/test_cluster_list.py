"""How a cluster service follows the list of Frontiers: gateways in memory, a list by hand, a fake clock."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from frontier_tx.clients import Backoff, ClusterService, ConnectFailed
from frontier_tx.clients.cluster.frontlas_client import FrontlasUnavailable, Listed, UnknownEdge, _listed
from frontier_tx.clients.cluster.routes import Routes
from frontier_tx.errors import OperationTimeout
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.rpc.contract import frontlas_contract
from tests.atlas.test_link import Endpoint


class Frontlas:
    """What Frontlas would answer."""

    def __init__(self) -> None:
        self.listed: list[Listed] = []
        self.holders: dict[int, Listed] = {}
        self.away = False
        self.asked = 0
        self.watches = 0

    async def frontiers(self) -> list[Listed]:
        if self.away:
            raise FrontlasUnavailable("no Frontlas can be asked: away")
        return list(self.listed)

    async def holder(self, edge_id: int) -> Listed:
        self.asked += 1
        if self.away:
            raise FrontlasUnavailable("no Frontlas can be asked: away")
        if edge_id not in self.holders:
            raise UnknownEdge
        return self.holders[edge_id]

    async def watch_joins(self, joined: Any) -> None:
        self.watches += 1

    def close(self) -> None:
        """Nothing to end."""


class World:
    """Gateways by port, and a cluster service."""

    def __init__(self, *ports: int, **options: Any) -> None:
        self.clock = Clock()
        self.cores = {port: GatewayCore(self.clock, wall_clock=self.clock.seconds) for port in ports}
        self.gates = {port: Endpoint(core.services) for port, core in self.cores.items()}
        self.dialled: list[int] = []
        self.frontlas = Frontlas()
        self.frontlas.listed = [self.listed(port) for port in ports]
        self.service = ClusterService(
            reactor=self.clock,
            endpoint_for=self.endpoint,
            wall_clock=self.clock.seconds,
            reconnect=Backoff(first=1.0, most=1.0),
            **options,
        )
        self.service.frontlas = self.frontlas  # type: ignore[assignment]
        self.service.roster._frontlas = self.service.finder._frontlas = self.frontlas  # type: ignore[assignment]
        self.roster = self.service.roster

    def listed(self, port: int) -> Listed:
        return Listed(f"f{port}", "10.0.0.1", port)

    def endpoint(self, host: str, port: int) -> Any:
        self.dialled.append(port)
        return self.gates[port]

    def connect(self, wait: bool = True) -> Deferred[None]:
        connecting = self.service.connect(wait)
        self.run(2)
        return connecting

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.pump()
            self.clock.advance(0.1)
            self.pump()

    def pump(self) -> None:
        for gate in self.gates.values():
            for pipe in gate.pipes:
                pipe.pump()

    @property
    def online(self) -> list[str]:
        return [state.frontier_id for state in self.roster.states if state.online]


def outcome(deferred: Deferred[Any]) -> Any:
    seen: list[Any] = []
    deferred.addBoth(seen.append)
    assert seen, "still waiting"
    return seen[0]


def test_a_connected_frontier_is_left_after_three_lists_without_it() -> None:
    world = World(1, 2)
    world.connect()
    assert world.online == ["f1", "f2"]
    world.frontlas.listed = [world.listed(1)]
    world.run(19)
    assert world.online == ["f1", "f2"]
    world.frontlas.listed.append(world.listed(2))
    world.run(10)
    assert [state.missing for state in world.roster.states] == [0, 0]
    world.frontlas.listed = []
    world.run(31)
    assert world.roster.states == []
    assert not world.roster.online


def test_lists_that_fail_are_no_lists() -> None:
    world = World(1)
    world.connect()
    world.frontlas.away = True
    world.run(60)
    assert world.online == ["f1"]


def test_a_dead_frontier_is_left_with_the_first_list_without_it() -> None:
    world = World(1, 2)
    world.connect()
    world.gates[2].away = True
    world.gates[2].pipes[-1].cut()
    world.frontlas.listed = [world.listed(1)]
    world.run(10)
    assert [state.frontier_id for state in world.roster.states] == ["f1"]


def test_connections_come_back_without_any_list() -> None:
    world = World(1)
    world.connect()
    world.frontlas.away = True
    world.gates[1].away = True
    world.gates[1].pipes[-1].cut()
    world.run(5)
    assert world.online == []
    assert "refused" in world.roster.states[0].trouble
    world.gates[1].away = False
    world.run(2)
    assert world.online == ["f1"]


def test_the_same_id_is_used_everywhere_and_after_reconnects() -> None:
    world = World(1, 2, 3)
    world.connect()
    ids = {member.reconnector.client_id for member in world.roster.members.values() if member.online}
    assert ids == {world.roster.service_id} and len(world.online) == 3
    world.gates[1].pipes[-1].cut()
    world.run(2)
    ids = {member.reconnector.client_id for member in world.roster.members.values() if member.online}
    assert ids == {world.roster.service_id} and len(world.online) == 3


def test_a_first_frontier_that_is_silent_holds_nobody_up() -> None:
    world = World(1, 2)
    world.gates[1].connect = lambda factory: Deferred()  # type: ignore[method-assign]
    world.connect()
    assert world.online == ["f2"]
    world.run(5)
    assert "no connection within 5 s" in [state.trouble for state in world.roster.states]


def test_a_frontier_that_gave_another_id_meanwhile_is_asked_for_the_common_one() -> None:
    """Asked first and answering last: the other has given this service its id by then."""
    world = World(1, 2)
    gate = world.gates[1]
    connect = gate.connect

    def held(factory: Any) -> Any:
        connecting = connect(factory)
        gate.pipes[-1].pump = lambda: False  # type: ignore[method-assign]
        gate.connect = connect  # type: ignore[method-assign]
        return connecting

    gate.connect = held  # type: ignore[method-assign]
    world.connect()
    assert world.online == ["f2"]
    common = world.roster.service_id
    vars(gate.pipes[0]).pop("pump")
    world.run(3)
    assert world.online == ["f1", "f2"] and world.roster.service_id == common
    assert {member.reconnector.client_id for member in world.roster.members.values()} == {common}
    assert [state.failures for state in world.roster.states] == [0, 0] and len(gate.pipes) == 2


def test_a_changed_address_is_followed() -> None:
    world = World(1, 2)
    world.frontlas.listed = [world.listed(1)]
    world.connect()
    world.frontlas.listed = [Listed("f1", "10.0.0.1", 2)]
    world.run(11)
    assert world.online == ["f1"]
    assert world.dialled == [1, 2]


def test_a_start_where_nobody_answers_names_all() -> None:
    world = World(1, 2)
    for gate in world.gates.values():
        gate.away = True
    error = outcome(world.connect())
    assert error.check(ConnectFailed)
    assert "'f1' at 10.0.0.1:1" in str(error.value) and "'f2' at 10.0.0.1:2" in str(error.value)


def test_an_empty_cluster_is_joined_later() -> None:
    world = World(1)
    listed, world.frontlas.listed = world.frontlas.listed, []
    assert outcome(world.connect()) is None
    online = world.roster.when_online()
    world.frontlas.listed = listed
    world.run(11)
    assert outcome(online) is None


def test_a_frontlas_that_tells_no_joins_is_asked_again_in_peace() -> None:
    world = World(1)
    world.connect()
    world.run(30)
    assert 3 <= world.frontlas.watches <= 5


def test_more_frontiers_than_allowed_are_left_out() -> None:
    world = World(1, 2, 3, max_frontiers=2)
    world.connect()
    assert world.online == ["f1", "f2"]


def test_the_wait_for_a_connection_is_within_the_callers_time() -> None:
    world = World(1, 2)
    world.frontlas.listed = [world.listed(1)]
    world.connect()
    world.gates[2].connect = lambda factory: Deferred()  # type: ignore[method-assign]
    world.frontlas.holders[7] = world.listed(2)
    called = world.service.call(7, "m", timeout=1.0)
    world.run(1.1)
    assert outcome(called).check(OperationTimeout)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1:030011", Listed("f", "10.0.0.1", 30011)),
        ("10.0.0.1:30011", Listed("f", "10.0.0.1", 30011)),
        ("Host.Example:1", Listed("f", "host.example", 1)),
        ("[::1]:5", Listed("f", "::1", 5)),
        ("", None),
        (":30011", None),
        ("<nil>:3", None),
    ],
)
def test_addresses_are_compared_after_parsing(text: str, expected: Listed | None) -> None:
    frontier = frontlas_contract().message("controlplane.Frontier")(frontier_id="f", advertised_sb_addr=text)
    assert _listed(frontier) == expected


def test_routes_are_bounded_and_the_least_used_goes() -> None:
    routes = Routes(life=60.0, bound=2)
    routes.put(1, "a", 0, now=0.0)
    routes.put(2, "a", 0, now=0.0)
    assert routes.get(1) is not None
    routes.put(3, "b", 1, now=5.0)
    assert routes.get(2) is None and len(routes) == 2
    kept = routes.get(3)
    assert kept is not None and (kept.frontier_id, kept.epoch, kept.until) == ("b", 1, 65.0)
