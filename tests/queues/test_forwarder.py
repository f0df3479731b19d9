"""A forwarder around a broker that does what the test says: buffers, retries, gives up in time, and says so once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from zope.interface import Invalid, implementer

from frontier_tx.config.queues import QueueBuffer
from frontier_tx.queues.forwarder import ENOUGH, LINGER, TELL_SECONDS, Forwarder
from frontier_tx.queues.interfaces import IBroker
from frontier_tx.queues.outbox import TURN
from frontier_tx.queues.record import Record


@implementer(IBroker)
class Fake:
    """A broker that the test speaks for."""

    where = "broker:1"

    def __init__(self) -> None:
        self.attempts: list[Deferred[None]] = []
        self.lost: list[Callable[[str], None]] = []
        self.batches: list[list[Record]] = []
        self.confirmed: Callable[[Record], None]
        self.failed: Callable[[Record, str], None]
        self.closed = 0

    def connect(self, lost: Callable[[str], None]) -> Deferred[None]:
        self.lost.append(lost)
        self.attempts.append(Deferred())
        return self.attempts[-1]

    def send(
        self, records: Sequence[Record], confirmed: Callable[[Record], None], failed: Callable[[Record, str], None]
    ) -> None:
        self.batches.append(list(records))
        self.confirmed, self.failed = confirmed, failed

    def disconnect(self) -> None:
        self.closed += 1

    @property
    def sent(self) -> list[bytes]:
        return [record.value for batch in self.batches for record in batch]


class World:
    def __init__(self, topics: Sequence[str] = ("t",), reserved: tuple[str, ...] = (), **bounds: Any) -> None:
        self.clock = Clock()
        self.broker = Fake()
        self.forwarder = Forwarder(
            "redis", topics, self.broker, self.clock, QueueBuffer(**bounds), chance=lambda: 1.0, reserved=reserved
        )
        self.told: list[tuple[bytes, str]] = []
        self.forwarder.start()

    def connect(self) -> None:
        self.broker.attempts[-1].callback(None)

    def publish(self, *values: bytes, sender: int = 1) -> None:
        for value in values:
            done = lambda error, value=value: self.told.append((value, error))  # noqa: E731
            self.forwarder.publish(Record("t", value, 7, "", 0.0, sender, done))
        self.clock.advance(0)


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What forwarders log."""
    lines: list[str] = []

    def see(event: dict[str, Any]) -> None:
        if event["log_namespace"] == "frontier.queues":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(see)  # type: ignore[arg-type]
    yield lines
    globalLogPublisher.removeObserver(see)  # type: ignore[arg-type]


def test_a_message_is_acknowledged_when_the_broker_has_it_and_not_before() -> None:
    world = World()
    world.connect()
    world.publish(b"a", b"b")
    assert world.broker.sent == [b"a", b"b"] and not world.told
    second = world.broker.batches[0][1]
    world.broker.confirmed(second)
    world.broker.confirmed(second)
    assert world.told == [(b"b", "")]
    world.broker.failed(world.broker.batches[0][0], "too large")
    assert world.told[1:] == [(b"a", "queue redis: too large")]
    assert world.forwarder.counters.failed["refused"] == 1
    assert not len(world.forwarder.outbox)


def test_while_a_batch_is_on_its_way_the_next_one_gathers() -> None:
    world = World()
    world.connect()
    world.publish(b"first")
    assert len(world.broker.batches) == 1, "nothing is on its way, so it goes at once"
    world.publish(b"a")
    world.publish(b"b")
    assert world.broker.sent == [b"first"]
    world.clock.advance(LINGER)
    assert [len(batch) for batch in world.broker.batches] == [1, 2]
    for number in range(ENOUGH):
        world.publish(b"%d" % number)
    assert [len(batch) for batch in world.broker.batches] == [1, 2, ENOUGH], "many do not wait"
    world.publish(b"last")
    for record in [record for batch in world.broker.batches for record in batch]:
        world.broker.confirmed(record)
    world.clock.advance(0)
    assert world.broker.sent[-1] == b"last", "when all is confirmed nothing is waited for"


