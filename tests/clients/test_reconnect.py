"""Reconnecting, heartbeats and bounds by a fake clock: client and gateway joined in memory."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as NobodyListens
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, IOPump, connect
from zope.interface import implementer

from frontier_tx.clients import Backoff, Bounds, Client, Edge, Service
from frontier_tx.errors import ConnectionRefused, EndClosed, ForceClosed, RemoteError, TooManyPending
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.wire.limits import Limits


@implementer(IStreamClientEndpoint)
class InMemory:
    """Connects to a factory of the gateway, or to nobody while ``down``."""

    def __init__(self, world: Memory, factory: Any) -> None:
        self.world = world
        self.factory = factory
        self.down = False
        self.attempts: list[float] = []
        self.pump: IOPump | None = None

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.attempts.append(self.world.clock.seconds())
        if self.down:
            return fail(NobodyListens())
        server, client = self.factory.buildProtocol(None), protocolFactory.buildProtocol(None)
        self.pump = connect(server, FakeTransport(server, isServer=True), client, FakeTransport(client, isServer=False))
        self.world.pumps.append(self.pump)
        return succeed(client)


class Memory:
    """A gateway, its clock and its clients."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = Clock()
        self.core = GatewayCore(self.clock, limits=limits, wall_clock=self.wall)
        self.pumps: list[IOPump] = []

    def wall(self) -> float:
        return 1_700_000_000 + self.clock.seconds()

    def settle(self, seconds: float = 0.0) -> None:
        """Let ``seconds`` pass in small steps, and all bytes arrive."""
        steps = max(1, round(seconds / 0.1))
        for _ in range(steps):
            self.clock.advance(seconds / steps)
            busy = True
            while busy:
                self.clock.advance(0)
                busy = sum(bool(pump.pump()) for pump in self.pumps) > 0

    def client(self, kind: type[Client], **options: Any) -> tuple[Any, InMemory]:
        factory = self.core.edges if kind is Edge else self.core.services
        endpoint = InMemory(self, factory)
        made = kind(endpoint, reactor=self.clock, wall_clock=self.wall, **options)
        return made, endpoint

    def connected(self, kind: type[Client], **options: Any) -> tuple[Any, InMemory]:
        made, endpoint = self.client(kind, **options)
        self.result(made.connect())
        return made, endpoint

    def result(self, deferred: Deferred[Any], seconds: float = 0.0) -> Any:
        """The result, or its error raised."""
        got: list[Any] = []
        deferred.addBoth(got.append)
        self.settle(seconds)
        assert got, "it has not fired"
        if hasattr(got[0], "raiseException"):
            got[0].raiseException()
        return got[0]


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_backoff_doubles_up_to_its_most_and_half_of_it_is_chance() -> None:
    backoff = Backoff(0.1, 30.0)
    assert [backoff.seconds(n, lambda: 1.0) for n in range(4)] == [0.1, 0.2, 0.4, 0.8]
    assert backoff.seconds(3, lambda: 0.0) == 0.4
    assert backoff.seconds(10_000, lambda: 1.0) == 30.0


def test_it_comes_back_with_backoff_and_registers_again(memory: Memory) -> None:
    ups: list[str] = []
    edge, endpoint = memory.connected(Edge, meta=b"m", on_online=lambda: ups.append("up"), on_offline=ups.append)
    service, _ = memory.connected(Service, topics=["t"])
    memory.result(edge.register("m", lambda request: b"here"))
    first_id = edge.edge_id
    pending = edge.call("never")
    sent = edge.publish("t", b"unanswered")
    pending.addErrback(lambda failure: failure.trap(RemoteError, ForceClosed))
    memory.settle()
    receiving = edge.receive()
    endpoint.down = True
    edge.reconnector.connection.transport.abort("cut")
    memory.settle()
    with pytest.raises(ForceClosed, match=r"^force closed$"):
        memory.result(sent)
    with pytest.raises(EndClosed, match=r"(?m)^EOF$"):
        memory.result(edge.call("m"))
    back = edge.when_online()
    memory.settle(200)
    assert not back.called and len(endpoint.attempts) > 8
    waits = [b - a for a, b in zip(endpoint.attempts[1:], endpoint.attempts[2:], strict=False)]
    assert waits[0] < 0.5 and 14.9 <= max(waits) <= 30.3
    endpoint.down = False
    memory.result(back, 31)
    assert edge.edge_id not in (0, first_id)
    assert memory.result(service.call(edge.edge_id, "m")) == b"here"
    memory.result(service.publish(edge.edge_id, b"again", at_most_once=True))
    assert memory.result(receiving).data == b"again"
    assert ups == ["up", "cut", "up"]


