"""Who comes in, under which id, and who hears of it."""

import json
from typing import Any

import pytest
from twisted.logger import formatEvent, globalLogPublisher
from zope.interface import implementer

from frontier_tx.gateway.core import GatewayCore
from frontier_tx.switch.choice import IHashPolicy
from frontier_tx.switch.presence import IIDAllocator
from frontier_tx.switch.settings import Settings
from frontier_tx.wire import frame as f
from frontier_tx.wire.limits import Limits
from tests import packets as p

from .world import Peer, World

CONTROL = (b"get_edge_id", b"edge_online", b"edge_offline")


def arriving(world: World, meta: bytes = b"meta", wanted: int = 0, acquire: bool = True) -> Peer:
    edge = world.connect(world.core.edges)
    edge.conn(meta, wanted, acquire)
    return edge


def test_an_edge_that_asks_for_an_id_gets_an_allocated_one_whatever_it_wants() -> None:
    world = World()
    edge = arriving(world, wanted=77)
    ack = edge.one(p.ConnAck)
    assert ack.client_id not in (0, 77)
    assert list(world.core.repository.edges) == [ack.client_id]


def test_an_edge_that_does_not_ask_keeps_its_own_id_and_get_edge_id_is_not_called() -> None:
    world = World()
    service = world.service(methods=(b"get_edge_id",))
    assert arriving(world, wanted=77, acquire=False).one(p.ConnAck).client_id == 77
    service.nothing()


def test_ids_of_edges_own_may_be_refused() -> None:
    world = World(own_edge_ids=False)
    assert arriving(world, wanted=77, acquire=False).one(p.ConnAck).data.error == "illegal edgeID"
    assert arriving(world, wanted=77).one(p.ConnAck).data.error == ""
    assert world.core.presence.arrivals.coming == {}


def test_the_id_of_the_service_is_taken() -> None:
    world = World()
    service = world.service(methods=(b"get_edge_id",))
    edge = arriving(world, b"who", wanted=77)
    edge.nothing()
    asked = service.request()
    assert (asked.data.payload, asked.data.custom) == (b"who", b"")
    service.respond(asked, (5).to_bytes(8))
    assert edge.one(p.ConnAck).client_id == 5


def test_an_id_of_zero_means_allocate() -> None:
    world = World()
    service = world.service(methods=(b"get_edge_id",))
    edge = arriving(world)
    service.respond(service.request(), bytes(8))
    assert edge.one(p.ConnAck).client_id != 0


@pytest.mark.parametrize(("value", "error", "text"), [
    (b"", "", "illegal edgeID"),
    (b"1234567", "", "illegal edgeID"),
    (b"123456789", "", "illegal edgeID"),
    (b"", "who are you", "who are you"),
])  # fmt: skip
def test_an_edge_is_refused_with_the_text_of_the_id_service(value: bytes, error: str, text: str) -> None:
    world = World()
    service = world.service(methods=CONTROL)
    edge = arriving(world)
    service.respond(service.request(), value, error)
    ack = edge.one(p.ConnAck)
    assert (ack.code, ack.data.error, ack.client_id) == (1, text, 0)
    assert edge.inbox[0].type == f.DIS_CONN
    world.advance(1)
    assert edge.closed
    service.nothing()


def test_without_an_id_service_and_without_allocation_nobody_comes_in() -> None:
    world = World(allocate_edge_ids=False)
    edge = arriving(world)
    assert edge.one(p.ConnAck).data.error == "service not online"


def test_allocation_may_be_off_while_a_service_hands_out_ids() -> None:
    world = World(allocate_edge_ids=False)
    service = world.service(methods=(b"get_edge_id",))
    edge = arriving(world)
    service.respond(service.request(), (6).to_bytes(8))
    assert edge.one(p.ConnAck).client_id == 6


def event(request: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.data.payload)
    return found


def test_edge_online_comes_before_the_ack_and_edge_offline_after_the_end() -> None:
    world = World()
    service = world.service(methods=CONTROL[1:])
    edge = arriving(world, b"\0m\xff", wanted=42, acquire=False)
    edge.nothing()
    online = service.request()
    address = edge.transport.address
    assert online.data.key == b"edge_online"
    assert event(online) == {"EdgeID": 42, "Meta": "AG3/", "Net": "tcp", "Str": f"{address.host}:{address.port}"}
    assert list(event(online)) == ["EdgeID", "Meta", "Net", "Str"]
    service.respond(online)
    assert edge.one(p.ConnAck).client_id == 42
    edge.cut()
    offline = service.request()
    assert offline.data.key == b"edge_offline"
    assert event(offline) == event(online)


