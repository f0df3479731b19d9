"""One asyncio loop in a thread, for client libraries that want one; the reactor stays the program's own choice."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from frontier_tx.queues.record import Record

T = TypeVar("T")

#: Seconds that ``stop`` waits for cancelled tasks.
SETTLE = 2.0


class Bridge:
    """Runs coroutines there, and brings their results back. What it carries is bounded by its users' windows.

    :param reactor: brings results into its thread with ``callFromThread``.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; its thread starts with the first who asks, and ends with the process or ``stop``."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name="queues", daemon=True)
            self._thread.start()
            self.reactor.addSystemEventTrigger("after", "shutdown", self.stop)
        return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=SETTLE))
        loop.close()

    def stop(self) -> None:
        """End the loop; what runs there is cancelled."""
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(2 * SETTLE)

    def run(self, work: Coroutine[Any, Any, T]) -> "Deferred[T]":
        """Run a coroutine; cancelling the Deferred cancels its task."""
        running = asyncio.run_coroutine_threadsafe(work, self.loop)
        told: Deferred[T] = Deferred(lambda _: _ignore(running.cancel()))

        def tell() -> None:
            if told.called:
                return
            if running.cancelled():
                told.errback(asyncio.CancelledError("given up"))
            elif (error := running.exception()) is not None:
                told.errback(error)
            else:
                told.callback(running.result())

        running.add_done_callback(lambda _: self.reactor.callFromThread(tell))
        return told

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function there, in the order of the calls."""
        self.loop.call_soon_threadsafe(function, *args)

    def results(self, take: Callable[[Sequence[tuple[Record, str]]], None]) -> "Results":
        """Return what brings results of records from the loop to ``take`` in the reactor's thread."""
        return Results(self.reactor, take)


class Results:
    """Many results with few wake-ups: those that come up before the reactor looks go over together."""

    def __init__(self, reactor: Any, take: Callable[[Sequence[tuple[Record, str]]], None]) -> None:
        self._reactor = reactor
        self._take = take
        self._waiting: deque[tuple[Record, str]] = deque()
        self._called = False

    def put(self, record: Record, error: str = "") -> None:
        """In the loop's thread: the record is confirmed, or has failed with this text."""
        self._waiting.append((record, error))
        if not self._called:
            self._called = True
            self._reactor.callFromThread(self._deliver)

    def _deliver(self) -> None:
        # A result that is put from here on wakes the reactor again; earlier ones are taken now.
        self._called = False
        found = []
        while self._waiting:
            found.append(self._waiting.popleft())
        self._take(found)


def _ignore(result: bool) -> None:
    pass