def test_a_connection_that_is_taken_and_dropped_does_not_start_the_waits_anew(memory: Memory) -> None:
    edge, endpoint = memory.connected(Edge)
    lost: list[float] = []
    edge._on_offline = lambda reason: lost.append(memory.clock.seconds())
    for _ in range(7):
        edge.reconnector.connection.transport.abort("dropped at once")
        while not edge.online:
            memory.settle(0.1)
    waits = [attempt - end for attempt, end in zip(endpoint.attempts[1:], lost, strict=True)]
    assert waits[0] < 0.3 and 3.2 <= waits[-1] <= 6.6
    memory.settle(6)
    edge.reconnector.connection.transport.abort("after a good while")
    memory.settle(0.3)
    assert edge.online and endpoint.attempts[-1] - lost[-1] < 0.3


def test_an_edge_that_starts_before_its_gateway_keeps_trying_if_told_so(memory: Memory) -> None:
    edge, endpoint = memory.client(Edge, meta=b"m")
    said: list[str] = []
    edge.reconnector._failing = lambda why, again: again or said.append(why)
    endpoint.down = True
    memory.result(edge.register("m", lambda request: b"here"))
    connecting = edge.connect(keep_trying=True)
    memory.settle(20)
    assert not connecting.called and len(endpoint.attempts) > 5 and not edge.online
    assert said == [str(NobodyListens())] and edge.reconnector.trouble == said[0]
    endpoint.down = False
    memory.result(connecting, 31)
    assert edge.online and edge.reconnector.trouble == ""
    service, _ = memory.connected(Service)
    assert memory.result(service.call(edge.edge_id, "m")) == b"here"


def test_an_edge_that_keeps_trying_can_be_closed_or_given_up(memory: Memory) -> None:
    for end in (lambda client, deferred: client.close(), lambda client, deferred: deferred.cancel()):
        edge, endpoint = memory.client(Edge)
        endpoint.down = True
        connecting = edge.connect(keep_trying=True)
        memory.settle(3)
        end(edge, connecting)
        with pytest.raises((EndClosed, CancelledError)):
            memory.result(connecting)
        tried = len(endpoint.attempts)
        memory.settle(60)
        assert len(endpoint.attempts) == tried
    with pytest.raises(ValueError, match="keep_trying"):
        memory.result(memory.client(Edge, reconnect=None)[0].connect(keep_trying=True))


def test_why_a_lost_gateway_cannot_be_reached_is_said_once(memory: Memory) -> None:
    edge, endpoint = memory.connected(Edge)
    said: list[str] = []
    edge.reconnector._failing = lambda why, again: again or said.append(why)
    for _ in range(2):
        endpoint.down = True
        edge.reconnector.connection.transport.abort("cut")
        memory.settle(20)
        endpoint.down = False
        memory.settle(31)
    assert edge.online and said == [str(NobodyListens())] * 2


def test_a_service_keeps_its_id_name_and_methods(memory: Memory) -> None:
    service, _ = memory.connected(Service, name="n", topics=["t"], service_id=77)
    edge, _ = memory.connected(Edge)
    memory.result(service.register("m", lambda request: request.edge_id.to_bytes(8)))
    service.reconnector.connection.transport.abort("cut")
    memory.settle(1)
    assert service.online and service.service_id == 77
    assert memory.result(edge.call("m")) == edge.edge_id.to_bytes(8)
    assert memory.core.repository.services[77].name == "n"


def test_without_reconnect_a_loss_is_the_end(memory: Memory) -> None:
    edge, endpoint = memory.connected(Edge, reconnect=None)
    receiving = edge.receive()
    edge.reconnector.connection.transport.abort("cut")
    with pytest.raises(EndClosed):
        memory.result(receiving, 60)
    assert len(endpoint.attempts) == 1
    with pytest.raises(EndClosed):
        memory.result(edge.when_online())