def test_an_empty_meta_is_null() -> None:
    world = World()
    service = world.service(methods=(b"edge_online",))
    arriving(world, b"")
    assert event(service.request())["Meta"] is None


def test_a_refused_edge_gets_no_edge_offline() -> None:
    world = World()
    service = world.service(methods=CONTROL[1:])
    edge = arriving(world, wanted=9, acquire=False)
    service.respond(service.request(), error="not today")
    ack = edge.one(p.ConnAck)
    assert (ack.code, ack.client_id, ack.data.error) == (1, 9, "not today")
    world.advance(1)
    assert edge.closed
    service.nothing()


def test_the_control_functions_have_nine_seconds_together() -> None:
    world = World()
    service = world.service(methods=CONTROL)
    edge = arriving(world)
    world.advance(5)
    service.respond(service.request(), (5).to_bytes(8))
    world.advance(3.9)
    edge.nothing()
    world.advance(0.2)
    assert edge.one(p.ConnAck).data.error == "timeout"
    assert service.one(p.RequestCancel).reason == p.DEADLINE_EXCEEDED


def test_g16_an_edge_that_is_let_in_too_late_is_announced_as_gone() -> None:
    world = World()
    service = world.service(methods=CONTROL[1:])
    edge = arriving(world, wanted=4, acquire=False)
    online = service.request()
    world.advance(9.1)
    assert edge.one(p.ConnAck).data.error == "timeout"
    service.take(p.RequestCancel)
    service.respond(online)
    offline = service.request()
    assert offline.data.key == b"edge_offline"
    assert offline.data.payload == online.data.payload
    assert 4 not in world.core.repository.edges


def test_an_id_that_comes_too_late_announces_nobody() -> None:
    world = World()
    service = world.service(methods=CONTROL)
    edge = arriving(world)
    asked = service.request()
    world.advance(9.1)
    assert edge.one(p.ConnAck).data.error == "timeout"
    service.take(p.RequestCancel)
    service.respond(asked, (5).to_bytes(8))
    service.nothing()
    world.everybody_leaves()
    world.advance(31)
    world.check_empty()


def test_a_service_may_leave_the_choice_to_the_gateway_whatever_holds_without_one() -> None:
    world = World(allocate_edge_ids=False)
    service = world.service(methods=CONTROL[:1])
    edge = arriving(world)
    service.respond(service.request(), bytes(8))
    ack = edge.one(p.ConnAck)
    assert ack.data.error == "" and ack.client_id


def test_a_silent_id_service_refuses_within_the_edges_patience() -> None:
    world = World()
    world.service(methods=CONTROL)
    edge = arriving(world)
    world.advance(9.1)
    assert edge.one(p.ConnAck).data.error == "timeout"


def test_g16_an_edge_that_leaves_while_it_is_announced_is_announced_as_gone() -> None:
    world = World()
    service = world.service(methods=CONTROL[1:])
    edge = arriving(world, wanted=4, acquire=False)
    online = service.request()
    edge.cut()
    service.nothing()
    service.respond(online)
    offline = service.request()
    assert (offline.data.key, event(offline)["EdgeID"]) == (b"edge_offline", 4)
    assert world.core.repository.edges == {}


@pytest.mark.parametrize("way", ["cut", "goodbye", "leave", "silence", "garbage", "kick", "replaced"])
def test_every_end_of_an_edge_is_reported_once(way: str) -> None:
    """Section 17, item 8."""
    world = World()
    service = world.service(methods=(b"edge_offline",))
    edge = world.edge(3)
    match way:
        case "cut":
            edge.cut()
        case "goodbye":
            edge.disconnect()
        case "leave":
            edge.leave()
        case "silence":
            for _ in range(6):
                world.advance(8)
                service.send_bare(f.FrameType.HEARTBEAT)
        case "garbage":
            edge.raw(b"\1\x99" + bytes(12))
        case "kick":
            world.core.kick_edge(3)
        case "replaced":
            world.edge(3)
    world.advance(6)
    offline = service.request()
    assert event(offline)["EdgeID"] == 3
    world.advance(6)
    assert service.take(f.FrameType.REQUEST) == []
    assert edge.closed