def test_what_was_not_confirmed_is_sent_again_in_order_before_what_waits() -> None:
    world = World()
    world.connect()
    world.publish(b"a", b"b", b"c")
    world.broker.confirmed(world.broker.batches[0][1])
    old_confirmed, old = world.broker.confirmed, world.broker.batches[0][0]
    world.broker.lost[0]("connection reset")
    world.publish(b"d")
    world.clock.advance(0.3)
    world.connect()
    world.clock.advance(0)
    assert world.broker.sent == [b"a", b"b", b"c", b"a", b"c", b"d"]
    old_confirmed(old)
    assert world.told == [(b"b", "")], "what an old connection still says is of no account"
    for record in world.broker.batches[-1]:
        world.broker.confirmed(record)
    assert [value for value, error in world.told] == [b"b", b"a", b"c", b"d"]
    assert world.forwarder.counters.reconnects == 1


def test_a_broker_that_is_away_is_named_once_and_tried_with_growing_waits(log: list[str]) -> None:
    world = World()
    waits = []
    for _ in range(8):
        world.broker.attempts[-1].errback(ConnectionRefusedError("nobody listens"))
        before, count = world.clock.seconds(), len(world.broker.attempts)
        while len(world.broker.attempts) == count:
            world.clock.advance(0.05)
        waits.append(world.clock.seconds() - before)
    assert waits == pytest.approx([0.25, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0], abs=0.06)
    assert len(log) == 1 and "queue redis: broker:1 cannot be used: nobody listens" in log[0]
    world.connect()
    assert log[1:] == ["queue redis: connected to broker:1 again"]


def test_messages_wait_for_a_broker_that_is_away_and_then_fail_with_its_name() -> None:
    world = World(seconds=5)
    world.broker.attempts[-1].errback(ConnectionRefusedError("nobody listens"))
    world.publish(b"a")
    world.clock.advance(4)
    assert not world.told
    world.clock.advance(1.2)
    assert world.told == [(b"a", "queue redis: the broker is away: nobody listens")]
    assert world.forwarder.counters.failed["timeout"] == 1


def test_names_of_the_brokers_own_are_for_those_who_list_them(log: list[str]) -> None:
    world = World(reserved=("$", "_INBOX."), topics=("*", "$listed"))
    world.connect()
    for topic in ("$SYS.x", "_INBOX.a.1", "$", "$listed", "a.$", "_INBOXES"):
        done = lambda error, topic=topic: world.told.append((topic.encode(), error))  # noqa: E731
        world.forwarder.publish(Record(topic, b"", 7, "", 0.0, 1, done))
    world.clock.advance(0)
    said = "queue redis: the topic '{}' is the broker's own, and mqm does not list it"
    assert world.told == [(each.encode(), said.format(each)) for each in ("$SYS.x", "_INBOX.a.1", "$")]
    assert [record.topic for record in world.broker.batches[0]] == ["$listed", "a.$", "_INBOXES"]
    assert world.forwarder.counters.failed["refused"] == 3


def test_a_text_that_an_edge_reads_is_bounded() -> None:
    world = World()
    world.connect()
    world.publish(b"a")
    world.broker.failed(world.broker.batches[0][0], "x" * 1_000_000)
    assert len(world.told[0][1]) < 600


def test_the_buffer_is_bounded_and_nothing_is_dropped_without_a_word() -> None:
    world = World(bytes=3000)
    world.publish(*[b"x" * 500] * 5)
    assert [error for _, error in world.told] == [
        "queue redis: the broker is away (not connected yet) and the buffer is full"
    ] * 4
    world.publish(b"y", sender=2)
    assert len(world.told) == 4, "another sender still has room"


def test_an_attempt_that_hangs_is_given_up() -> None:
    world = World()
    world.clock.advance(10)
    assert world.forwarder.trouble == "no connection within 10 s"
    world.clock.advance(0.25)
    assert len(world.broker.attempts) == 2


def test_a_broker_that_confirms_nothing_has_lost_its_connection() -> None:
    world = World(confirm_seconds=3, seconds=20)
    world.connect()
    world.publish(b"a")
    world.clock.advance(3.1)
    assert world.broker.closed == 1
    assert world.forwarder.trouble == "it confirmed nothing for 3 s"
    world.clock.advance(0.3)
    world.connect()
    world.clock.advance(0)
    assert world.broker.sent == [b"a", b"a"]


def test_a_send_that_raises_ends_the_connection_and_loses_nothing() -> None:
    world = World()
    world.connect()
    world.broker.send = lambda *args: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    world.publish(b"a")
    del world.broker.send  # type: ignore[method-assign]
    world.clock.advance(0.3)
    world.connect()
    world.clock.advance(0)
    assert world.broker.sent == [b"a"]


