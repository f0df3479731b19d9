"""Deferreds of those who wait for the same thing."""

from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Waiters(Generic[T]):
    """Told all together; whoever cancels its Deferred waits no longer."""

    def __init__(self) -> None:
        self._waiting: dict[Deferred[T], None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> "Deferred[T]":
        """Return a Deferred of what will be told."""
        made: Deferred[T] = Deferred(self._left)
        self._waiting[made] = None
        return made

    def _left(self, waiter: "Deferred[T]") -> None:
        self._waiting.pop(waiter, None)

    def tell(self, outcome: T | Exception | Failure) -> None:
        """Give everybody who waits now the result, or the error."""
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            # One that was told before it may have cancelled it.
            if waiter.called:
                continue
            if isinstance(outcome, Exception | Failure):
                waiter.errback(outcome)
            else:
                waiter.callback(outcome)