def test_a_newcomer_with_a_known_id_is_in_at_once_and_the_old_one_goes_in_order() -> None:
    world = World()
    service, old = world.service(), world.edge(5, b"old")
    waiting = service.call(b"m", custom=(5).to_bytes(8))
    assert old.request()
    new = world.edge(5, b"new")
    assert service.response().data.error == "force closed"
    assert service.frames[-1].packet_id == waiting
    service.call(b"m", custom=(5).to_bytes(8))
    assert new.request()
    assert old.one(f.FrameType.DISMISS).session_id == 1
    world.advance(0.1)
    assert old.closed
    assert not old.transport.aborted
    assert not new.closed


def test_g9_an_old_connection_that_does_not_answer_holds_nobody_up() -> None:
    world = World()
    old = world.edge(5)
    old.polite = False
    old.transport.block()
    new = world.edge(5)
    assert world.core.repository.edges[5] is new.leg
    other = world.edge(6)
    assert not other.closed
    world.advance(11)
    assert old.closed
    assert not new.closed


def test_g10_a_silent_peer_is_dropped() -> None:
    world = World()
    edge = world.edge(5)
    edge.polite = False
    world.advance(39)
    assert not edge.closed
    world.advance(2)
    assert edge.one(p.Bare).type == f.DIS_CONN
    world.advance(6)
    assert edge.closed
    world.check_empty()


def test_g11_two_services_with_one_id() -> None:
    world = World()
    old = world.service("old", ("t",), (b"m",), service_id=7)
    new = world.service("new", ("u",), (b"n",), service_id=7)
    world.advance(1)
    assert old.closed
    assert world.core.repository.services == {7: new.leg}
    assert list(world.core.repository.by_name) == ["new"]
    assert list(world.core.repository.by_topic) == ["u"]
    assert list(world.core.repository.by_method) == [b"n"]


@pytest.mark.parametrize(
    "meta", [b"", b"not json", b"[]", b'{"service":5}', b'{"topics":"t"}', b'{"topics":[1]}', b'"x"']
)
def test_g12_unreadable_service_meta_is_refused(meta: bytes) -> None:
    world = World()
    service = world.connect(world.core.services)
    service.conn(meta)
    ack = service.one(p.ConnAck)
    assert ack.code == 1
    assert ack.data.error.startswith("illegal service meta: ")
    world.advance(1)
    assert service.closed
    world.check_empty()


@pytest.mark.parametrize(("meta", "name", "topics"), [
    (b"{}", "", ()),
    (b"null", "", ()),
    (b'{"service":"x","topics":null}', "x", ()),
    (b'{"Service":"x","TOPICS":["a","b","a"]}', "x", ("a", "b")),
    (b' {"topics":[""],"more":{"service":1}} ', "", ("",)),
])  # fmt: skip
def test_service_meta(meta: bytes, name: str, topics: tuple[str, ...]) -> None:
    world = World()
    service = world.connect(world.core.services)
    service.conn(meta, wanted=12)
    assert service.one(p.ConnAck).client_id == 12
    assert (service.leg.name, service.leg.topics) == (name, topics)


def test_g13_allocated_ids_are_not_in_use() -> None:
    world = World()
    first = world.edge()
    taken = {first.id + 1, first.id + 2}
    for edge_id in taken:
        world.edge(edge_id)
    assert world.edge().id not in taken | {first.id}


@pytest.mark.parametrize("frame", [
    p.encode(p.Bare(type=f.FrameType.HEARTBEAT, packet_id=1)),
    p.encode(p.Stream(packet_id=1, session_id=1, data=b"x")),
    p.encode(p.Bare(type=f.FrameType.DIS_CONN, packet_id=1)),
    f.pack(f.CONN_ACK, 1, bytes(8)),
    f.pack(f.SESSION, 1, bytes(9)),
    f.pack(f.CONN, 1, bytes(3)),
    b"\1\1" + bytes(8) + b"\xff\xff\xff\xff",
    b"GET / HTTP/1.1\r\n\r\n",
])  # fmt: skip
def test_g14_frames_before_the_handshake_harm_nobody(frame: bytes) -> None:
    world = World()
    service, edge = world.service(), world.edge(5)
    for factory in (world.core.edges, world.core.services):
        world.connect(factory).raw(frame)
    service.call(b"m", custom=(5).to_bytes(8))
    assert edge.request()
    world.advance(10.1)
    assert all(peer.closed for peer in world.peers[2:])
    assert not service.closed


