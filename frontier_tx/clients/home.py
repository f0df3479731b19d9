"""Where a client lives: it may be used by one thread of one process alone, and says so instead of hanging."""

import os
from threading import get_ident

from twisted.python import threadable

ANOTHER_PROCESS = (
    "this client was connected before the process was forked and belongs to the parent; make a client of its own here"
)
ANOTHER_THREAD = (
    "a client is used in the reactor's thread alone; from another thread say reactor.callFromThread(...), or "
    "blockingCallFromThread(reactor, ...) to wait for the result"
)

#: How many forks lie between the first process of this program and this one.
_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Home:
    """The reactor's thread, in the process in which the client was connected."""

    __slots__ = ("_process",)

    def __init__(self) -> None:
        #: None before the client was connected: until then it may be taken along anywhere.
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
        if self.elsewhere:
            raise RuntimeError(ANOTHER_PROCESS)
        # While no reactor runs nobody can tell which thread will be its own.
        thread = threadable.ioThread
        if thread is not None and thread != get_ident():
            raise RuntimeError(ANOTHER_THREAD)

    @property
    def elsewhere(self) -> bool:
        """Whether this is a fork of the process in which the client was connected."""
        return self._process is not None and self._process != _forks
