"""What happens seldom: things that cross, tables that are longer than what is looked at, and the second of two."""

from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer

from frontier_tx.switch import latecomers, pressure, queries, sweep
from frontier_tx.switch.choice import IHashPolicy
from frontier_tx.switch.legs import MOST_UNHEARD, NO_TRANSPORT, Announced, Kind, Leg, StreamEnd
from frontier_tx.switch.local import NOBODY, LocalCaller
from frontier_tx.switch.pace import ASK, MOST
from frontier_tx.switch.pressure import Pressure
from frontier_tx.switch.settings import Counters, Settings
from frontier_tx.timers import Alarms
from frontier_tx.wire import frame as f
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.session import Session
from frontier_tx.wire.states import Role
from tests import packets as p

from .test_presence import CONTROL, arriving, vouched
from .test_pressure import beat
from .world import World

BLOCK = 60_000


def suffix(edge_id: int) -> bytes:
    return edge_id.to_bytes(8)


def frames(*packets: p.Packet) -> bytes:
    return b"".join(map(p.encode, packets))


def block(session: int, data: bytes) -> p.Stream:
    return p.Stream(packet_id=9, session_id=session, data=data)


# -- arrivals -------------------------------------------------------------------------------------------------


def test_who_is_in_is_not_refused() -> None:
    world = World()
    edge = world.edge(5)
    world.core.presence.arrivals.refuse(edge.leg, "no")
    assert edge.leg.online and edge.inbox == []


def test_two_that_came_at_the_same_moment_are_late_at_the_same_moment() -> None:
    world = World()
    service = world.service(methods=CONTROL)
    vouched(world, service, 5)
    service.respond(service.request())
    first, second = arriving(world), arriving(world)
    asked = service.take(f.FrameType.REQUEST)
    service.respond(asked[0], suffix(5))
    offline = service.request()
    service.respond(asked[1], suffix(5))
    service.respond(offline)
    assert service.request().data.key == b"edge_online"
    world.advance(10)
    for edge in (first, second):
        assert edge.one(p.ConnAck).data.error == "timeout"


def test_one_whose_turn_comes_when_its_time_is_over_is_refused() -> None:
    world = World()
    service = world.service(methods=CONTROL[1:])
    first, second = (arriving(world, wanted=5, acquire=False) for _ in range(2))
    asked = service.request()
    world.advance(10)
    assert [edge.one(p.ConnAck).data.error for edge in (first, second)] == ["timeout"] * 2
    service.one(p.RequestCancel)
    service.respond(asked, error="no")
    assert world.core.presence.arrivals.turns == {}


def test_one_that_leaves_while_a_service_notes_the_parting_of_the_one_before_announces_nobody() -> None:
    world = World()
    service = world.service(methods=CONTROL)
    vouched(world, service, 5)
    service.respond(service.request())
    new = vouched(world, service, 5)
    new.cut()
    service.respond(service.request())
    world.advance(6)
    service.nothing()
    assert world.core.presence.arrivals.coming == {}


def test_a_meta_that_fits_alone_may_not_fit_with_its_topics() -> None:
    world = World(settings=Settings(record_bytes=10_000))
    service = world.connect(world.core.services)
    topics = ",".join(f'"topic {number}"' for number in range(100))
    service.conn(f'{{"service":"s","topics":[{topics}]}}'.encode())
    assert service.one(p.ConnAck).data.error == "meta too large"


def test_a_meta_that_is_too_large_for_a_call_is_refused() -> None:
    world = World(limits=Limits(handshake_bytes=20 << 20, frame_bytes=20 << 20))
    world.service(methods=CONTROL[:1])
    assert arriving(world, bytes(8 << 20)).one(p.ConnAck).data.error == "packet payload too large"


def test_who_asked_is_told_when_a_leg_is_gone() -> None:
    world = World()
    edge = world.edge(5)
    told: list[str] = []
    for name in ("one", "other"):
        world.core.presence.when_gone(edge.leg, lambda name=name: told.append(name))  # type: ignore[misc]
    edge.cut()
    assert told == ["one", "other"]


# -- latecomers -----------------------------------------------------------------------------------------------