def test_records_are_there_when_the_ack_is() -> None:
    """Section 17, item 6 (G7): what was acknowledged can be used in the same turn."""
    world = World()
    service = world.service(topics=("t",), methods=(b"m",))
    edge = world.connect(world.core.edges)
    conn = p.Conn(packet_id=1, flags=0x10, client_id=5)
    edge.raw(p.encode(conn))
    assert isinstance(edge.inbox[0], p.ConnAck)
    assert 5 in world.core.repository.edges
    edge.call(b"m")
    edge.publish(topic="t")
    assert {x.type for x in service.take()} == {f.REQUEST, f.MESSAGE}


def test_counts_of_the_repository() -> None:
    world = World()
    repository = world.core.repository
    edge, other = world.edge(1), world.edge(2)
    for method in (b"a", b"b", b"a", b""):
        edge.register(method)
    other.register(b"a")
    assert len(edge.take(p.RegisterAck)) == 4
    assert repository.edge_methods == 4
    world.service("s", ("t", "u"), (b"m",), service_id=1)
    last = world.service("s", ("t",), (b"m", b"n"), service_id=2)
    assert [len(x) for x in (repository.services, repository.by_name, repository.by_method, repository.by_topic)] == [
        2, 1, 2, 2,
    ]  # fmt: skip
    edge.cut()
    last.cut()
    assert repository.edge_methods == 1
    assert [len(x) for x in (repository.edges, repository.services, repository.by_name)] == [1, 1, 1]
    assert (list(repository.by_method), list(repository.by_topic)) == ([b"m"], ["t", "u"])


def test_g8_neighbouring_ids_do_not_share_methods() -> None:
    world = World()
    first, second = 2**60 + 1, 2**60 + 2
    leaving = world.service(methods=(b"m",), service_id=first)
    world.service(methods=(b"m",), service_id=second)
    leaving.cut()
    assert [leg.id for leg in world.core.repository.services_of_method(b"m")] == [second]


def test_limits_of_registered_methods() -> None:
    world = World(settings=Settings(methods_per_connection=2, method_bytes=4))
    edge = world.edge(1)
    for method in (b"a", b"b", b"c", b"a", b"toolong"):
        edge.register(method)
    assert [ack.data.error for ack in edge.take(p.RegisterAck)] == [
        "", "", "too many methods", "", "method name too long",
    ]  # fmt: skip
    assert world.core.repository.edge_methods == 2


def test_connections_are_bounded() -> None:
    world = World(connections=2)
    world.edge(1)
    world.edge(2)
    assert world.core.edges.buildProtocol(world.peers[0].transport.address) is None
    assert world.core.edges.refused["limit"] == 1
    world.service()
    world.peers[0].cut()
    world.edge(3)


def test_kicks_name_who_is_not_there() -> None:
    world = World()
    with pytest.raises(Exception, match="edge not online"):
        world.core.kick_edge(4)
    with pytest.raises(Exception, match="service not online"):
        world.core.kick_service(4)
    service = world.service(service_id=4)
    world.core.kick_service(4)
    world.advance(1)
    assert service.closed
    assert not service.transport.aborted


class Listener:
    """Writes down what it is told, with what the repository shows at that moment."""

    def __init__(self, world: World) -> None:
        self.repository = world.core.repository
        self.told: list[tuple[str, int, bool]] = []

    def _note(self, what: str, leg: Any) -> None:
        table = self.repository.edges if leg.is_edge else self.repository.services
        self.told.append((what, leg.id, table.get(leg.id) is leg))

    def online(self, leg: Any) -> None:
        self._note("online", leg)

    def offline(self, leg: Any) -> None:
        self._note("offline", leg)

    def heartbeat(self, leg: Any) -> None:
        self._note("heartbeat", leg)


def test_listeners_are_told_what_the_repository_shows() -> None:
    """Section 17, item 7: whoever reports to others hears of each change once, and not of one whose place is taken."""
    world = World()
    listener = Listener(world)
    world.core.presence.listeners.append(listener)
    edge, service = world.edge(5), world.service(service_id=7)
    edge.send_bare(f.FrameType.HEARTBEAT)
    newcomer = world.edge(5)
    edge.send_bare(f.FrameType.HEARTBEAT)
    world.advance(0.1)
    assert edge.closed
    newcomer.cut()
    service.leave()
    refused = world.connect(world.core.services)
    refused.conn(b"[]")
    world.advance(1)
    assert listener.told == [
        ("online", 5, True), ("online", 7, True), ("heartbeat", 5, True), ("online", 5, True),
        ("offline", 5, False), ("offline", 7, False),
    ]  # fmt: skip