def test_a_broker_that_takes_connections_and_ends_them_is_named_once_and_tried_less_often(log: list[str]) -> None:
    world = World()
    for wait in (0.25, 0.5, 1.0, 2.0):
        count = len(world.broker.attempts)
        world.connect()
        world.broker.lost[-1]("E_UNAUTHORIZED")
        world.clock.advance(wait - 0.01)
        assert len(world.broker.attempts) == count
        world.clock.advance(0.01)
        assert len(world.broker.attempts) == count + 1
    assert [line.split(";")[0] for line in log] == [
        "queue redis: connected to broker:1",
        "queue redis: broker:1 cannot be used: E_UNAUTHORIZED",
        "queue redis: connected to broker:1 again",
    ]
    world.connect()
    world.clock.advance(5)
    world.broker.lost[-1]("E_UNAUTHORIZED")
    assert len(log) == 4, "it worked for a while, so this is news"


def turn(clock: Clock) -> None:
    """One turn of a reactor: what is asked for meanwhile comes in the next one."""
    for call in [call for call in clock.calls if call.getTime() <= clock.seconds()]:
        if call.active():
            clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


def test_no_turn_is_long_whatever_is_confirmed_or_sent_at_once() -> None:
    world = World()
    world.connect()
    values = [b"%d" % number for number in range(2 * TURN + 10)]
    for value in values:

        def done(error: str, value: bytes = value) -> None:
            # To tell an edge takes a millisecond here.
            world.clock.rightNow += 0.001
            world.told.append((value, error))

        world.forwarder.publish(Record("t", value, 7, "", 0.0, 1, done))
    for turns in (1, 2, 3):
        turn(world.clock)
        assert len(world.broker.batches) == turns
    assert [len(batch) for batch in world.broker.batches] == [TURN, TURN, 10]
    for record in [record for batch in world.broker.batches for record in batch]:
        world.broker.confirmed(record)
    most = round(TELL_SECONDS * 1000) + 1
    assert 0 < len(world.told) <= most and world.forwarder.counters.confirmed == len(values)
    world.forwarder.publish(Record("t", b"next", 7, "", 0.0, 1, None))
    turns = 0
    while len(world.told) < len(values):
        before = len(world.told)
        turn(world.clock)
        assert len(world.told) - before <= most
        assert world.broker.sent[-1] != b"next", "what edges do not know yet is bounded, as nothing more is sent"
        turns += 1
    assert turns > 50 and [value for value, _ in world.told] == values
    turn(world.clock)
    assert world.broker.sent[-1] == b"next"


def test_stopping_tells_everybody_first() -> None:
    world = World()
    world.connect()

    def done(error: str) -> None:
        world.clock.rightNow += 0.003
        world.told.append((b"", error))

    for _ in range(10):
        world.forwarder.publish(Record("t", b"", 7, "", 0.0, 1, done))
    stopped = world.forwarder.stop()
    world.broker.lost[-1]("gone")
    assert len(world.told) < 10 and not stopped.called
    world.clock.pump([0] * 10)
    assert len(world.told) == 10 and stopped.called


def test_stopping_waits_for_confirmations_and_takes_nothing_new() -> None:
    world = World(confirm_seconds=3)
    world.connect()
    world.publish(b"a", b"b")
    over: list[Any] = []
    world.forwarder.stop().addCallback(over.append)
    world.publish(b"late")
    assert world.told == [(b"late", "queue redis: the gateway is stopping")]
    world.broker.confirmed(world.broker.batches[0][0])
    world.clock.advance(0)
    assert not over
    world.clock.advance(3)
    assert over == [None]
    assert world.told[1:] == [(b"a", ""), (b"b", "queue redis: the gateway is stopping")]
    assert not world.clock.getDelayedCalls()
    world.forwarder.stop().addCallback(over.append)
    assert over == [None, None]


def test_stopping_while_the_broker_is_away_ends_at_once() -> None:
    world = World()
    world.publish(b"a")
    over: list[Any] = []
    world.forwarder.stop().addCallback(over.append)
    assert over == [None] and world.told == [(b"a", "queue redis: the gateway is stopping")]
    assert not world.clock.getDelayedCalls()


def test_a_broker_must_be_one() -> None:
    with pytest.raises(Invalid):
        Forwarder("x", [], object(), Clock())
