"""What a Frontier tells Frontlas, and when: repetitions, pauses, partings, trouble; a Frontlas of the other kind."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import LoopingCall

from frontier_tx.atlas import messages as m
from frontier_tx.atlas import reporter as r
from frontier_tx.switch.legs import NO_TRANSPORT, Kind, Leg
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.states import Role
from frontlas_tx.registry.records import Report, ReportKind
from tests.atlas.test_link import META, Transport, World, raw, result, talk
from tests.atlas.test_link import world as world
from tests.logs import logged


def lasting(world: World, *numbers: int) -> None:
    """Edges that stay."""
    for n in numbers:
        protocol, _ = world.edge(n)
        beat = LoopingCall(protocol.dataReceived, bytes.fromhex("0121000000000000000900000000"))
        beat.clock = world.clock
        beat.start(15, now=False)


def without_extensions(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Make Frontlas a Go one; what it is told gathers in the list."""
    monkeypatch.setattr("frontier_tx.atlas.protocols.EXTENSIONS", ())
    told: list[tuple[str, int]] = []
    called = world.plane.called

    def see(link: Any, method: str, value: bytes) -> Any:
        told.append((method, 0 if method == m.FRONTIER_STATS else m.PeerEvent.decode(method, value).peer_id))
        return called(link, method, value)

    monkeypatch.setattr(world.plane, "called", see)
    return told


def test_a_complete_report_takes_no_edge_from_who_has_seen_it_since(world: World) -> None:
    lasting(world, 5)
    world.reporter()
    world.run(30)
    other = result(world.registry.claim("other", "10.0.0.9:1", "10.0.0.9:2"))
    result(world.registry.report(other, [Report(ReportKind.EDGE_ONLINE, 5, "h:1")]))
    assert world.holder(5) == "other"
    # The edge is at the other Frontier now; this one has yet to notice, and its link comes anew.
    world.endpoint.pipes[-1].cut()
    world.run(10)
    assert world.plane.links == 1
    assert world.holder(5) == "other"
    # An edge that really comes back is taken.
    world.edge(5)
    world.run(1)
    assert world.holder(5) == "frontier01"


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_a_frontlas_that_is_back_hears_of_everything_within_a_heartbeat_interval(world: World, jitter: float) -> None:
    lasting(world, 1)
    reporter = world.reporter()
    reporter._retry._chance = lambda: jitter
    for outage in (5, 45, 300):
        world.endpoint.away = True
        world.endpoint.pipes[-1].cut()
        world.run(outage)
        assert world.holder(1) == ""
        world.endpoint.away = False
        world.run(19)
        assert world.holder(1) == "frontier01"


def test_trouble_is_named_once(world: World) -> None:
    reporter = world.reporter()
    reporter._addresses = ["10.0.0.1:40012"]
    world.run(15)
    with logged() as lines:
        world.endpoint.away = True
        world.endpoint.pipes[-1].cut()
        world.run(300)
    assert len(lines) == 2
    assert "the peer closed the connection" in lines[0]
    assert "10.0.0.1:40012 cannot be reached (connection refused): start it or correct frontlas.dial.addrs" in lines[1]
    with logged() as lines:
        world.endpoint.away = False
        world.run(40)
        world.endpoint.away = True
        world.endpoint.pipes[-1].cut()
        world.run(40)
    # After a good time it is news again.
    assert len(lines) == 2


def test_a_link_that_breaks_again_and_again_is_neither_news_nor_tried_without_pause(world: World) -> None:
    world.reporter()
    with logged() as lines:
        for _ in range(100):
            world.endpoint.pipes[-1].cut()
            world.run(3)
    assert len(lines) == 1
    assert len(world.endpoint.pipes) < 40


def test_what_is_not_taken_is_told_again_and_named_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lasting(world, 1)
    away = True
    report = world.registry.report

    def moody(claim: Any, reports: Any) -> Any:
        failed: Deferred[Any] = Deferred()
        failed.errback(RuntimeError("redis is away"))
        return failed if away else report(claim, reports)

    monkeypatch.setattr(world.registry, "report", moody)
    with logged() as lines:
        reporter = world.reporter()
        world.run(120)
    assert world.holder(1) == ""
    assert [line.split(";")[0] for line in lines] == ["Frontlas does not take reports (redis is away)"]
    assert reporter.failed > 5
    away = False
    world.run(19)
    assert world.holder(1) == "frontier01"