class Failing:
    """A listener that knows nothing of the method that it is asked for."""

    def _fail(self, leg: Any) -> None:
        raise KeyError(leg.id)

    online = offline = heartbeat = _fail


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(GatewayCore, "_part_failed", lambda core, what: said.append(what))
    return said


def test_a_listener_that_fails_harms_neither_peers_nor_other_listeners(complaints: list[str]) -> None:
    world = World()
    listener = Listener(world)
    world.core.presence.listeners += [Failing(), listener]
    service = world.service(methods=(b"edge_offline",), service_id=7)
    edge = world.edge(5)
    edge.send_bare(f.FrameType.HEARTBEAT)
    edge.cut()
    assert service.request().data.key == b"edge_offline"
    assert [what for what, _, _ in listener.told] == ["online", "online", "heartbeat", "offline"]
    assert ["online" in said or "offline" in said or "heartbeat" in said for said in complaints] == [True] * 4
    assert all("Failing" in said for said in complaints)


@implementer(IIDAllocator)
class Allocator:
    """Makes what it is told to make."""

    def __init__(self, *made: Any) -> None:
        self.made = list(made)

    def allocate(self, in_use: Any) -> Any:
        return self.made.pop(0)


@pytest.mark.parametrize("bad", [0, -1, 2**64, "7", None, True, 5])
def test_an_allocator_that_makes_no_id_refuses_the_newcomer_only(bad: Any, complaints: list[str]) -> None:
    """5 is the id of an edge that is there, and stays."""
    world = World(allocator=Allocator(5, bad, 6))
    first = world.edge()
    assert first.id == 5
    refused = arriving(world).one(p.ConnAck)
    assert refused.data.error == "no id could be allocated"
    assert len(complaints) == 1 and "Allocator" in complaints[0]
    assert world.edge().id == 6
    assert world.core.repository.edges[5] is first.leg


def test_an_allocator_that_raises_refuses_edges_and_services(complaints: list[str]) -> None:
    world = World(allocator=Allocator())
    assert arriving(world).one(p.ConnAck).data.error == "no id could be allocated"
    service = world.connect(world.core.services)
    service.conn(b'{"service":"s"}')
    assert service.one(p.ConnAck).data.error == "no id could be allocated"
    assert len(complaints) == 2


def test_an_allocator_that_fails_behind_an_id_service_leaves_the_service_alone(complaints: list[str]) -> None:
    world = World(allocator=Allocator())
    service = world.service(methods=(b"get_edge_id",), service_id=7)
    edge = arriving(world)
    service.respond(service.request(), bytes(8))
    assert edge.one(p.ConnAck).data.error == "no id could be allocated"
    assert not service.closed
    assert len(complaints) == 1


# -- a place that is taken --------------------------------------------------------------------------------


def vouched(world: World, service: Peer, edge_id: int, meta: bytes = b"meta") -> Peer:
    """An edge whose id a service gives; what comes behind that is up to the test."""
    edge = arriving(world, meta)
    service.respond(service.request(), edge_id.to_bytes(8))
    return edge


def test_of_an_edge_whose_place_is_taken_a_service_hears_before_it_hears_of_the_newcomer() -> None:
    world = World()
    service = world.service(methods=CONTROL)
    old = vouched(world, service, 5)
    service.respond(service.request())
    old.take()
    new = vouched(world, service, 5)
    offline = service.request()
    assert offline.data.key == b"edge_offline"
    assert event(offline)["Str"] == old.leg.address
    assert world.core.repository.edge(5) is old.leg
    service.respond(offline)
    online = service.request()
    assert online.data.key == b"edge_online"
    assert event(online)["Str"] == new.leg.address
    service.respond(online)
    assert new.one(p.ConnAck).client_id == 5
    world.advance(6)
    assert old.closed
    service.nothing()


def test_a_service_that_is_slow_to_note_a_parting_does_not_keep_the_newcomer_out() -> None:
    world = World()
    service = world.service(methods=CONTROL)
    vouched(world, service, 5)
    service.respond(service.request())
    new = vouched(world, service, 5)
    offline = service.request()
    world.advance(3.1)
    service.respond(service.request())
    assert new.one(p.ConnAck).client_id == 5
    service.respond(offline)
    world.advance(6)
    service.nothing()


def test_a_newcomer_that_claims_an_id_and_is_refused_changes_nothing_for_the_one_that_has_it() -> None:
    world = World()
    service = world.service(methods=CONTROL)
    old = vouched(world, service, 5)
    service.respond(service.request())
    new = arriving(world, wanted=5, acquire=False)
    online = service.request()
    assert online.data.key == b"edge_online"
    service.respond(online, error="who are you")
    assert new.one(p.ConnAck).data.error == "who are you"
    world.advance(6)
    assert not old.closed
    service.nothing()
    old.cut()
    assert service.request().data.key == b"edge_offline"


