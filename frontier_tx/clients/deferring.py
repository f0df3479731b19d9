"""From the core's callbacks to Deferreds, and from users' handlers to the core."""

from collections.abc import Awaitable, Callable
from inspect import iscoroutine
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.clients.intake import Done
from frontier_tx.clients.operations import Request
from frontier_tx.errors import FrontierError

#: Answers a call: bytes, or None for none; what it raises reaches the caller as text.
Handler = Callable[[Request], Awaitable[bytes | None] | bytes | None]

log = Logger(namespace="frontier.client")


class Cancelable(Protocol):
    """What an operation of the core returns."""

    def cancel(self) -> None:
        """Give it up."""


def deferred(start: Callable[[Done], Cancelable | Callable[[], None] | None]) -> "Deferred[Any]":
    """Start an operation; return a Deferred of its result. Cancelling the Deferred gives the operation up.

    What ``start`` raises fires the Deferred too.
    """
    handle: Cancelable | Callable[[], None] | None = None

    def give_up(_: "Deferred[Any]") -> None:
        if handle is not None:
            (handle if callable(handle) else handle.cancel)()

    made: Deferred[Any] = Deferred(give_up)

    def done(result: Any, error: Exception | None) -> None:
        nonlocal handle
        # The Deferred holds the operation, which holds this: without a cut the two would wait for the collector.
        handle = None
        if not made.called:
            if error is None:
                made.callback(result)
            else:
                made.errback(error)

    try:
        handle = start(done)
    except Exception as error:
        done(None, error)
    if made.called:
        handle = None
    return made


def run(handler: Handler, request: Request) -> Callable[[], None]:
    """Start a handler; see ``operations.Run``."""

    def started() -> Any:
        result = handler(request)
        return ensureDeferred(result) if iscoroutine(result) else result

    def failed(failure: Failure) -> None:
        error = failure.value or RuntimeError("failed")
        if not request.canceled and not isinstance(error, FrontierError | CancelledError):
            log.failure("the handler of {method!r} failed", failure, method=request.method)
        request.fail(error)

    running = maybeDeferred(started)
    running.addCallback(request.respond).addErrback(failed)
    return running.cancel
