"""The spool: what was acknowledged is never lost and comes in order, whatever the broker, the file and time do."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from frontier_tx.config.queues import QueueBuffer
from frontier_tx.queues import spool, spool_writer
from frontier_tx.queues.forwarder import Forwarder
from frontier_tx.queues.record import OVERHEAD, Record
from frontier_tx.queues.routes import Queues
from frontier_tx.queues.spool import Spool
from frontier_tx.queues.spool_file import SpoolFile
from frontier_tx.queues.spool_writer import GO
from frontier_tx.queues.worker import Worker
from tests.queues.test_forwarder import Fake, log

__all__ = ["log"]


#: Where writing costs nothing.
MEMORY = Path("/dev/shm")


class Hand(Worker):
    """Does its work when the test says so, or at once."""

    def __init__(self, at_once: bool = True) -> None:
        self.at_once = at_once
        self.waiting: deque[Callable[[], None]] = deque()
        self.broken: Exception | None = None

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        told: Deferred[Any] = Deferred()

        def work() -> None:
            try:
                if self.broken is not None and function.__name__ != "close":
                    raise self.broken
                found = function(*args)
            except Exception as error:
                found = Failure(error)
            if not told.called:
                told.callback(found)

        self.waiting.append(work)
        if self.at_once:
            self.work()
        return told

    def work(self, most: int = 1_000_000) -> None:
        while self.waiting and most:
            most -= 1
            self.waiting.popleft()()

    def stop(self) -> None:
        pass


class World:
    """A forwarder with a spool, a broker and a worker that the test speaks for."""

    def __init__(self, folder: Path, *, at_once: bool = True, spool_bytes: int = 1_000_000, **bounds: Any) -> None:
        self.folder, self.spool_bytes, self.bounds = folder, spool_bytes, bounds
        self.told: list[tuple[bytes, str]] = []
        #: What the broker has, each once, in the order of its first coming.
        self.has: dict[bytes, None] = {}
        self.worker = Hand(at_once)
        self.begin()

    def begin(self) -> None:
        """A process starts."""
        self.clock = Clock()
        self.broker = Fake()
        self.forwarder = Forwarder(
            "redis", ["t"], self.broker, self.clock, QueueBuffer(**self.bounds), chance=lambda: 1.0
        )
        self.worker = Hand(self.worker.at_once)
        self.spool = Spool(self.forwarder, self.folder / "redis.sqlite", self.spool_bytes, self.clock, self.worker)
        self.forwarder.start()

    def kill(self) -> None:
        """kill -9: nothing is written any more; only the lock of the file goes."""
        self.worker.waiting.clear()
        self.spool._file.close()

    def connect(self) -> None:
        if not self.broker.attempts or self.broker.attempts[-1].called:
            self.clock.advance(10)
        self.broker.attempts[-1].callback(None)
        self.clock.advance(0)

    def lose(self) -> None:
        self.broker.lost[-1]("gone")
        self.broker.batches.clear()
        self.clock.advance(0)

    def publish(self, *values: bytes, edge_id: int = 7, topic: str = "t") -> None:
        for value in values:
            done = lambda error, value=value: self.told.append((value, error))  # noqa: E731
            self.forwarder.publish(Record(topic, value, edge_id, "10.0.0.1:5", 1.5, edge_id, done))
        self.clock.advance(0)

    def confirm(self, count: int = 1_000_000, has: bool = True) -> None:
        """The broker confirms what it was sent first, and so on."""
        while self.broker.batches and count:
            batch = self.broker.batches[0]
            record = batch.pop(0)
            if not batch:
                self.broker.batches.pop(0)
            self.has.setdefault(record.value)
            self.broker.confirmed(record)
            count -= 1
        self.clock.advance(0)

    def drain(self) -> None:
        while self.spool.messages or len(self.forwarder.outbox):
            before = self.spool.messages, len(self.forwarder.outbox)
            self.confirm()
            self.worker.work()
            self.clock.advance(0)
            assert (self.spool.messages, len(self.forwarder.outbox)) != before or self.broker.batches

    @property
    def acknowledged(self) -> list[bytes]:
        return [value for value, error in self.told if not error]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.spool._file.close()


def numbered(*numbers: int) -> list[bytes]:
    return [b"%d" % number for number in numbers]


def test_a_broker_that_is_there_has_everything_at_once(world: World) -> None:
    world.connect()
    world.publish(b"1", b"2")
    assert world.broker.sent == [b"1", b"2"] and not world.told
    world.confirm()
    assert world.told == [(b"1", ""), (b"2", "")]
    assert (world.spool.taken, world.spool.messages) == (0, 0)


def test_while_it_is_away_the_disk_acknowledges_and_later_all_comes_in_order(world: World) -> None:
    world.connect()
    world.publish(b"1", b"2", b"3")
    world.confirm(1)
    world.lose()
    assert world.told == [(b"1", ""), (b"2", ""), (b"3", "")]
    world.publish(b"4")
    assert world.told[-1] == (b"4", "") and world.spool.messages == 3
    world.clock.advance(3600)
    world.connect()
    world.publish(b"5")
    assert world.told[-1] == (b"5", ""), "what comes behind the spool goes into the spool"
    assert world.broker.sent[:3] == [b"2", b"3", b"4"]
    world.drain()
    world.publish(b"6")
    assert world.told[-1] == (b"5", ""), "what comes when it is empty goes to the broker"
    world.confirm()
    assert list(world.has) == numbered(1, 2, 3, 4, 5, 6) == world.acknowledged
    assert (world.spool.taken, world.spool.given, world.spool.bytes) == (4, 4, 0)


def test_what_is_acknowledged_is_on_the_disk_and_not_before(tmp_path: Path) -> None:
    world = World(tmp_path, at_once=False)
    world.worker.work()
    world.publish(b"1", b"2")
    assert not world.told
    world.worker.work()
    assert world.acknowledged == [b"1", b"2"]
    world.publish(b"3")
    world.kill()
    world.begin()
    world.worker.work()
    world.connect()
    world.worker.work()
    world.clock.advance(0)
    assert world.broker.sent == [b"1", b"2"]
    world.spool._file.close()


def test_a_start_with_something_in_it_says_so_and_gives_it_first(world: World, log: list[str]) -> None:
    world.publish(b"1", b"2", edge_id=(1 << 64) - 1, topic="t/\ud800")
    world.kill()
    log.clear()
    world.begin()
    assert "holds 2 messages" in log[0]
    assert Queues([world.forwarder]).notes() == (
        f"queue redis: not connected yet, 2 messages ({2 * OVERHEAD + 8} bytes) in its spool"
    )
    world.publish(b"3")
    world.connect()
    (first, *_) = world.broker.batches[0]
    assert (first.edge_id, first.topic, first.address, first.when) == ((1 << 64) - 1, "t/\ud800", "10.0.0.1:5", 1.5)
    assert len(first.key) == 36, "a broker can tell that it is the same again"
    world.drain()
    assert list(world.has) == [b"1", b"2", b"3"]


def test_it_is_bounded_and_one_edge_cannot_fill_it(tmp_path: Path) -> None:
    world = World(tmp_path, spool_bytes=20 * (OVERHEAD + 101))
    world.publish(*[b"x" * 100] * 15, edge_id=1)
    assert len(world.acknowledged) == 10
    assert {error for _, error in world.told if error} == {
        "queue redis: the broker is away (not connected yet) and the spool is full"
    }
    world.publish(*[b"y" * 100] * 5, edge_id=2)
    assert len(world.acknowledged) == 15
    assert world.forwarder.counters.failed["full"] == 5
    world.kill()
    world.begin()
    world.publish(b"x" * 100, edge_id=1)
    assert world.told[-1][1].endswith("the spool is full"), "shares are known after a start too"
    world.spool._file.close()


def test_what_the_broker_refuses_is_put_aside_and_bounded(tmp_path: Path, log: list[str]) -> None:
    world = World(tmp_path, spool_bytes=40 * (OVERHEAD + 2))
    world.publish(b"1", b"2", b"3")
    world.connect()
    batch = world.broker.batches[0]
    world.broker.failed(batch.pop(1), "too odd")
    world.drain()
    assert list(world.has) == [b"1", b"3"]
    assert (world.spool.refused, world.spool.messages) == (1, 0)
    for number in range(10):
        world.lose()
        world.publish(b"%d" % number)
        world.connect()
        world.broker.failed(world.broker.batches[0].pop(), "too odd")
    assert (world.spool.refused, world.spool.refused_bytes) == (4, 4 * (OVERHEAD + 2))
    assert any("were dropped from" in line for line in log)
    world.spool._file.close()
    database = sqlite3.connect(world.spool.path)
    assert database.execute("SELECT value, refused FROM messages").fetchall() == [
        (b"%d" % number, "queue redis: too odd") for number in range(6, 10)
    ]
    database.close()


@pytest.mark.parametrize("kind", ["garbage", "locked", "foreign", "later", "folder"])
def test_a_file_that_cannot_be_used_is_named_and_stops_nobody(kind: str, tmp_path: Path, log: list[str]) -> None:
    path = tmp_path / "redis.sqlite"
    other = None
    if kind == "garbage":
        path.write_bytes(b"no database at all" * 100)
    elif kind == "locked":
        other = SpoolFile(path)
        other.open()
    elif kind == "folder":
        path.mkdir()
    else:
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE others (x)")
        if kind == "later":
            database.execute(f"PRAGMA application_id = {0x46726F6E}")
            database.execute("PRAGMA user_version = 99")
        database.commit()
        database.close()
    before = path.read_bytes() if path.is_file() and kind != "locked" else None
    world = World(tmp_path)
    said = {"garbage": "file is not a database", "locked": "database is locked", "folder": "Is a directory",
            "foreign": "another program", "later": "later version"}[kind]  # fmt: skip
    (line,) = [line for line in log if "its spool" in line]
    assert str(path) in line and said in line and "messages go on without it" in line
    assert said in Queues([world.forwarder]).notes()
    world.publish(b"1")
    assert not world.told, "it waits in memory"
    world.connect()
    world.publish(b"2")
    # While the first is on its way the second waits for others to go with it.
    world.confirm()
    world.confirm()
    assert world.acknowledged == [b"1", b"2"] == list(world.has)
    assert before is None or path.read_bytes() == before, "a file of somebody else is not touched"
    if other is not None:
        other.close()
        world.lose()
        world.clock.advance(10)
        world.publish(b"3")
        assert world.acknowledged[-1] == b"3", "it is used once it can be"
    over: list[Any] = []
    world.forwarder.stop().addCallback(over.append)
    assert over == [None] and not world.clock.getDelayedCalls()


def test_a_full_disk_fails_messages_and_loses_none(world: World) -> None:
    world.publish(b"1")
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL  # type: ignore[misc]
    world.worker.broken = full
    world.publish(b"2")
    assert world.told[-1] == (b"2", "queue redis: the spool: database or disk is full")
    world.worker.broken = None
    world.publish(b"3")
    world.connect()
    world.drain()
    assert list(world.has) == [b"1", b"3"] == world.acknowledged


def test_a_disk_that_fails_in_between_loses_nothing(world: World) -> None:
    world.publish(*numbered(1, 2, 3))
    world.worker.broken = sqlite3.OperationalError("disk I/O error")
    world.connect()
    assert not world.broker.batches
    world.publish(b"4")
    world.confirm()
    assert world.acknowledged[-1] == b"4", "without the file it goes on"
    world.worker.broken = None
    world.clock.advance(1)
    world.drain()
    assert sorted(world.has) == numbered(1, 2, 3, 4)


def test_a_file_that_opens_and_fails_then_is_named_once(world: World, log: list[str]) -> None:
    world.publish(b"1")
    world.spool._file.read = lambda *args: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    world.connect()
    for _ in range(1200):
        world.clock.advance(0.1)
    complaints = [line for line in log if "its spool" in line and "cannot be used" in line]
    assert len(complaints) == 1 and "division by zero" in complaints[0]
    world.publish(b"2")
    world.confirm()
    assert world.acknowledged == [b"1", b"2"]


def test_what_is_taken_over_goes_in_slices_and_in_order(world: World) -> None:
    count = 3 * GO + 7
    world.spool.most_bytes = 10_000_000
    world.connect()
    world.publish(*numbered(*range(count)))
    world.broker.lost[-1]("gone")
    world.broker.batches.clear()
    assert 0 < len(world.spool._over) < count, "the rest is for later turns"
    world.publish(b"%d" % count)
    while world.spool._over:
        world.clock.advance(0)
    world.clock.advance(0)
    assert world.acknowledged == numbered(*range(count + 1))
    world.connect()
    world.drain()
    assert list(world.has) == numbered(*range(count + 1))


def test_what_is_being_taken_over_when_the_file_breaks_goes_on_in_memory(world: World) -> None:
    count = 2 * GO
    world.connect()
    world.publish(*numbered(*range(count)))
    world.worker.broken = sqlite3.OperationalError("disk I/O error")
    world.broker.lost[-1]("gone")
    world.broker.batches.clear()
    while world.spool._over:
        world.clock.advance(0)
    world.clock.advance(0)
    world.connect()
    world.confirm()
    world.clock.advance(0)
    world.confirm()
    assert list(world.has) == numbered(*range(count)) == world.acknowledged


def test_stopping_keeps_what_is_there(world: World) -> None:
    world.publish(*numbered(1, 2, 3))
    world.connect()
    world.confirm(1)
    over: list[Any] = []
    world.forwarder.stop().addCallback(over.append)
    world.confirm(1)
    world.clock.advance(20)
    assert over == [None] and not world.clock.getDelayedCalls()
    assert world.forwarder.counters.failed["stopping"] == 0
    world.begin()
    world.connect()
    world.drain()
    assert list(world.has) == numbered(1, 2, 3)


class Storm(RuleBasedStateMachine):
    """Everything that can happen, in any order, with a disk that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        # Small slices, so that they end everywhere.
        self.patched = pytest.MonkeyPatch()
        self.patched.setattr(spool, "GO", 2)
        self.patched.setattr(spool_writer, "GO", 2)
        self.folder = Path(tempfile.mkdtemp(prefix="spool-test-", dir=MEMORY if MEMORY.is_dir() else None))
        self.world = World(
            self.folder, at_once=False, seconds=1e9, confirm_seconds=1e9, window=3, window_bytes=4 * OVERHEAD,
        )  # fmt: skip
        self.made = 0
        self.starts = 1
        self.world.worker.work()

    @rule(count=st.integers(1, 5), edge_id=st.integers(1, 2))
    def publish(self, count: int, edge_id: int) -> None:
        for _ in range(count):
            self.made += 1
            self.world.publish(b"%d" % self.made, edge_id=edge_id)

    @rule(jobs=st.integers(1, 3))
    def work(self, jobs: int) -> None:
        self.world.worker.work(jobs)
        self.world.clock.advance(0)

    @precondition(lambda self: not self.world.forwarder.connected)
    @rule()
    def connect(self) -> None:
        if self.world.broker.attempts or self.world.spool.open:
            self.world.worker.work()
            self.world.connect()

    @precondition(lambda self: self.world.forwarder.connected)
    @rule()
    def lose(self) -> None:
        self.world.lose()

    @rule(count=st.integers(1, 4))
    def confirm(self, count: int) -> None:
        self.world.confirm(count)

    @precondition(lambda self: self.world.broker.batches)
    @rule()
    def take_without_a_word(self) -> None:
        """The broker has it, and the confirmation is lost with the connection."""
        self.world.has.setdefault(self.world.broker.batches[0][0].value)
        self.world.lose()

    @precondition(lambda self: self.made > 10 * self.starts)
    @rule()
    def kill(self) -> None:
        self.starts += 1
        self.world.kill()
        self.world.begin()
        self.world.worker.work()

    @precondition(lambda self: self.made > 10 * self.starts)
    @rule()
    def restart(self) -> None:
        self.starts += 1
        over: list[Any] = []
        self.world.forwarder.stop().addCallback(over.append)
        self.world.worker.work()
        if not over:
            # The broker had not confirmed everything, and the process is killed before it has.
            self.world.kill()
        self.world.begin()
        self.world.worker.work()

    @invariant()
    def in_order(self) -> None:
        has = [int(value) for value in self.world.has]
        assert has == sorted(has)
        assert all(not error for _, error in self.world.told if "stopping" not in error)

    def teardown(self) -> None:
        world = self.world
        world.worker.work()
        if not world.forwarder.connected:
            world.connect()
        world.worker.at_once = True
        world.worker.work()
        world.clock.advance(0)
        world.drain()
        self.in_order()
        assert set(world.acknowledged) <= set(world.has), "nothing acknowledged is lost"
        assert (world.spool.bytes, world.spool._of_edge, world.spool._on_disk) == (0, {}, 0)
        world.spool._file.close()
        shutil.rmtree(self.folder)
        self.patched.undo()


TestStorm = Storm.TestCase
TestStorm.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def test_the_thread_does_one_thing_after_the_other_and_ends() -> None:
    class Reactor:
        def callFromThread(self, function: Callable[..., object], *args: object) -> None:
            function(*args)

    worker = Worker(Reactor(), "w")
    done: list[Any] = []
    numbers = list(range(100))
    random.shuffle(numbers)
    for number in numbers:
        worker.run(lambda number: number, number).addCallback(done.append)
    worker.run(lambda: 1 / 0).addErrback(lambda failure: done.append(failure.type))
    thread = worker._thread
    worker.stop()
    assert thread is not None
    thread.join(5)
    assert done == [*numbers, ZeroDivisionError] and not thread.is_alive()
