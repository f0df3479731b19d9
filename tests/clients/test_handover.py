"""Waits that are given up take nothing away, in any order of events: nothing lost, nothing doubled, order kept."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from frontier_tx import aio
from frontier_tx.aio.futures import outcome, taken
from frontier_tx.aio.stream import Stream as AioStream
from frontier_tx.clients.cluster.routes import LearningIntake
from frontier_tx.clients.core.intake import Budget, Inbox
from frontier_tx.clients.core.reading import Reading
from frontier_tx.clients.deferring import deferred
from frontier_tx.errors import EndClosed
from frontier_tx.testing import MemoryGateway
from frontier_tx.testing.aio import MemoryGateway as AioGateway
from tests.aio.test_client import in_thread
from tests.clients.conftest import World

#: What happens in a turn of the loop: items come, takers come, give up or run out of time.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 3)),
        st.tuples(st.just("take"), st.sampled_from(["task", "wait_for", "timeout", "shield"])),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("late"), st.integers(0, 5)),
        st.tuples(st.just("turn"), st.integers(1, 4)),
    ),
    max_size=40,
)


class Takers:
    """Tasks that each want one item, and what they got."""

    def __init__(self, take: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.take = take
        self.got: list[Any] = []
        self.tasks: deque[asyncio.Task[None]] = deque()

    def start(self, how: str) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(self._one(how)))

    async def _one(self, how: str) -> None:
        if how == "wait_for":
            item = await asyncio.wait_for(self.take(), 0.0005)
        elif how == "timeout":
            async with asyncio.timeout(0.0005):
                item = await self.take()
        else:
            item = await self.take()
        self.got.append(item)

    def at(self, number: int) -> asyncio.Task[None] | None:
        return self.tasks[number % len(self.tasks)] if self.tasks else None

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        for end in await asyncio.gather(*self.tasks, return_exceptions=True):
            assert end is None or isinstance(end, TimeoutError | asyncio.CancelledError), end


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_items_of_a_queue_survive_any_cancellation(steps: list[tuple[str, Any]]) -> None:
    async def main() -> None:
        budget = Budget(10**6)
        inbox: Inbox[Any] = Inbox(5, budget=budget)
        left: list[Any] = []

        async def take() -> Any:
            left.append(await taken(inbox))
            return left[-1]

        takers = Takers(take)
        sent: list[Any] = []
        inbox.used = True
        for what, value in steps:
            if what == "put":
                for _ in range(value):
                    item = SimpleNamespace(number=len(sent), size=3)
                    sent.append(item)
                    assert inbox.put(item)
            elif what == "take":
                takers.start(value)
            elif what == "turn":
                for _ in range(value):
                    await asyncio.sleep(0)
            elif what == "late":
                # In the very turn in which its item came, or its time ran out.
                await asyncio.sleep(0.0006)
                if (task := takers.at(value)) is not None:
                    task.cancel()
            elif (task := takers.at(value)) is not None:
                task.cancel()
        await asyncio.sleep(0)
        await takers.end()
        rest = [inbox.pop() for _ in range(len(inbox.items))]
        assert left + rest == sent, "in order, and each once"
        # Who took an item got it; a wait_for of Python 3.11 has its result some turns later.
        assert sorted(item.number for item in takers.got) == [item.number for item in left]
        assert budget.held == 0 and not inbox._waiters and not inbox.full
        # A waiter that was cancelled must not have swallowed the news of an item.
        late = asyncio.create_task(taken(inbox))
        await asyncio.sleep(0)
        inbox.put(SimpleNamespace(size=3))
        await asyncio.wait_for(late, 5)

    asyncio.run(main())


READS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 9000)),
        st.tuples(st.just("read"), st.integers(-1, 7000)),
        st.tuples(st.just("exactly"), st.integers(0, 12_000)),
        st.tuples(st.just("cancel"), st.just(0)),
        st.tuples(st.just("late"), st.just(0)),
        st.tuples(st.just("turn"), st.integers(1, 3)),
    ),
    max_size=40,
)


@given(READS)
@settings(max_examples=200, deadline=None)
def test_bytes_of_a_stream_survive_any_cancellation(steps: list[tuple[str, Any]]) -> None:
    async def main() -> None:
        freed: list[int] = []
        reading = Reading(freed.append)
        home = SimpleNamespace(check=lambda: None)
        stream = AioStream(SimpleNamespace(reading=reading, connection=SimpleNamespace(home=home)))  # type: ignore[arg-type]
        sent = got = b""
        running: asyncio.Task[bytes] | None = None

        async def one(what: str, size: int) -> bytes:
            work = stream.read(size) if what == "read" else stream.readexactly(size)
            return await (asyncio.wait_for(work, 0.0005) if size % 2 else work)

        def collect() -> None:
            nonlocal got, running
            if running is not None and running.done():
                if not running.cancelled() and not isinstance(running.exception(), TimeoutError):
                    got += running.result()
                running = None

        for what, value in steps:
            collect()
            if what == "put":
                data = bytes((len(sent) + n) % 251 for n in range(value))
                sent += data
                reading.put(data)
            elif what in ("read", "exactly") and running is None:
                running = asyncio.create_task(one(what, value))
            elif what == "cancel" and running is not None:
                running.cancel()
            elif what == "late":
                await asyncio.sleep(0.0006)
            elif what == "turn":
                for _ in range(value):
                    await asyncio.sleep(0)
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        collect()
        while reading.size:
            got += await stream.read(997)
        assert got == sent
        assert sum(freed) == len(sent), "credit for each byte once, put back or not"
        reading.end()
        assert await stream.read() == b""

    asyncio.run(main())


@pytest.mark.asyncio
async def test_a_result_that_came_after_the_task_was_cancelled_is_not_dropped() -> None:
    told: list[Any] = []
    unclaimed: list[str] = []
    for cancel_first in (True, False):
        task = asyncio.create_task(outcome(lambda done: told.append(done), unclaimed.append))
        await asyncio.sleep(0)
        if cancel_first:
            task.cancel()
        told.pop()("stream", None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert unclaimed == ["stream", "stream"]


@pytest.mark.asyncio
async def test_a_generator_that_is_closed_and_a_task_group_that_fails_take_nothing() -> None:
    inbox: Inbox[str] = Inbox(10)
    waiting = taken(inbox)
    waiting.send(None)
    inbox.put("first")
    waiting.close()
    inbox.pop()

    async def fail_together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(taken(inbox))
            await asyncio.sleep(0)
            inbox.put("second")
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await fail_together()
    assert list(inbox.items) == ["second"]
    inbox.close()
    assert await taken(inbox) == "second"
    with pytest.raises(EndClosed):
        await taken(inbox)


@pytest.mark.asyncio
async def test_a_step_of_async_for_that_ran_out_of_time_is_not_its_end() -> None:
    async with AioGateway() as gateway:
        edge, service = gateway.edge(), gateway.service(name="s", topics=["t"])
        await edge.connect()
        await service.connect()
        source = aiter(service)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(source), 0.01)
        await edge.publish("t", b"1", at_most_once=True)
        assert (await asyncio.wait_for(anext(source), 5)).data == b"1"
        messages = [b"2", b"3"]
        for data in messages:
            await edge.publish("t", data, at_most_once=True)
        assert [(await anext(source)).data for _ in messages] == messages
        await service.close()
        with pytest.raises(StopAsyncIteration):
            await anext(source)


def test_a_step_of_async_for_that_was_cancelled_is_not_its_end_in_twisted_either() -> None:
    with MemoryGateway() as gateway:
        edge, service = gateway.edge(), gateway.service(name="s")
        gateway.run(edge.connect())
        gateway.run(service.connect())
        mine = gateway.run(edge.open_stream("s"))
        theirs = aiter(gateway.run(service.accept_stream()))
        for _ in range(2):
            waiting = ensureDeferred(anext(theirs))
            waiting.addErrback(lambda failure: failure.trap(CancelledError) and None)
            waiting.cancel()
        gateway.run(mine.publish("t", b"1", at_most_once=True))
        assert gateway.run(anext(theirs)).data == b"1"
        gateway.run(mine.close())
        with pytest.raises(StopAsyncIteration):
            gateway.run(anext(theirs))


def test_deferreds_that_are_cancelled_take_nothing_also_inside_callbacks() -> None:
    inbox: Inbox[int] = Inbox(10)
    got: list[int] = []
    waiting = [deferred(inbox.take) for _ in range(4)]
    for each in waiting:
        each.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def first(item: int) -> Deferred[None]:
        got.append(item)
        # It gives up the one whose turn is next, and then itself, inside a chain that goes on.
        waiting[1].cancel()
        inbox.put(20)
        inner: Deferred[None] = Deferred()
        return inner

    waiting[0].addCallback(first)
    for each in waiting[1:]:
        each.addCallback(lambda item: got.append(item) if item is not None else None)
    inbox.put(10)
    waiting[0].addErrback(lambda failure: None)
    waiting[0].cancel()
    waiting[3].cancel()
    inbox.put(30)
    assert got == [10, 20] and list(inbox.items) == [30]


def test_a_coroutine_of_twisted_that_is_cancelled_takes_nothing() -> None:
    reading = Reading(lambda size: None)

    async def work() -> bytes:
        got: bytes = await deferred(lambda done: reading.read(5, done))
        return got

    cancelled = ensureDeferred(work())
    cancelled.addErrback(lambda failure: failure.trap(CancelledError) and None)
    cancelled.cancel()
    again = ensureDeferred(work())
    busy: list[Failure] = []
    deferred(lambda done: reading.read(1, done)).addErrback(busy.append)
    assert busy[0].check(RuntimeError)
    reading.put(b"1234567")
    assert again.result == b"12345"
    assert reading.take(-1) == b"67"


def test_small_blocks_are_joined_and_large_ones_are_not_copied_for_each_small_read() -> None:
    reading = Reading(lambda size: None)
    for _ in range(200_000):
        reading.put(b"ab")
    assert len(reading._blocks) < 10
    reading.put(bytes(8_000_000))
    blocks = 0
    while reading.size:
        # Each of these would copy the rest of its block.
        blocks += len(reading.take(100)) <= 100
    assert blocks >= 84_000


# -- over sockets ------------------------------------------------------------------------------------------

MANY = 400


@pytest_twisted.ensureDeferred
async def test_messages_streams_and_bytes_taken_with_tiny_time_limits_all_arrive(world: World) -> None:
    """asyncio, over loopback: a service that asks for everything with a limit of a fraction of a millisecond."""
    edge = await world.edge()
    sent_bytes = bytes(range(256)) * 400

    async def main() -> tuple[list[bytes], list[bytes], bytes]:
        messages: list[bytes] = []
        metas: list[bytes] = []
        data = b""

        async def patiently(take: Callable[[], Coroutine[Any, Any, Any]], *, pause: int) -> Any:
            attempt = 0
            while True:
                attempt += 1
                with contextlib.suppress(TimeoutError):
                    if attempt % 2:
                        return await asyncio.wait_for(take(), 0.00005 * (attempt % 7))
                    async with asyncio.timeout(0.00005 * (attempt % 5)):
                        return await take()
                await asyncio.sleep(0 if attempt % pause else 0.0005)

        async with aio.Service("127.0.0.1", world.service_port, name="s", topics=["t"]) as service:
            ready.set()

            async def take_messages() -> None:
                while len(messages) < MANY:
                    message = await patiently(service.receive, pause=3)
                    messages.append(message.data)
                    message.ack()

            async def take_streams() -> None:
                nonlocal data
                while len(metas) < 20:
                    stream = await patiently(service.accept_stream, pause=2)
                    metas.append(stream.meta)
                    if stream.meta == b"0":
                        while len(data) < len(sent_bytes):
                            size = min(len(data) % 977 + 1, len(sent_bytes) - len(data))
                            read = stream.read if len(data) % 2 else stream.readexactly
                            data += await patiently(lambda read=read, size=size: read(size), pause=4)
                    await stream.close()

            async with asyncio.TaskGroup() as group:
                group.create_task(take_messages())
                group.create_task(take_streams())
            return messages, metas, data

    ready = threading.Event()
    running = in_thread(main)
    await deferToThread(ready.wait, 10)
    sending = [edge.publish("t", b"%d" % number) for number in range(MANY)]
    for number in range(20):
        stream = await edge.open_stream("s", b"%d" % number)
        for start in range(0, len(sent_bytes), 1000) if not number else ():
            stream.write(sent_bytes[start : start + 1000])
    messages, metas, data = await running
    for each in sending:
        await each
    assert messages == [b"%d" % number for number in range(MANY)]
    assert metas == [b"%d" % number for number in range(20)]
    assert data == sent_bytes


def test_the_merged_queue_of_a_cluster_service_gives_back_what_was_given_up() -> None:
    async def main() -> None:
        heard: list[int] = []
        intake = LearningIntake(lambda handler, request: None)
        intake.heard = lambda edge_id, end: heard.append(edge_id)
        queue: Inbox[Any] = intake.messages
        for number in range(100):
            waiting = asyncio.create_task(taken(queue))
            await asyncio.sleep(0)
            item = SimpleNamespace(number=number, size=1, edge_id=7, session=SimpleNamespace(connection=None))
            if number % 2:
                waiting.cancel()
            assert queue.put(item)  # type: ignore[arg-type]
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await taken(queue) is item
        assert heard == [7] * 100 and intake.message_budget.held == 0

    asyncio.run(main())
