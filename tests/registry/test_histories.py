"""Random histories: the embedded registry against a model, and against Redis with the same history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet import reactor as _reactor
from twisted.internet.defer import ensureDeferred, maybeDeferred, succeed
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread

from frontlas_tx.registry.errors import RegistryError
from frontlas_tx.registry.memory import MemoryRegistry
from frontlas_tx.registry.records import Claim, Report, ReportKind
from tests.registry.worlds import START, RedisWorld, make_world

reactor: Any = _reactor
NAMES, EDGES, SERVICES = ("a", "b"), range(1, 5), range(1, 3)

names = st.sampled_from(NAMES)
edge_reports = st.builds(
    Report,
    st.sampled_from([ReportKind.EDGE_ONLINE, ReportKind.EDGE_OFFLINE, ReportKind.EDGE_HEARTBEAT]),
    st.sampled_from(EDGES),
    st.sampled_from(["", "h:1", "h:2"]),
)
service_reports = st.builds(
    Report,
    st.sampled_from([ReportKind.SERVICE_ONLINE, ReportKind.SERVICE_OFFLINE, ReportKind.SERVICE_HEARTBEAT]),
    st.sampled_from(SERVICES),
    st.sampled_from(["", "h:1"]),
    st.sampled_from(["svc", "other"]),
)
reports = st.lists(
    st.one_of(edge_reports, service_reports), min_size=1, max_size=4, unique_by=lambda r: (r.kind.of_edge, r.peer_id)
)


def silent() -> Any:
    """No link of these histories shows a sign of life when another one asks for its place."""
    return succeed(False)


def wait(work: Any) -> Any:
    """Run a coroutine or wait for a Deferred; Hypothesis works in a thread of its own."""
    return blockingCallFromThread(reactor, ensureDeferred, work)


@dataclass
class Node:
    """What the model knows of one Frontier: its lease, and what its present connection has told."""

    address: int
    boot: str
    renewed: float
    ended: float = 0.0
    told: dict[int, str] = field(default_factory=dict)

    def alive(self, now: float) -> bool:
        return not self.ended and now < self.renewed + 30


class Model:
    """The rules of ``IRegistry`` for edges, written down once more in the plainest way."""

    def __init__(self) -> None:
        self.now = float(START)
        self.nodes: dict[str, Node] = {}
        self.held: dict[int, str] = {}
        self.addr: dict[int, str] = {}

    def alive(self, name: str) -> bool:
        return name in self.nodes and self.nodes[name].alive(self.now)

    def claim(self, name: str, address: int, boot: str) -> bool:
        node = self.nodes.get(name)
        if node is not None and node.alive(self.now) and node.address != address and not (boot and node.boot == boot):
            return False
        if node is not None and node.boot != boot:
            self.held = {edge: holder for edge, holder in self.held.items() if holder != name}
        self.nodes[name] = Node(address, boot, self.now)
        return True

    def report(self, name: str, report: Report) -> None:
        told, edge = self.nodes[name].told, report.peer_id
        if report.kind is ReportKind.EDGE_OFFLINE:
            if report.addr and told.get(edge) and told[edge] != report.addr:
                return
            told.pop(edge, None)
            if self.held.get(edge) == name and (not report.addr or self.addr[edge] in ("", report.addr)):
                del self.held[edge]
            return
        told[edge] = report.addr or told.get(edge, "")
        holder = self.held.get(edge)
        if report.kind is ReportKind.EDGE_HEARTBEAT and holder is not None and (holder == name or self.alive(holder)):
            return
        self.held[edge], self.addr[edge] = name, told[edge]

    def renew(self, name: str) -> None:
        node = self.nodes[name]
        node.renewed, node.ended = self.now, 0.0
        for edge in list(node.told):
            self.report(name, Report(ReportKind.EDGE_HEARTBEAT, edge))

    def online(self) -> dict[int, tuple[str, str]]:
        return {e: (holder, self.addr[e]) for e, holder in self.held.items() if self.alive(holder)}

    def listed(self) -> dict[str, bool]:
        shown = {n: v for n, v in self.nodes.items() if self.now < (v.ended or v.renewed + 30) + 30}
        return {name: node.alive(self.now) for name, node in shown.items()}


class History(RuleBasedStateMachine):
    """One registry or several with the same history; every answer is compared after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.clock: Any = Clock()
        self.clock.advance(START)
        self.registries: list[Any] = [MemoryRegistry(self.clock)]
        self.model: Model | None = Model()
        self.claims: dict[str, list[Claim]] = {}

    @initialize()
    def begin(self) -> None:
        for registry in self.registries:
            blockingCallFromThread(reactor, registry.start)

    async def settle(self) -> None:
        """Let repairs end."""

    async def upkeep(self) -> None:
        """What a second of time brings, beyond the timers of the clock."""

    def teardown(self) -> None:
        for registry in self.registries:
            blockingCallFromThread(reactor, registry.stop)

    def everywhere(self, what: Any) -> list[Any]:
        outcomes = []
        for index, registry in enumerate(self.registries):
            try:
                outcomes.append(blockingCallFromThread(reactor, what, registry, index))
            except RegistryError as error:
                outcomes.append(type(error))
        wait(self.settle())
        return outcomes

    @rule(name=names, address=st.sampled_from([1, 5]), boot=st.sampled_from(["", "x", "y"]))
    def claim(self, name: str, address: int, boot: str) -> None:
        made = self.everywhere(lambda r, _i: r.claim(name, f"{name}:{address}", f"{name}:9", boot, probe=silent))
        accepted = [isinstance(claim, Claim) for claim in made]
        assert len(set(accepted)) == 1
        if accepted[0]:
            facts = {(claim.born, claim.respelled, claim.returning) for claim in made}
            assert len(facts) == 1
            self.claims[name] = made
        if self.model is not None:
            assert self.model.claim(name, address, boot) == accepted[0]

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.claims)))
        assert self.everywhere(lambda r, i: r.renew(self.claims[name][i])) == [None] * len(self.registries)
        if self.model is not None:
            self.model.renew(name)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.claims)))
        claims = self.claims.pop(name)
        self.everywhere(lambda r, i: r.release(claims[i]))
        if self.model is not None:
            self.model.nodes[name].ended = self.model.now

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), told=reports, again=st.integers(0, 70))
    def report(self, data: st.DataObject, told: list[Report], again: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.claims)))
        if self.model is None and again % 3 == 0:
            told = [Report(r.kind, r.peer_id, r.addr, r.service, int(self.clock.seconds()) - again) for r in told]
        outcome = self.everywhere(lambda r, i: r.report(self.claims[name][i], told))
        assert outcome == [[None] * len(told)] * len(self.registries)
        if self.model is not None:
            for report in told:
                if report.kind.of_edge:
                    self.model.report(name, report)

    @precondition(lambda self: self.claims and self.model is None)
    @rule(data=st.data(), told=reports)
    def sync(self, data: st.DataObject, told: list[Report]) -> None:
        name = data.draw(st.sampled_from(sorted(self.claims)))

        async def run(registry: Any, index: int) -> int:
            claim = self.claims[name][index]
            registry.sync_begin(claim)
            await registry.report(claim, told)
            return int(await registry.sync_end(claim))

        assert len(set(self.everywhere(lambda r, i: ensureDeferred(run(r, i))))) == 1

    @rule(seconds=st.sampled_from([1, 5, 19, 31]))
    def time_passes(self, seconds: int) -> None:
        for passed in range(seconds):
            blockingCallFromThread(reactor, maybeDeferred, self.clock.advance, 1)
            if passed % 2:
                # Else it would look as if no Frontlas had been there for a time.
                wait(self.upkeep())
        if self.model is not None:
            self.model.now += seconds
            # Without a sync the living are named by heartbeats; the model leaves that rule to the contract
            # tests.
            for name in self.claims:
                self.renew_named(name)
        wait(self.upkeep())
        wait(self.settle())

    def renew_named(self, name: str) -> None:
        registry, model = self.registries[0], self.model
        assert model is not None
        told = [Report(ReportKind.EDGE_HEARTBEAT, edge) for edge in model.nodes[name].told]

        async def run() -> None:
            registry.sync_begin(self.claims[name][0])
            await registry.report(self.claims[name][0], told)
            await registry.sync_end(self.claims[name][0])

        wait(run())
        for report in told:
            model.report(name, report)
        held = [edge for edge, holder in model.held.items() if holder == name]
        for edge in held:
            if edge not in model.nodes[name].told:
                del model.held[edge]

    @invariant()
    def answers(self) -> None:
        first, *others = [wait(self.ask(registry)) for registry in self.registries]
        for other in others:
            assert other == first
        edges = {edge.edge_id: (edge.frontier_id, edge.addr) for edge in first["edges"] if edge is not None}
        assert first["walk"] == set(edges)
        assert first["counts"].edges == len(edges)
        assert first["counts"].frontiers == sum(record.alive for record in first["frontiers"])
        if self.model is not None:
            assert edges == self.model.online()
            assert {r.frontier_id: r.alive for r in first["frontiers"]} == self.model.listed()

    async def ask(self, registry: Any) -> dict[str, Any]:
        page = await registry.edges_page(0, 100)
        found = {edge.edge_id for edge in page.records}
        while page.cursor:
            page = await registry.edges_page(page.cursor, 100)
            found |= {edge.edge_id for edge in page.records}
        return {
            "edges": await registry.edges(list(EDGES)),
            "walk": found,
            "holders": await registry.frontiers_of_edges(list(EDGES)),
            "services": await registry.services(list(SERVICES)),
            "frontiers": await registry.frontiers(),
            "counts": await registry.counts(),
            "counts of a": await registry.counts_of("a"),
        }


class LeapingClock:
    """The time of a ``Clock`` with the timers of the reactor."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def seconds(self) -> float:
        return self.clock.seconds()

    def callLater(self, delay: float, call: Any, *args: Any, **more: Any) -> Any:
        return reactor.callLater(delay, call, *args, **more)


@pytest_twisted.ensureDeferred
async def test_embedded_registry_obeys_the_model() -> None:
    await deferToThread(
        run_state_machine_as_test,
        History,
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest_twisted.ensureDeferred
async def test_redis_gives_the_same_answers(request: pytest.FixtureRequest) -> None:
    world: RedisWorld = make_world("standalone", request)

    class Together(History):
        def __init__(self) -> None:
            super().__init__()
            self.model = None
            world.clock = LeapingClock(self.clock)  # type: ignore[assignment]
            world.registries, world.clients = [], []
            wait(world.open())
            self.registries.append(world.registry)

        async def settle(self) -> None:
            while not world.registry.idle:
                await deferLater(reactor, 0.002)

        async def upkeep(self) -> None:
            await world.registry.upkeep()

    await deferToThread(
        run_state_machine_as_test,
        Together,
        settings=settings(
            max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