def test_who_comes_while_the_edges_are_gone_through_has_them_gone_through_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(latecomers, "SLICE", 2)
    world = World()
    edges = [world.edge(number) for number in range(1, 7)]
    edges[2].dismiss()
    service = world.service(methods=CONTROL[1:])
    world.advance(1.07, step=0.01)
    world.service(methods=CONTROL[1:])
    seen: list[int] = []
    for _ in range(60):
        for request in service.take(f.FrameType.REQUEST):
            seen.append(len(request.data.payload))
            service.respond(request)
        world.advance(0.1)
    told = [edge.leg.announced for edge in edges]
    assert Announced.ONLINE in told and Announced.NOTHING in told
    assert edges[2].leg.announced is Announced.NOTHING


def test_an_answer_about_an_edge_whose_place_was_taken_meanwhile_is_of_no_account() -> None:
    world = World()
    old = world.edge(5)
    service = world.service(methods=CONTROL)
    world.advance(1.2, step=0.1)
    late = service.request()
    vouched(world, service, 5)
    offline = service.request()
    service.respond(late)
    assert old.leg.announced is Announced.OFFLINE
    service.respond(offline)
    assert service.request().data.key == b"edge_online"


# -- streams --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["", "no"])
def test_an_answer_for_an_opening_that_is_forgotten_opens_nothing(error: str) -> None:
    world = World()
    edge, service = world.edge(5), world.service("files", service_id=7)
    service.polite = False
    edge.open("files")
    asked = service.one(p.Session)
    world.service("files", service_id=7)
    service.take()
    service.ack_session(asked, error)
    assert service.leg.streams == {} and edge.leg.streams == {}


def test_a_stream_that_is_over_is_not_broken_off_again() -> None:
    world = World()
    edge, service = world.edge(5), world.service("files")
    near, far = world.stream(edge, service, "files")
    streams = world.core.presence.streams
    end = service.leg.streams[far]
    for _ in range(2):
        streams.break_off(end, "receiver congested")
    world.advance()
    assert len(service.take(f.FrameType.DISMISS)) == len(edge.take(f.FrameType.DISMISS)) == 1
    assert near not in edge.leg.streams
    streams.granted(edge.leg, Session(99))


def test_of_a_leg_that_says_goodbye_streams_are_broken_off_without_a_word() -> None:
    world = World()
    edge, service = world.edge(5), world.service("files")
    _, far = world.stream(edge, service, "files")
    end = service.leg.streams[far]
    service.polite = False
    service.disconnect()
    service.take()
    world.core.presence.streams.break_off(end, "receiver congested")
    service.nothing()


def test_an_end_that_is_closed_while_its_leg_is_swept_is_paid_back_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(sweep, "SLICE", 1)
    world = World()
    edge, service = world.edge(5), world.service("files")
    pairs = [world.stream(edge, service, "files") for _ in range(3)]
    for near, _ in pairs:
        edge.call(b"m", session=near)
    edge.cut()
    service.dismiss(pairs[2][1])
    world.advance(1, step=0.1)
    assert world.core.exchange.budget.used == 0 and service.leg.streams == {}


def test_a_call_on_a_stream_to_one_that_says_goodbye_is_withdrawn_without_a_word() -> None:
    world = World()
    edge, service = world.edge(5), world.service("files")
    near, _ = world.stream(edge, service, "files")
    asked = edge.call(b"m", session=near)
    service.polite = False
    service.disconnect()
    service.take()
    edge.cancel(asked, near)
    assert edge.response().data.error == "context canceled"
    service.nothing()


def test_who_gave_up_session_1_is_not_answered_there() -> None:
    world = World()
    edge, service = world.edge(5), world.service(methods=(b"m",))
    edge.call(b"m")
    edge.dismiss()
    world.advance(0.1)
    edge.take()
    service.cut()
    edge.nothing()
    assert world.core.exchange.pending_count == 0


def test_a_message_that_has_nobody_to_answer_already_is_left_alone() -> None:
    world = World()
    edge, service = world.edge(5), world.service(topics=("t",))
    edge.publish(topic="t")
    (pending,) = edge.leg.outgoing.values()
    for _ in range(2):
        world.core.exchange.in_flight._abandon(pending)
    service.respond(service.message())
    edge.nothing()