def test_numbers_are_told_where_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    values: list[bytes] = []
    called = world.plane.called
    monkeypatch.setattr(
        world.plane, "called", lambda link, method, value: (values.append(value), called(link, method, value))[1]
    )
    lasting(world, 1, 2, 3)
    made = world.reporter()
    assert not any(b"edge_count" in value for value in values)
    made.stop()
    world.run(1)
    made = r.Reporter(
        world.core.repository, [world.endpoint], META, world.clock, world.alarms, world.outlet,  # type: ignore[list-item]
        lambda: 0.5, stats_every=30,
    )  # fmt: skip
    made.start()
    world.run(65)
    stats = [value for value in values if b"edge_count" in value]
    assert stats == [b'{"frontier_id":"frontier01","edge_count":3,"service_count":0}'] * 3


def test_whoever_leaves_tells_what_still_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = without_extensions(world, monkeypatch)
    peers = [world.edge(n) for n in range(1, 301)]
    reporter = world.reporter()
    world.run(2)
    told.clear()
    for _, transport in peers:
        transport.loseConnection()
    done: list[Any] = []
    reporter.stop().addCallback(done.append)
    world.run(1)
    assert done == [None]
    assert sorted(told) == [("edge_offline", n) for n in range(1, 301)]
    assert world.plane.links == 0


def test_leaving_is_bounded(world: World) -> None:
    _, transport = world.edge(1)
    reporter = world.reporter()
    world.endpoint.pipes[-1].transports[1].disappear = True  # type: ignore[attr-defined]
    reporter._under_way += 1
    transport.loseConnection()
    done: list[Any] = []
    reporter.stop().addCallback(done.append)
    world.run(r.PARTING_SECONDS - 1)
    assert done == []
    world.run(2)
    assert done == [None]


def test_leaving_before_the_link_came_about(world: World) -> None:
    class Slow:
        def connect(self, factory: Any) -> "Deferred[Any]":
            return Deferred()

    made = r.Reporter(world.core.repository, [Slow()], META, world.clock, world.alarms, world.outlet)  # type: ignore[list-item]
    made.start()
    done: list[Any] = []
    made.stop().addCallback(done.append)
    assert done == [None]