def test_the_first_connect_is_one_attempt(memory: Memory) -> None:
    edge, endpoint = memory.client(Edge)
    endpoint.down = True
    with pytest.raises(NobodyListens):
        memory.result(edge.connect(), 60)
    assert len(endpoint.attempts) == 1
    memory.result(edge.close())


def test_a_refusal_has_the_gateways_text(memory: Memory) -> None:
    memory.core.presence.arrivals.allocates_ids = False
    edge, _ = memory.client(Edge)
    with pytest.raises(ConnectionRefused, match=r"^service not online$"):
        memory.result(edge.connect(), 10)


def test_close_stops_the_attempts(memory: Memory) -> None:
    edge, endpoint = memory.connected(Edge)
    endpoint.down = True
    edge.reconnector.connection.transport.abort("cut")
    memory.settle(1)
    memory.result(edge.close())
    count = len(endpoint.attempts)
    memory.settle(100)
    assert len(endpoint.attempts) == count
    assert not [call for call in memory.clock.getDelayedCalls() if call.getTime() < memory.clock.seconds()]


def test_a_silent_gateway_is_a_loss(memory: Memory) -> None:
    reasons: list[str] = []
    edge, endpoint = memory.connected(Edge, on_offline=reasons.append)
    memory.settle(100)
    assert edge.online and len(endpoint.attempts) == 1
    memory.pumps.clear()
    memory.settle(61)
    assert reasons == ["timeout: two heartbeats were not answered"]
    memory.settle(1)
    assert len(endpoint.attempts) == 2 and edge.online


def test_pending_operations_are_bounded(memory: Memory) -> None:
    service, _ = memory.connected(Service, topics=["t"])
    edge, _ = memory.connected(Edge, bounds=Bounds(pending=3))
    sent = [edge.publish("t", b"") for _ in range(3)]
    with pytest.raises(TooManyPending):
        memory.result(edge.publish("t", b""))
    memory.result(service.receive()).ack()
    memory.settle()
    assert [one.called for one in sent] == [True, False, False]
    memory.result(edge.publish("t", b"", at_most_once=True))
    more = edge.publish("t", b"")
    memory.settle()
    assert not more.called
    for one in (*sent, more):
        one.addErrback(lambda failure: failure.trap(ForceClosed))
    memory.result(edge.close())


def test_running_handlers_are_bounded(memory: Memory) -> None:
    edge, _ = memory.connected(Edge, bounds=Bounds(requests=2))
    service, _ = memory.connected(Service)
    waiting: list[Deferred[bytes]] = []

    def wait(request: object) -> Deferred[bytes]:
        waiting.append(Deferred())
        return waiting[-1]

    memory.result(edge.register("wait", wait))
    calls = [service.call(edge.edge_id, "wait") for _ in range(2)]
    with pytest.raises(TooManyPending, match=r"^too many pending$"):
        memory.result(service.call(edge.edge_id, "wait"))
    for one in waiting:
        one.callback(b"done")
    assert [memory.result(call) for call in calls] == [b"done", b"done"]


def test_messages_left_lying_stop_reading_and_nothing_is_lost(memory: Memory) -> None:
    edge, _ = memory.connected(Edge)
    service, _ = memory.connected(Service, topics=["t"], bounds=Bounds(messages=10))
    first = service.receive()
    for number in range(50):
        edge.publish("t", b"%d" % number, at_most_once=True)
        memory.settle()
    taken = [memory.result(first)]
    assert service.intake.messages.full and len(service.intake.messages.items) < 50
    assert service.reconnector.connection.transport._pauses == 1
    while len(taken) < 50:
        taken.append(memory.result(service.receive()))
    assert [message.data for message in taken] == [b"%d" % number for number in range(50)]
    assert service.reconnector.connection.transport._pauses == 0


def test_a_client_that_never_receives_refuses_and_goes_on(memory: Memory) -> None:
    edge, _ = memory.connected(Edge, bounds=Bounds(messages=2))
    service, _ = memory.connected(Service)
    memory.result(edge.register("m", lambda request: b"alive"))
    kept = [service.publish(edge.edge_id, b"") for _ in range(2)]
    with pytest.raises(RemoteError, match=r"^receiver congested$"):
        memory.result(service.publish(edge.edge_id, b""))
    assert memory.result(service.call(edge.edge_id, "m")) == b"alive"
    for one in kept:
        memory.result(edge.receive()).ack()
        memory.result(one)


