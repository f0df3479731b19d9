"""Lets several callers wait for one result, each of whom can cancel on its own; and attempts that can be cancelled."""

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
    """Callers that wait for one result; each can cancel on its own."""

    def __init__(self) -> None:
        self._waiting: dict[Deferred[T], None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> "Deferred[T]":
        """Return a Deferred that fires with the result."""
        made: Deferred[T] = Deferred(self._left)
        self._waiting[made] = None
        return made

    def _left(self, waiter: "Deferred[T]") -> None:
        self._waiting.pop(waiter, None)

    def tell(self, outcome: T | Exception | Failure) -> None:
        """Give the result, or the error, to all who wait."""
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            # A callback of an earlier one may have cancelled it.
            if waiter.called:
                continue
            if isinstance(outcome, Exception | Failure):
                waiter.errback(outcome)
            else:
                waiter.callback(outcome)


def cancellable(attempt: "Deferred[T]", discard: Callable[[T], object]) -> "Deferred[T]":
    """Return a Deferred of what comes of an attempt; cancelled, it fails with ``CancelledError`` and nothing else.

    An attempt itself may say anything when it is cancelled: endpoints fail like those that find no address, or with
    ``ConnectingCancelledError``, which a caller that tries several addresses would take for a failure of this one.

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