def test_a_newcomer_that_claims_an_id_and_is_let_in_is_followed_by_the_parting_of_the_other() -> None:
    world = World()
    service = world.service(methods=CONTROL[1:])
    old = arriving(world, wanted=5, acquire=False)
    service.respond(service.request())
    arriving(world, wanted=5, acquire=False)
    service.respond(service.request())
    offline = service.request()
    assert (offline.data.key, event(offline)["Str"]) == (b"edge_offline", old.leg.address)
    world.advance(6)
    service.nothing()


def test_a_vouched_newcomer_that_is_not_let_in_leaves_nobody_whom_the_service_takes_for_gone() -> None:
    world = World()
    service = world.service(methods=CONTROL)
    old = vouched(world, service, 5)
    service.respond(service.request())
    new = vouched(world, service, 5)
    service.respond(service.request())
    service.respond(service.request(), error="not today")
    assert new.one(p.ConnAck).data.error == "not today"
    world.advance(6)
    assert old.closed
    service.nothing()


def test_newcomers_with_one_id_come_in_one_after_the_other_and_the_newest_counts() -> None:
    world = World()
    service = world.service(methods=CONTROL[1:])
    first, second, third = (arriving(world, wanted=5, acquire=False) for _ in range(3))
    assert second.one(p.ConnAck).data.error == "replaced by another connection with the same id"
    service.respond(service.request())
    assert first.one(p.ConnAck).data.error == ""
    service.respond(service.request())
    assert third.one(p.ConnAck).data.error == ""
    offline = service.request()
    assert event(offline)["Str"] == first.leg.address
    assert world.core.repository.edges == {5: third.leg}


def test_an_edge_that_was_asked_about_when_it_left_is_gone_before_it_comes_again() -> None:
    world = World()
    service = world.service(methods=CONTROL[1:])
    left = arriving(world, wanted=5, acquire=False)
    asked = service.request()
    left.cut()
    back = arriving(world, wanted=5, acquire=False)
    service.nothing()
    service.respond(asked)
    offline = service.request()
    assert (offline.data.key, event(offline)["Str"]) == (b"edge_offline", left.leg.address)
    service.respond(offline)
    online = service.request()
    assert (online.data.key, event(online)["Str"]) == (b"edge_online", back.leg.address)
    service.respond(online)
    assert back.one(p.ConnAck).data.error == ""
    service.nothing()
    assert world.core.presence.arrivals.coming == {} == world.core.presence.arrivals.turns


@pytest.mark.parametrize("answered", [True, False])
def test_an_answer_that_does_not_come_holds_up_the_next_for_three_seconds(answered: bool) -> None:
    world = World()
    service = world.service(methods=CONTROL[1:])
    left = arriving(world, wanted=5, acquire=False)
    asked = service.request()
    left.cut()
    back = arriving(world, wanted=5, acquire=False)
    if answered:
        service.respond(asked)
        assert service.request().data.key == b"edge_offline"
    world.advance(2.9)
    service.nothing()
    world.advance(0.2)
    service.respond(service.request())
    assert back.one(p.ConnAck).data.error == ""
    if not answered:
        service.respond(asked)
        assert event(service.request())["Str"] == left.leg.address
    assert world.core.presence.arrivals.turns == {}


def test_the_one_that_is_replaced_reads_why_where_it_can() -> None:
    world = World(limits=Limits(stream_window_bytes=1 << 20))
    ours, other = world.edge(5, stream_window=1 << 20), world.edge(6)
    world.edge(5)
    world.edge(6)
    assert ours.one(f.FrameType.DISMISS).data.error == "replaced by another connection with the same id"
    assert other.one(f.FrameType.DISMISS).data.error == ""


def test_replacements_are_logged_with_both_addresses_and_not_without_end() -> None:
    said: list[dict[str, Any]] = []
    observer = said.append
    globalLogPublisher.addObserver(observer)
    try:
        world = World()
        edges = [world.edge(5) for _ in range(101)]
        lines = [formatEvent(x) for x in said if "replaced" in (x.get("log_format") or "")]
        assert len(lines) == 20
        assert edges[0].leg.address in lines[0] and edges[1].leg.address in lines[0]
        said.clear()
        world.advance(61)
        world.edge(5)
        world.edge(5)
        line = next(x for x in said if "replaced" in (x.get("log_format") or ""))
        assert "(80 more before it)" in formatEvent(line)
    finally:
        globalLogPublisher.removeObserver(observer)


