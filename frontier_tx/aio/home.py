"""The loop of a client: nothing else may use it, since it would wait for ever."""

import asyncio

from frontier_tx.clients.core.home import Home

ANOTHER_LOOP = (
    "this client belongs to another event loop, the one in which it was first used; make a client of its own here, or "
    "hand the work over with asyncio.run_coroutine_threadsafe(coroutine, loop)"
)


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
