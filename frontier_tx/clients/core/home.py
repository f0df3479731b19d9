"""Where a client may be used: in one thread of one process. Elsewhere it raises, where it would hang."""

import os
from threading import get_ident
from typing import Any
from weakref import WeakKeyDictionary

ANOTHER_PROCESS = (
    "this client was connected before the process was forked and belongs to the parent; make a client of its own here"
)
ANOTHER_THREAD = (
    "a client is used in the reactor's thread alone; from another thread say reactor.callFromThread(...), or "
    "blockingCallFromThread(reactor, ...) to wait for the result"
)

#: The thread of each reactor that was seen running.
_threads: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

#: How many forks lie between the first process of this program and this one.
_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Home:
    """The process in which a client was connected."""

    __slots__ = ("_process",)

    def __init__(self) -> None:
        #: None until the client is connected; until then a fork may use it.
        self._process: int | None = None

    def settle(self) -> None:
        """From now on it is this process.

        :raises RuntimeError: see ``check``.
        """
        self.check()
        self._process = _forks

    def check(self) -> None:
        """Make sure that the caller may use the client.

        :raises RuntimeError: it runs in another thread or process; the text says what to do.
        """
        if self._process is not None and self._process != _forks:
            raise RuntimeError(ANOTHER_PROCESS)


class ReactorHome(Home):
    """The thread of a reactor, in the process in which the client was connected.

    A program may run several reactors. Which thread is that of this one is known from its first turn after this.
    """

    __slots__ = ("_thread",)

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._thread: int | None = _threads.get(reactor)
        if hasattr(reactor, "callFromThread"):
            reactor.callFromThread(self._turn, reactor)

    def _turn(self, reactor: Any) -> None:
        self._thread = _threads[reactor] = get_ident()

    def check(self) -> None:
        if self._process is not None and self._process != _forks:
            raise RuntimeError(ANOTHER_PROCESS)
        if self._thread is not None and self._thread != get_ident():
            raise RuntimeError(ANOTHER_THREAD)