def test_a_frontlas_without_extensions_hears_of_who_left_in_a_gap(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = without_extensions(world, monkeypatch)
    world.edge(1)
    _, second = world.edge(2)
    _, third = world.edge(3)
    world.reporter()
    world.run(2)
    world.endpoint.away = True
    world.endpoint.pipes[-1].cut()
    for transport in (second, third):
        transport.loseConnection()
    world.edge(3)
    world.run(5)
    told.clear()
    world.endpoint.away = False
    world.run(20)
    assert sorted(told) == [("edge_offline", 2), ("edge_online", 1), ("edge_online", 3)]


def test_a_taken_id_ends_those_who_want_it_so(world: World) -> None:
    world.reporter()
    taken: list[bool] = []
    other = r.Reporter(
        world.core.repository, [world.endpoint], m.FrontierMeta("frontier01", "10.0.0.2:1", "10.0.0.2:2"),  # type: ignore[list-item]
        world.clock, world.alarms, world.outlet, lambda: 0.5, id_taken=lambda: taken.append(True),
    )  # fmt: skip
    other.start()
    world.run(0.5)
    assert taken == [True]
    assert other.trouble == r.ID_TAKEN


def test_more_than_can_wait_is_told_as_a_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontier_tx.atlas.telling.WAITING_AT_MOST", 10)
    reporter = world.reporter()
    reporter._loop.stop()
    for n in range(1, 41):
        world.edge(n)
        assert reporter.waiting <= 10
    world.run(3)
    assert [world.holder(n) for n in (1, 20, 40)] == ["frontier01"] * 3


def test_news_after_a_quiet_moment_are_told_at_once_and_what_follows_in_one_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.reporter()
    sizes: list[int] = []
    called = world.plane.called

    def see(link: Any, method: str, value: bytes) -> Any:
        sizes.append(len(m.decode_events(value)[0]))
        return called(link, method, value)

    monkeypatch.setattr(world.plane, "called", see)
    world.edge(1)
    world.clock.advance(0)
    world.endpoint.pipes[-1].pump()
    assert world.holder(1) == "frontier01"
    for n in range(2, 50):
        world.edge(n)
    world.clock.advance(0)
    world.endpoint.pipes[-1].pump()
    assert sizes == [1]
    world.run(1)
    assert sizes == [1, 48]


def test_batches_stay_below_a_frame(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    called = world.plane.called
    monkeypatch.setattr(
        world.plane, "called", lambda link, method, value: (sizes.append(len(value)), called(link, method, value))[1]
    )
    text = b'{"service":"s","topics":["' + b"t" * 100_000 + b'"]}'
    for n in range(1, 101):
        leg = Leg(Kind.SERVICE, Connection(Role.CLIENT, 0.0), NO_TRANSPORT, "h:1", 0.0)
        leg.id, leg.meta, leg.online = n, text, True
        world.core.repository.services[n] = leg
    world.reporter()
    world.run(10)
    assert max(sizes) < 1_000_000
    assert result(world.registry.counts()).services == 100


def test_one_unreadable_event_spoils_no_other(world: World) -> None:
    from frontier_tx.wire import frame as f
    from frontier_tx.wire.body import decode_message, message_json

    end = raw(world, META.encode())
    talk(end)
    value = b'[["edge_online",{"edge_id":1}],["edge_online",{"edge_id":"2"}],["nope",{}],["edge_online",{"EDGE_ID":3}]]'
    end.write(f.pack_of_session(f.REQUEST, 5, 1, message_json(key=b"x_events", value=value)))
    [answer] = [x for x in talk(end) if isinstance(x, f.Frame) and x.type == f.RESPONSE]
    assert decode_message(answer.body)[0].error.startswith("json: cannot unmarshal string")
    assert [world.holder(n) for n in (1, 2, 3)] == ["frontier01", "", "frontier01"]


def test_events_in_another_name_count_for_the_connection_and_are_named_once(world: World) -> None:
    from frontier_tx.wire import frame as f
    from frontier_tx.wire.body import message_json

    end = raw(world, META.encode())
    talk(end)
    with logged() as lines:
        for n in (1, 2):
            value = m.PeerEvent(m.EDGE_ONLINE, n, "somebody").encode()
            end.write(f.pack_of_session(f.REQUEST, n, 1, message_json(key=b"edge_online", value=value)))
            talk(end)
    assert lines == ["Frontier frontier01 reports in the name of somebody; its own name is taken"]
    assert [world.holder(n) for n in (1, 2)] == ["frontier01"] * 2


def test_a_single_event_is_answered_soon_whatever_the_store_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from frontier_tx.wire import frame as f
    from frontier_tx.wire.body import decode_message, message_json

    waiting: Deferred[Any] = Deferred()
    monkeypatch.setattr(world.registry, "report", lambda claim, reports: waiting)
    end = raw(world, META.encode())
    talk(end)
    value = m.PeerEvent(m.EDGE_ONLINE, 1).encode()
    end.write(f.pack_of_session(f.REQUEST, 5, 1, message_json(key=b"edge_online", value=value)))
    assert talk(end) == []
    world.clock.advance(0.95)
    [answer] = [x for x in talk(end) if isinstance(x, f.Frame)]
    assert "i/o timeout" in decode_message(answer.body)[0].error


def test_what_is_wrong_with_an_endpoint_is_said_in_a_few_words() -> None:
    from twisted.python.failure import Failure

    error = Refused(osError=111)  # type: ignore[no-untyped-call]
    assert r._cause(Failure(error)) == "connection refused"  # type: ignore[no-untyped-call]
    assert r._cause(Failure(ValueError("no such host."))) == "no such host"  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", ""),
        (b"\x01\x01" + bytes(8) + b"\xff\xff\xff\xff", ""),
        (b"", "timeout"),
        (b"\x01\x01\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x0c\x18" + bytes(9) + b"{}", "illegal meta"),
    ],
)
def test_whoever_does_not_introduce_itself_is_one_line(world: World, data: bytes, says: str) -> None:
    protocol = world.factory.buildProtocol(None)
    transport = Transport()
    transport.protocol = protocol
    assert protocol is not None
    with logged() as lines:
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
        world.run(30)
    assert not transport.connected
    [line] = lines
    assert line.startswith("frontier plane: the connection from 192.168.1.1:54321 is closed: ")
    assert says in line


def test_a_frontier_that_does_not_take_its_answers_is_not_read_from(world: World) -> None:
    from frontier_tx.wire import frame as f
    from frontier_tx.wire.body import message_json

    end = raw(world, META.encode())
    talk(end)
    protocol: Any = end.context[0]  # type: ignore[index]
    transport: Any = end.context[1]  # type: ignore[index]
    protocol.pauseProducing()
    calls = b"".join(f.pack_of_session(f.REQUEST, n, 1, message_json(key=b"nope" * 50)) for n in range(1, 301))
    for _ in range(20):
        if transport.producerState == "producing":
            protocol.dataReceived(calls)
    assert transport.producerState == "paused"
    assert protocol.unsent < 1_500_000
    protocol.resumeProducing()
    # What was received before is worked on in slices, which are short where the processor is busy with others.
    for _ in range(6_000):
        world.clock.advance(0.001)
        if not protocol.unsent and transport.producerState == "producing":
            break
    assert transport.producerState == "producing"
    assert protocol.unsent == 0