def test_answers_to_questions_that_nobody_asked_change_nothing() -> None:
    world = World()
    edge, service = world.edge(5), world.service("files")
    near, far = world.stream(edge, service, "files")
    for _ in range(ASK):
        edge.stream(near, b"x")
    (question, _) = service.take(p.Register)
    for session, packet_id in ((99, question.packet_id), (far, question.packet_id + 2)):
        service.send(p.RegisterAck(packet_id=packet_id, session_id=session))
    edge.polite = False
    edge.open("nobody")
    refused = edge.one(p.SessionAck).session_id
    edge.send(p.RegisterAck(packet_id=1, session_id=refused))
    pace = service.leg.streams[far].pace
    assert pace is not None and pace.sent == ASK and pace.asked == question.packet_id


def test_raw_bytes_of_one_turn_keep_their_order_whatever_way_they_go() -> None:
    world = World()
    edge, service = world.edge(5), world.service("files")
    near, _ = world.stream(edge, service, "files")
    blocks = [bytes([number]) * BLOCK for number in range(ASK + 3)]
    edge.raw(frames(*(block(near, data) for data in blocks)))
    assert b"".join(x.data for x in service.take(p.Stream)) == b"".join(blocks)
    assert service.take(p.Register)


def test_frames_and_raw_bytes_of_a_sender_wait_for_the_same_receiver() -> None:
    world = World()
    edge, service = world.edge(5), world.service("files", methods=(b"m",))
    near, far = world.stream(edge, service, "files")
    service.transport.block()
    for number in range(12):
        edge.call(b"m", bytes(50_000))
        edge.call(b"s", bytes(50_000), session=near)
        edge.stream(near, bytes([number]) * 50_000)
    doors = world.core.exchange.doors
    end = service.leg.streams[far]
    assert end in doors.lanes and end in doors.raw_lanes and end.raw_ready
    assert not doors.fits(edge.leg, service.leg, 1 << 30)
    service.transport.unblock()
    world.advance(0.1)
    assert len(service.take(f.FrameType.REQUEST)) == 24
    assert sum(len(x.data) for x in service.take(p.Stream)) == 12 * 50_000
    assert not doors.by_leg and not doors.lanes and not doors.raw_lanes


def test_what_waits_on_session_1_of_one_that_gives_it_up_is_not_sent() -> None:
    world = World()
    edge, service = world.edge(5), world.service(methods=(b"m",))
    service.transport.block()
    for _ in range(12):
        edge.call(b"m", bytes(50_000))
    assert service.leg.queued
    service.dismiss()
    assert service.leg.queued == 0
    assert {x.data.error for x in edge.take(f.FrameType.RESPONSE)} == {"force closed"}


def test_a_sender_for_whom_nothing_waits_is_not_stopped() -> None:
    world = World()
    edge, service = world.edge(5), world.service()
    world.core.exchange.doors.stop(edge.leg, service.leg)
    assert edge.transport.reading


def test_more_than_there_is_altogether_is_admitted_to_nobody() -> None:
    world = World()
    edge, budget = world.edge(5), world.core.exchange.budget
    assert budget.admits(edge.leg, 1000) and not budget.admits(edge.leg, budget.limit + 1)


# -- back-pressure --------------------------------------------------------------------------------------------


class Held:
    """An edge that two streams of a service stop, or the other way round, and which others wait for."""

    def __init__(self) -> None:
        self.world = World(settings=Settings(write_high_bytes=10_000, write_stall_seconds=30.0))
        self.edge, self.other = self.world.edge(5), self.world.edge(6)
        self.service = self.world.service("files", methods=(b"m",))
        self.streams = [self.world.stream(self.edge, self.service, "files") for _ in range(2)]
        self.pressure = self.world.core.exchange.pressure

    @property
    def hold(self) -> pressure.Hold:
        return self.pressure.holds[self.edge.leg]

    def stop(self) -> None:
        """Both streams of the edge come to wait, in one read."""
        self.service.transport.block()
        (one, _), (other, _) = self.streams
        self.edge.stream(one, bytes(6000))
        self.edge.raw(frames(*(block(session, bytes(20_000)) for session in (one, other, one))))
        assert not self.edge.transport.reading and len(self.hold.ends) == 2


