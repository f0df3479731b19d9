"""An asyncio loop as the clock that timers and outlets want, and as the home of a client."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from frontier_tx.clients.core.home import Home

ANOTHER_LOOP = (
    "this client belongs to another event loop, the one in which it was first used; make a client of its own here, or "
    "hand the work over with asyncio.run_coroutine_threadsafe(coroutine, loop)"
)


@implementer(IDelayedCall)
class LoopCall:
    """One delayed call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay: float, call: Callable[[], Any]) -> None:
        self._loop = loop
        self._call = call
        # None as soon as it is over: the two hold each other, and would wait for the garbage collector.
        self._handle: asyncio.TimerHandle | None = loop.call_later(delay, self._run)

    def _run(self) -> None:
        self._handle = None
        self._call()

    def getTime(self) -> float:
        """When it runs, in seconds of the loop's clock; 0 when it is over."""
        return self._handle.when() if self._handle is not None else 0.0

    def cancel(self) -> None:
        """Do not run it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()

    def active(self) -> bool:
        """Whether it is still to run."""
        return self._handle is not None

    def delay(self, secondsLater: float) -> None:
        """Run it later than planned."""
        self._move(self.getTime() + secondsLater)

    def reset(self, secondsFromNow: float) -> None:
        """Run it so long from now."""
        self._move(self._loop.time() + secondsFromNow)

    def _move(self, when: float) -> None:
        self.cancel()
        self._handle = self._loop.call_at(when, self._run)


@implementer(IReactorTime)
class LoopClock:
    """The clock of a loop; None: of the one that runs when it is first used."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._running = loop

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._running is None:
            self._running = asyncio.get_running_loop()
        return self._running

    def seconds(self) -> float:
        """Seconds, from no particular moment."""
        return self._loop.time()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> LoopCall:
        """Call after ``delay`` seconds."""
        return LoopCall(self._loop, delay, partial(callable, *args, **kwargs) if args or kwargs else callable)

    def getDelayedCalls(self) -> list[LoopCall]:
        """Not kept."""
        return []


class LoopHome(Home):
    """The loop in which the client was first used, in the same process."""

    __slots__ = ("_loop",)

    def __init__(self) -> None:
        super().__init__()
        self._loop: asyncio.AbstractEventLoop | None = None

    def settle(self) -> None:
        super().settle()
        self._loop = asyncio.get_running_loop()

    def check(self) -> None:
        super().check()
        # In another thread no loop runs, or another one.
        if self._loop is not None and asyncio._get_running_loop() is not self._loop:
            raise RuntimeError(ANOTHER_LOOP)
