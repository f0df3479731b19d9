"""Runs blocking functions in a thread, one after the other."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Worker:
    """Its thread starts with the first piece of work, and never keeps the process from ending.

    :param reactor: brings results into its thread with ``callFromThread``.
    """

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, function: Callable[..., T], *args: Any) -> "Deferred[T]":
        """Call a function there, behind all that was asked for before; fires with what it returns or raises.

        Cancelling the Deferred does not keep the function from being called.
        """
        told: Deferred[T] = Deferred()

        def work() -> None:
            try:
                found: T | Failure = function(*args)
            except BaseException as error:
                found = Failure(error)  # type: ignore[no-untyped-call]
            self._reactor.callFromThread(tell, found)

        def tell(found: T | Failure) -> None:
            if not told.called:
                told.callback(found)

        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
            self._thread.start()
        self._work.put(work)
        return told

    def stop(self) -> None:
        """End the thread behind what it was asked for."""
        if self._thread is not None:
            self._thread = None
            self._work.put(None)

    def _loop(self) -> None:
        while (work := self._work.get()) is not None:
            work()