def test_a_sender_that_two_streams_stop_goes_on_when_both_are_relieved() -> None:
    held = Held()
    held.stop()
    first, second = list(held.hold.ends)
    held.pressure.relieved(first)
    assert not held.edge.transport.reading
    held.pressure.relieved(second)
    assert held.edge.transport.reading and held.service.leg.congesting == set()


@pytest.mark.parametrize("who", ["receiver", "sender"])
def test_of_a_leg_that_is_gone_nothing_is_held(who: str) -> None:
    held = Held()
    held.stop()
    held.pressure.forget(held.service.leg if who == "receiver" else held.edge.leg)
    assert held.service.leg.congesting == set() and held.edge.transport.reading
    assert (held.edge.leg in held.pressure.holds) is (who == "receiver")


def test_two_who_wait_for_a_stopped_sender_are_enough(monkeypatch: Any) -> None:
    held = Held()
    third = held.world.edge(7)
    calls = [world_edge.call(b"m") for world_edge in (held.other, third)]
    assert len(calls) == 2
    waiting = held.pressure._waiting_for(held.service.leg, 0.0)
    assert waiting == [held.other.leg, third.leg]
    monkeypatch.setattr(pressure, "MOST_SEEN", 1)
    assert held.pressure._waiting_for(held.service.leg, 0.0) == [held.other.leg, None]


def test_two_who_read_streams_of_a_stopped_sender_are_enough(monkeypatch: Any) -> None:
    held = Held()
    two = [held.world.service(f"s{number}") for number in range(2)]
    for service in two:
        near, _ = held.world.stream(held.edge, service, service.leg.name)
        held.edge.stream(near, b"x")
    assert held.pressure._waiting_for(held.edge.leg, 0.0) == [service.leg for service in two]
    monkeypatch.setattr(pressure, "MOST_SEEN", 1)
    assert held.pressure._waiting_for(held.edge.leg, 0.0) == [None]


def test_a_sender_that_has_more_to_say_is_taken_from_itself() -> None:
    """A service that is stopped by a stream cannot send its own calls to anybody else meanwhile."""
    held = Held()
    held.service.call(b"x", custom=suffix(5))
    held.edge.transport.block()
    (_, far), _ = held.streams
    held.service.stream(far, bytes(6000))
    held.service.raw(frames(*(block(far, bytes(20_000)) for _ in range(8))))
    assert not held.service.transport.reading
    held.world.advance(1, step=0.1)
    hold = held.pressure.holds[held.service.leg]
    assert hold.debts[5].level > 0.5
    held.edge.transport.unblock()
    beat(held.world, 40)
    held.edge.transport.block()
    for _ in range(4):
        held.service.stream(far, bytes(6000))
    assert not held.service.transport.reading
    held.world.advance(0.3, step=0.1)
    assert hold.debts == {}, "what was taken is forgiven by now, and nobody else waits"


def test_what_waits_for_a_stopped_sender_is_looked_at_while_it_cannot_answer() -> None:
    held = Held()
    (near, far), _ = held.streams
    for _ in range(MOST + 10):
        held.service.stream(far, b"x")
    assert held.edge.leg.streams[near].pace is not None
    seen: list[StreamEnd] = []
    held.pressure.look_again = seen.append
    held.stop()
    held.world.advance(0.2, step=0.1)
    assert held.edge.leg.streams[near] in seen


def test_pressure_alone_ends_nothing() -> None:
    alarms = Alarms(Clock())
    alone = Pressure(alarms, Counters(), 100, 1.0)
    end = StreamEnd(Leg(Kind.EDGE, Connection(Role.SERVER, 0.0), NO_TRANSPORT, "", 0.0))
    alone.look_again(end)
    alone.end(end)
    assert end.stops is None


# -- windows --------------------------------------------------------------------------------------------------