def test_streams_that_nobody_accepts_stop_nothing(memory: Memory) -> None:
    edge, _ = memory.connected(Edge)
    service, _ = memory.connected(Service, name="s", bounds=Bounds(accept=2, stream_bytes=1000))
    memory.result(service.register("m", lambda request: b"alive"))
    streams = [memory.result(edge.open_stream("s"), 0.1) for _ in range(3)]
    memory.settle(1)
    assert [stream.open for stream in streams] == [True, True, False]
    streams[0].write(bytes(5000))
    memory.settle(1)
    assert [stream.open for stream in streams] == [False, True, False]
    assert memory.result(edge.call("m")) == b"alive"


def test_several_clients_share_one_intake(memory: Memory) -> None:
    first, _ = memory.connected(Service, topics=["t"])
    second, _ = memory.connected(Service, topics=["u"], intake=first.intake)
    edge, _ = memory.connected(Edge)
    memory.result(first.register("m", lambda request: b"shared"))
    sent = [edge.publish("t", b"1"), edge.publish("u", b"2")]
    memory.settle()
    taken = [memory.result(first.receive()) for _ in range(2)]
    for message in taken:
        message.ack()
    assert sorted(message.data for message in taken) == [b"1", b"2"]
    assert [memory.result(one) for one in sent] == [None, None]
    memory.result(second.close(), 6)
    assert not first.intake.messages.closed and memory.result(edge.call("m")) == b"shared"
    memory.result(first.close(), 6)
    assert first.intake.messages.closed


def test_a_client_connects_once(memory: Memory) -> None:
    edge, _ = memory.connected(Edge)
    with pytest.raises(RuntimeError, match="once"):
        memory.result(edge.connect())
    assert edge.online


def test_closing_leaves_nothing_behind(memory: Memory) -> None:
    edge, _ = memory.connected(Edge)
    service, _ = memory.connected(Service, name="s", topics=["t"])
    stream = memory.result(edge.open_stream("s"), 0.1)
    ends = [edge.reconnector.connection, service.reconnector.connection]
    failing = [stream.publish("x"), edge.publish("t", b""), edge.receive(), stream.read()]
    memory.settle()
    assert ends[0].pending == 2
    outcomes: list[Any] = []
    for one in failing:
        one.addBoth(outcomes.append)
    memory.result(edge.close(), 6)
    memory.result(service.close(), 6)
    assert len(outcomes) == 4
    assert [end.pending for end in ends] == [0, 0] and [end.streams for end in ends] == [{}, {}]
    assert [end.running for end in ends] == [0, 0]
    assert not memory.core.repository.edges and not memory.core.repository.services


def test_the_one_of_two_with_the_same_id_that_is_replaced_reads_why() -> None:
    memory = Memory(Limits(stream_window_bytes=1 << 20))
    service, _ = memory.connected(Service)
    memory.result(service.register_get_edge_id(lambda meta: 7))
    lost: list[str] = []
    memory.connected(Edge, on_offline=lost.append, reconnect=None)
    second, _ = memory.connected(Edge)
    memory.settle(1)
    assert lost == ["replaced by another connection with the same id"]
    assert second.edge_id == 7 and second.online


def test_an_edge_that_was_there_before_its_service_comes_again_for_its_id() -> None:
    memory = Memory(Limits(stream_window_bytes=1 << 20))
    lost: list[str] = []
    edges = [memory.connected(Edge, meta=b"%d" % number, on_offline=lost.append)[0] for number in range(1, 6)]
    service, _ = memory.connected(Service)
    online: list[int] = []
    for done in (
        service.register_edge_online(lambda event: online.append(event.edge_id)),
        service.register_get_edge_id(int),
    ):
        memory.result(done)
    memory.settle(12)
    assert [edge.edge_id for edge in edges] == [1, 2, 3, 4, 5]
    assert sorted(online) == [1, 2, 3, 4, 5]
    assert lost == ["a service that hands out edge ids has come; connect again"] * 5
