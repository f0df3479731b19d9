"""Every recorded conversation, played on both legs; where the recording shows a fault, what is done instead."""

import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import threads
from twisted.internet.interfaces import IReactorCore

from frontier_tx.gateway.core import GatewayCore
from frontier_tx.wire import frame as f
from tests import packets as p

from .replay import SCENARIOS, Player, RecordedIds, epoch
from .world import Peer, World

FAULTS = {name for name, scenario in SCENARIOS.items() if "fault" in scenario}


class MemoryLine:
    """A peer of a fake world that says nothing by itself."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        peer.polite = False
        self.inbox = peer.inbox
        self.frames = peer.frames
        self.raw = peer.raw
        self.cut = peer.cut
        address = peer.transport.address
        self.address = f"{address.host}:{address.port}"

    @property
    def closed(self) -> bool:
        return self.peer.closed


class Memory:
    """Fake transports and a fake clock."""

    def __init__(self, scenario: dict[str, Any], ids: RecordedIds) -> None:
        self.world = World(epoch(scenario), allocator=ids)
        self._waited = 0

    def line(self, edge: bool) -> MemoryLine:
        core = self.world.core
        return MemoryLine(self.world.connect(core.edges if edge else core.services))

    def until(self, seconds: float) -> None:
        self._waited = 0
        left = seconds - self.world.clock.seconds()
        self.world.advance(max(0.0, left), step=0.1)

    def wait(self) -> bool:
        """Pass a few milliseconds; give up after a tenth of a second without progress of the recording."""
        self._waited += 1
        self.world.advance(0.004)
        return self._waited < 25


def play(name: str) -> tuple[Player, World]:
    ids = RecordedIds()
    memory = Memory(SCENARIOS[name], ids)
    return Player(SCENARIOS[name], memory, ids), memory.world


def cancels(packets: list[Any]) -> list[int]:
    return [packet.reason for packet in packets if isinstance(packet, p.RequestCancel)]


#: What comes beyond the recording, by scenario and leg.
BEYOND = {
    "service_call_deadline_and_cancel": {"edge": [p.DEADLINE_EXCEEDED] * 2},
    "gateway_deadline_30s": {"edge": [p.DEADLINE_EXCEEDED], "service": [p.DEADLINE_EXCEEDED]},
}


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - FAULTS))
def test_as_recorded(name: str) -> None:
    player, world = play(name)
    player.play()
    world.advance(0.1)
    rest = player.rest()
    assert {leg: cancels(packets) for leg, packets in rest.items()} == BEYOND.get(name, {})
    assert all(len(packets) == len(cancels(packets)) for packets in rest.values())
    world.everybody_leaves()
    world.check_empty()


def test_a_short_custom_is_an_illegal_edge_id() -> None:
    player, _ = play("service_call_with_short_custom")
    answers = []
    while player.records:
        if player.records[0].get("type") == "Response":
            player.records.pop(0)
            answers.append(player.lines["service"].inbox.pop().data.error)
            player.lines["service"].frames.pop()
        else:
            player.step()
    assert answers == ["illegal edgeID"] * 2
    assert player.rest() == {}


def test_a_message_after_a_failed_one_is_forwarded() -> None:
    player, _ = play("service_publishes_to_offline_edge")
    player.play()
    (edge,), (service,) = player.rest()["edge"], player.rest()["service"]
    assert (edge.type, edge.data.value) == (f.MESSAGE, b"two")
    assert (service.type, service.data.error) == (f.MESSAGE_ACK, "force closed")


def test_messages_are_forwarded_without_waiting_for_acks() -> None:
    player, _ = play("edge_publishes_to_service")
    player.play_to("second not seen within 1 s")
    (second,) = player.lines["service"].inbox
    assert (second.type, second.data.value) == (f.MESSAGE, b"2")
    player.play()
    assert player.rest() == {}


def test_a_stream_to_nobody_is_dismissed_for_edges_too() -> None:
    player, world = play("stream_to_nobody")
    player.play()
    world.advance(0.1)
    rest = player.rest()
    (edge,) = rest["edge"]
    (ack,) = (x for _, x in player.taken["edge"] if isinstance(x, p.SessionAck))
    assert edge.type == f.DISMISS
    assert edge.session_id == ack.session_id
    assert list(rest) == ["edge"]


def test_unreadable_service_meta_is_refused() -> None:
    player, _ = play("service_meta_variants")
    unreadable = ("", "not json", '{"service":5}', "[]")
    refused = {}
    while player.records:
        event = player.records[0].get("event", "")
        player.step()
        if event.startswith("service meta ") and event.removeprefix("service meta ") in unreadable:
            player.step()
            ack, goodbye = player.lines["service"].inbox
            assert ack.code == 1
            assert goodbye.type == f.DIS_CONN
            refused[event.removeprefix("service meta ")] = ack.data.error
            player.lines["service"].inbox.clear()
            player.skip_to("service: socket closed")
    assert set(refused) == set(unreadable)
    assert all(error.startswith("illegal service meta: ") for error in refused.values())
    assert player.rest() == {}


def test_methods_match_exactly() -> None:
    player, _ = play("same_method_two_services_case")
    answers = []
    while player.records:
        record = player.records[0]
        if record.get("leg") == "service" and record["type"] in ("Request", "Response"):
            player.records.pop(0)
        elif record.get("type") == "Response":
            player.records.pop(0)
            answers.append(player.lines["edge"].inbox.pop().data.error)
            player.lines["edge"].frames.pop()
        else:
            player.step()
    assert answers == ["record not found"]
    assert player.rest() == {}


class SocketLine:
    """A blocking socket; used in a thread beside the reactor."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        host, own = self._socket.getsockname()
        self.address = f"{host}:{own}"
        self._reader = f.FrameReader()
        self.inbox: list[Any] = []
        self.frames: list[f.Frame] = []
        self.closed = False

    def raw(self, data: bytes) -> None:
        self._socket.sendall(data)

    def cut(self) -> None:
        self.closed = True
        self._socket.close()

    def read(self, seconds: float) -> None:
        if self.closed:
            return
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return
        if not data:
            self.cut()
        for frame in self._reader.feed(data):
            self.frames.append(frame)
            self.inbox.append(p.decode(frame))