def test_what_waits_apart_leaves_with_its_stream() -> None:
    world = World()
    edge, service = world.edge(5), world.service("files")
    near, far = world.stream(edge, service, "files")
    for _number in range(20):
        edge.publish(session=near)
        edge.call(b"m", session=near)
    end = service.leg.streams[far]
    assert end.parked is not None and end.parked_calls is not None
    for asked in list(edge.leg.outgoing.values()):
        if asked.queue is not None and asked.request:
            edge.cancel(asked.source_packet, near)
    assert end.parked_calls is None
    beat(world, 31)
    assert end.parked is None and edge.leg.held_back == 0
    assert {x.data.error for x in edge.take(f.FrameType.MESSAGE_ACK)} == {"timeout"}


def test_what_waits_apart_joins_those_who_wait_already() -> None:
    world = World(settings=Settings(service_window=MOST_UNHEARD + 2))
    edge, service = world.edge(5), world.service("files", topics=("t",))
    near, far = world.stream(edge, service, "files")
    for number in range(20):
        edge.publish(b"%d" % number, session=near)
    for number in range(10):
        edge.publish(b"%d" % number, topic="t")
    end, window = service.leg.streams[far], service.leg.message_window
    assert end.parked is not None and window is not None and len(window.waiting) == 1
    first = service.take(f.FrameType.MESSAGE)
    service.respond(first[0])
    assert end.parked is None
    service.dismiss(far)
    world.advance(0.1)
    left = [*first[1:], *service.take(f.FrameType.MESSAGE)]
    while left:
        service.respond(left.pop(0))
        left += service.take(f.FrameType.MESSAGE)
    acks = edge.take(f.FrameType.MESSAGE_ACK)
    assert [x.data.error for x in acks if x.session_id == 1] == [""] * 10
    assert {x.data.error for x in acks if x.session_id == near} == {"", "force closed"}
    assert edge.leg.outgoing == {}


def test_the_last_of_those_that_wait_apart_leaves_nothing_behind() -> None:
    world = World()
    edge, service = world.edge(5), world.service("files")
    near, far = world.stream(edge, service, "files")
    for _ in range(MOST_UNHEARD + 1):
        edge.publish(session=near)
    end = service.leg.streams[far]
    assert end.parked is not None
    for pending in list(end.parked.items):
        world.core.exchange.in_flight.fail(pending, "no")
    assert end.parked is None


def test_session_1_has_a_place_beside_streams_that_answer_nothing() -> None:
    world = World(settings=Settings(service_window=2))
    edge, service = world.edge(5), world.service("files", topics=("t",))
    streams = [world.stream(edge, service, "files")[0] for _ in range(2)]
    for session in streams:
        edge.publish(session=session)
    for _ in range(3):
        edge.publish(topic="t")
    *on_streams, first = service.take(f.FrameType.MESSAGE)
    service.respond(first)
    second = service.message()
    assert (first.session_id, second.session_id) == (1, 1)
    service.respond(on_streams[0])
    assert len(edge.take(f.FrameType.MESSAGE_ACK)) == 2


# -- queues ---------------------------------------------------------------------------------------------------


class Topics:
    """Two queues that take everything."""

    to_all = False

    def __init__(self) -> None:
        self.published: list[str] = []

    def of_topic(self, topic: str) -> list[Any]:
        return [Named("a"), Named("b")]

    def publish(self, queue: Any, topic: str, *rest: Any) -> None:
        self.published.append(topic)
        rest[-2]("")


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


@implementer(IHashPolicy)
class Choosy:
    """Chooses the first where it may."""

    fails = False

    def choose(self, candidates: Any, edge: Any) -> Any:
        if self.fails:
            raise ValueError("no")
        return candidates[0]


def test_messages_of_edges_go_to_queues_and_those_of_services_to_edges() -> None:
    policy, topics = Choosy(), Topics()
    world = World(queues=topics, policy=policy)
    edge, service = world.edge(5), world.service()
    edge.publish(topic="t")
    assert edge.message_ack().data.error == "" and topics.published == ["t"]
    service.publish(topic="t", custom=suffix(5))
    edge.respond(edge.message())
    assert topics.published == ["t"]
    policy.fails = True
    edge.publish(topic="t")
    assert edge.message_ack().data.error == "no service could be chosen"