# -- the wrong door ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("meta", [
    b'{"service":"","topics":null}',
    b'{"service":"billing","topics":["bills","more"]}',
    b'{"service":"a\\u003cb \xc3\xa4","topics":["*"]}',
])  # fmt: skip
def test_a_service_at_the_port_of_the_edges_is_told_so(meta: bytes) -> None:
    world = World()
    watching = world.service(methods=CONTROL)
    error = arriving(world, meta).one(p.ConnAck).data.error
    assert "this is the port of the edges" in error and "servicebound.listen" in error
    watching.nothing()


@pytest.mark.parametrize("meta", [
    b'{"service":"x"}', b'{"topics":null,"service":"x"}', b'{"service":"x","topics":null,"more":1}',
    b'{ "service":"x","topics":null}', b'{"service":1,"topics":null}', b'{"service":"x","topics":null} ', b"{}",
    b'{"service":"x","topics":nil}', b'{"service":"","topics":[1]}',
])  # fmt: skip
def test_an_edge_may_have_a_meta_that_is_nearly_a_services(meta: bytes) -> None:
    assert arriving(World(), meta).one(p.ConnAck).data.error == ""


@pytest.mark.parametrize("meta", [b"", b"device-17", b'{"model":"x","serial":5}', b"[1]"])
def test_an_edge_at_the_port_of_the_services_is_told_so(meta: bytes) -> None:
    world = World()
    edge = world.connect(world.core.services)
    edge.conn(meta)
    error = edge.one(p.ConnAck).data.error
    assert error.startswith("illegal service meta: ")
    assert "this is the port of the services" in error and "edgebound.listen" in error


@pytest.mark.parametrize(("door", "kind", "text"), [
    ("edges", "service", "this is the port of the edges"),
    ("edges", "frontier", "this is the port of the edges"),
    ("edges", "edge", ""),
    ("services", "edge", "this is the port of the services"),
    ("services", "service", ""),
])  # fmt: skip
def test_what_a_newcomer_says_that_it_is_counts_whatever_its_meta_looks_like(door: str, kind: str, text: str) -> None:
    world = World()
    peer = world.connect(getattr(world.core, door))
    peer.conn(b'{"service":"x","topics":null}', kind=kind)
    assert peer.one(p.ConnAck).data.error.partition(";")[0] == text


# -- what is remembered -----------------------------------------------------------------------------------


def test_topics_of_a_service_are_bounded_in_number_and_length() -> None:
    world = World(settings=Settings(topics_per_connection=3, method_bytes=8))
    for topics, text in ((["a"] * 4, "4 topics, at most 3"), (["ä" * 5], "a topic of 10 bytes, at most 8")):
        service = world.connect(world.core.services)
        service.conn(json.dumps({"service": "x", "topics": topics}).encode())
        assert text in service.one(p.ConnAck).data.error
    service = world.connect(world.core.services)
    service.conn(json.dumps({"service": "x" * 9}).encode())
    assert "a name of 9 bytes" in service.one(p.ConnAck).data.error
    world.everybody_leaves()
    assert world.core.repository.holdings.total == 0


def test_who_has_much_remembered_is_refused_before_who_has_little() -> None:
    world = World(settings=Settings(record_bytes=1_000_000))
    holdings = world.core.repository.holdings
    large = [arriving(world, bytes(300_000)) for _ in range(6)]
    errors = [edge.one(p.ConnAck).data.error for edge in large]
    assert errors == ["", "", "", *["meta too large"] * 3]
    small = [arriving(world, bytes(10_000)).one(p.ConnAck).data.error for _ in range(60)]
    assert small == [""] * 60
    assert holdings.total == 1_500_000
    greedy = world.edge(9)
    for number in range(1000):
        greedy.register(b"%d" % number + bytes(1000))
    answers = [ack.data.error for ack in greedy.take(p.RegisterAck)]
    assert answers[:14] == [""] * 14
    assert answers[20:] == ["too many methods"] * 980
    world.everybody_leaves()
    assert holdings.total == 0
    world.check_empty()


