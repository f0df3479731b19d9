"""Deferreds: of several callers who wait for one thing, and of attempts that can be given up."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")
P = ParamSpec("P")


def deferred(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, "Deferred[T]"]:
    """Make a coroutine function one that begins at once and gives a Deferred."""

    @wraps(function)
    def begin(*args: P.args, **named: P.kwargs) -> "Deferred[T]":
        return Deferred.fromCoroutine(function(*args, **named))

    return begin


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


def cancellable(attempt: "Deferred[T]", discard: Callable[[T], object]) -> "Deferred[T]":
    """Return a Deferred of what comes of an attempt; cancelled, it fails with ``CancelledError`` and nothing else.

    An attempt itself may say anything when it is cancelled: endpoints fail like those that find no address, or with
    ``ConnectingCancelledError``, which whoever would try the next address takes for a failure of this one.

    :param discard: is given what comes of the attempt after it was cancelled.
    """
    given_up = False

    def give_up(_: "Deferred[T]") -> None:
        nonlocal given_up
        given_up = True
        attempt.cancel()

    outcome: Deferred[T] = Deferred(give_up)

    def over(result: T | Failure) -> None:
        if isinstance(result, Failure):
            if not given_up:
                outcome.errback(result)
        elif given_up:
            discard(result)
        else:
            outcome.callback(result)

    attempt.addBoth(over)
    return outcome