def test_a_service_that_is_chosen_beside_queues_answers_edges_and_operators() -> None:
    topics = Topics()
    world = World(queues=topics, policy=Choosy())
    edge, service = world.edge(5), world.service("s", topics=("t",))
    edge.publish(topic="t")
    service.respond(service.message())
    assert edge.message_ack().data.error == ""
    outcome: list[Any] = []
    caller = LocalCaller(world.core.exchange, world.wall_now)
    caller.publish_topic("t", b"m", lambda *what: outcome.append(what))
    world.advance()
    service.respond(service.message(), error="no")
    assert outcome == [(b"", "no", True)] and topics.published == []


# -- queries --------------------------------------------------------------------------------------------------


def test_names_of_many_are_listed_in_steps(monkeypatch: Any) -> None:
    monkeypatch.setattr(queries, "SLICE", 2)
    world = World()
    for number in range(1, 6):
        world.edge(number).register(b"m%d" % number)
    steps = queries.list_edge_rpcs(world.core.repository, queries.EdgeNamesSelection(page=1, page_size=10, order="rpc"))
    page = queries.at_once(steps)
    assert page.items == ["m1", "m2", "m3", "m4", "m5"] and page.count == 5


def test_of_many_rows_the_first_are_picked_and_of_few_all_are_sorted() -> None:
    rows: Any = [(number, number, number) for number in range(20)]
    assert queries._run(list(rows), 1, True) == rows[-1:]
    assert queries._run(list(rows), 1, False) == rows[:1]
    assert queries._run(list(rows), 19, True) == rows[:0:-1]


def test_who_wants_to_know_is_told_of_methods() -> None:
    world = World()
    told: list[Any] = []
    world.core.repository.on_method.append(lambda leg, method: told.append((leg.id, method)))
    world.edge(5).register(b"m")
    assert told == [(5, b"m")]


# -- calls of the gateway's own -------------------------------------------------------------------------------


def test_the_gateway_calls_and_publishes_as_any_peer() -> None:
    world = World()
    edge, service = world.edge(5), world.service(topics=("t",))
    local = LocalCaller(world.core.exchange, world.wall_now)
    told: list[Any] = []

    def done(*outcome: Any) -> None:
        told.append(outcome)

    local.call(edge.leg, "m", b"v", None, done)
    local.call(service.leg, "m", b"v", 5.0, done)
    world.advance()
    asked = service.request()
    assert local.pending == 2 and asked.data.custom == NOBODY
    edge.respond(edge.request(), b"yes")
    service.respond(asked, error="its own")
    give_up = local.call(edge.leg, "m", b"v", None, done)
    give_up()
    world.advance()
    edge.one(p.RequestCancel)
    local.publish(edge.leg, "t", b"v", done)
    world.advance()
    edge.respond(edge.message())
    local.publish_topic("t", b"v", done)
    world.advance()
    service.respond(service.message())
    local.publish_topic("nobody's", b"v", done)
    assert told == [
        (b"yes", "", True),
        (b"", "its own", True),
        (b"", "context canceled", False),
        (b"", "", True),
        (b"", "", True),
        (b"", "topic not online", False),
    ]
    local.call(edge.leg, "m" * 5000, b"v", None, done)
    assert told[-1] == (b"", "method name too long", False)
    world.core.exchange.forwarding.to_queues = lambda leg, frame, data, told=None: told("full") or True  # type: ignore
    local.publish_topic("t", b"v", done)
    assert told[-1] == (b"", "full", True)


def test_who_gives_up_a_message_of_the_gateways_own_is_told_once() -> None:
    world = World()
    edge = world.edge(5)
    local = LocalCaller(world.core.exchange, world.wall_now)
    told: list[Any] = []
    give_up = local.publish(edge.leg, "t", b"v", lambda *outcome: told.append(outcome))
    world.advance()
    message = edge.message()
    for _ in range(2):
        give_up()
    edge.respond(message)
    assert told == [(b"", "context canceled", False)] and local.pending == 0