def test_what_is_refused_is_not_remembered() -> None:
    world = World()
    service = world.service(methods=CONTROL)
    edges = [arriving(world, bytes(500_000)) for _ in range(20)]
    for request in service.take(f.FrameType.REQUEST):
        service.respond(request, error="no")
    world.advance(1)
    assert all(edge.closed for edge in edges)
    service.cut()
    world.advance(1)
    assert world.core.repository.holdings.total == 0


def test_an_edge_that_left_is_remembered_until_its_service_has_answered() -> None:
    world = World()
    service = world.service(methods=CONTROL)
    edge = arriving(world, bytes(50_000))
    asked = service.request()
    edge.cut()
    held = world.core.repository.holdings
    before = held.total
    assert before > 50_000
    service.respond(asked, (5).to_bytes(8))
    assert held.total < before - 49_999
    assert world.core.presence.arrivals.coming == {}


# -- parts that were plugged in ---------------------------------------------------------------------------


@implementer(IHashPolicy)
class Policy:
    """Chooses what it is told to choose."""

    def __init__(self, choice: Any) -> None:
        self.choice = choice

    def choose(self, candidates: Any, edge: Any) -> Any:
        if isinstance(self.choice, Exception):
            raise self.choice
        return self.choice(candidates, edge) if callable(self.choice) else self.choice


@pytest.mark.parametrize("choice", [
    None, 5, "svc", RuntimeError("no"), lambda candidates, edge: edge, lambda candidates, edge: candidates,
    lambda candidates, edge: candidates[2],
])  # fmt: skip
def test_a_policy_that_chooses_nobody_costs_the_call_and_not_the_edge(choice: Any, complaints: list[str]) -> None:
    world = World(policy=Policy(choice))
    edge = world.edge(5)
    services = [world.service(topics=("t",), methods=(b"m", b"edge_offline")) for _ in range(2)]
    edge.call(b"m")
    edge.publish(topic="t")
    assert edge.response().data.error == edge.message_ack().data.error == "no service could be chosen"
    assert not edge.closed
    assert len(complaints) == 2 and all("Policy" in said for said in complaints)
    services[1].cut()
    edge.call(b"m")
    assert services[0].request()
    edge.cut()
    assert services[0].request().data.key == b"edge_offline"


def test_an_edge_that_leaves_is_told_of_whatever_a_policy_does() -> None:
    world = World(policy=Policy(None))
    edge = world.edge(5)
    services = [world.service(methods=(b"edge_offline",)) for _ in range(2)]
    edge.cut()
    assert sum(len(service.take(f.FrameType.REQUEST)) for service in services) == 1


def test_an_edge_for_which_a_policy_chooses_nobody_is_refused() -> None:
    world = World(policy=Policy(None))
    for _ in range(2):
        world.service(methods=(b"edge_online",))
    assert arriving(world).one(p.ConnAck).data.error == "no service could be chosen"


def test_a_part_that_fails_for_each_call_is_logged_twenty_times_a_minute() -> None:
    said: list[Any] = []
    globalLogPublisher.addObserver(said.append)
    try:
        world = World(policy=Policy(None))
        for _ in range(2):
            world.service(methods=(b"m",))
        edge = world.edge(5)
        for _ in range(200):
            edge.call(b"m")
    finally:
        globalLogPublisher.removeObserver(said.append)
    assert len([x for x in said if "log_failure" in x]) == 20


@pytest.mark.parametrize("size", [500_000, 60_000, 8])
def test_a_flood_of_newcomers_does_not_starve_edges_that_are_in(size: int) -> None:
    """The service takes nothing for a while; when it does, who needs little is served among the first."""
    world = World()
    service = world.service(topics=("t",), methods=(b"edge_online", b"m"))
    edge = arriving(world, b"established")
    service.respond(service.request())
    edge.take()
    service.transport.block()
    for _ in range(60 if size > 100_000 else 300):
        arriving(world, bytes(size))
    edge.call(b"m", b"mine")
    edge.publish(b"mine", topic="t")
    honest = arriving(world, b"honest")
    world.advance(0.1)
    edge.nothing()
    before = service.received
    for _ in range(400):
        service.transport.unblock_once()
        world.advance(0.01)
        if any(x.data.payload == b"mine" for x in service.inbox if x.type == f.REQUEST):
            break
    assert service.received - before < 8_000_000 + 300 * 66_000
    service.transport.unblock()
    for _ in range(400):
        world.advance(0.01)
        for asked in (*service.take(f.FrameType.REQUEST), *service.take(f.FrameType.MESSAGE)):
            service.respond(asked)
    assert honest.one(p.ConnAck).data.error == ""
    assert {x.data.error for x in edge.take()} == {""}
