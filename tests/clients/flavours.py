"""A client of asyncio in a thread of its own, used from the reactor's as if it were one of Twisted."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from frontier_tx.aio import ClusterService, Message, Stream

#: Values that belong to the loop: they too are used through it.
LIVING = (ClusterService, Message, Stream)


class Loop:
    """An asyncio loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.complaints: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda loop, context: self.complaints.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def make(self, kind: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Make an object there."""
        return self.now(lambda: kind(*args, **options))

    def now(self, function: Callable[[], Any]) -> Any:
        """Run a function there and wait for its result, which takes no time but the loop's."""

        async def work() -> Any:
            return function()

        return self._wrapped(asyncio.run_coroutine_threadsafe(work(), self.loop).result(10))

    def later(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine there; fires in the reactor's thread. Cancelling it cancels the task."""
        running = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        told: Deferred[Any] = Deferred(lambda _: running.cancel() and None)

        def tell() -> None:
            if told.called:
                return
            if running.cancelled():
                told.errback(asyncio.CancelledError())
            elif (error := running.exception()) is not None:
                told.errback(error)
            else:
                told.callback(self._wrapped(running.result()))

        running.add_done_callback(lambda _: reactor.callFromThread(tell))
        return told

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._wrapped(item) for item in value]
        return There(self, value) if isinstance(value, LIVING) else value

    def stop(self) -> None:
        """End the loop; nothing may be left in it, and nothing may have gone wrong unseen."""

        async def left() -> set[Any]:
            return asyncio.all_tasks() - {asyncio.current_task()}

        tasks = asyncio.run_coroutine_threadsafe(left(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
        assert not tasks, f"tasks that nobody ended: {tasks}"
        assert not self.complaints, self.complaints


class There:
    """Something that lives in a loop."""

    def __init__(self, loop: Loop, it: Any) -> None:
        self.__dict__.update(_loop=loop, _it=it)

    def __getattr__(self, name: str) -> Any:
        loop, it = self._loop, self._it
        if not inspect.isfunction(getattr(type(it), name, None)):
            return loop.now(lambda: getattr(it, name))

        def call(*args: Any, **options: Any) -> Any:
            result = loop.now(lambda: getattr(it, name)(*args, **options))
            return loop.later(result) if inspect.iscoroutine(result) else result

        return call

    def __eq__(self, other: object) -> bool:
        return self._it is getattr(other, "_it", other)

    def __hash__(self) -> int:
        return hash(self._it)
