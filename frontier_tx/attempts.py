"""Attempts that can be given up, so that whoever gave one up can tell that from its failure."""

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


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