class Sockets:
    """Loopback sockets and the wall clock, which nothing here waits for by itself."""

    def __init__(self, edge_port: int, service_port: int) -> None:
        self.edge_port, self.service_port = edge_port, service_port
        self.lines: list[SocketLine] = []
        self._waits = 0

    def line(self, edge: bool) -> SocketLine:
        self.lines.append(SocketLine(self.edge_port if edge else self.service_port))
        return self.lines[-1]

    def until(self, seconds: float) -> None:
        """Not in time."""

    def wait(self) -> bool:
        self._waits += 1
        for line in self.lines:
            line.read(0.005)
        return self._waits < 1000


@pytest.mark.parametrize(
    "name",
    [
        "control_functions", "edge_calls_service", "edge_opens_stream_to_service", "same_edge_id",
        "service_calls_edge", "service_opens_stream_to_edge", "service_publishes_to_edge",
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_as_recorded_over_sockets(name: str) -> None:
    from twisted.internet import reactor

    assert IReactorCore.providedBy(reactor)
    ids = RecordedIds()
    core = GatewayCore(reactor, allocator=ids)  # type: ignore[arg-type]
    ports = [reactor.listenTCP(0, x, interface="127.0.0.1") for x in (core.edges, core.services)]  # type: ignore[attr-defined]
    try:
        world = Sockets(*(port.getHost().port for port in ports))
        player = Player(SCENARIOS[name], world, ids, in_time=False)
        await threads.deferToThread(player.play)
        assert player.rest() == {}
    finally:
        for port in ports:
            await port.stopListening()
        for protocol in core.connections():
            protocol.abort("the test is over")
        core.alarms.stop()
