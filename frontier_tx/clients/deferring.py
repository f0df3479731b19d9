"""From the core's callbacks to Deferreds, and from users' handlers to the core."""

from collections.abc import Awaitable, Callable
from inspect import iscoroutine
from typing import Any, Protocol

from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.clients.core.intake import Done
from frontier_tx.clients.core.operations import Request

#: Answers a call: bytes, or None for none; what it raises fails the call, see ``Request.fail``.
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


def started(result: Any, failed: Callable[[Failure], object]) -> None:
    """What a program's callback returned may have to be awaited.

    :param failed: told what goes wrong then.
    """
    if iscoroutine(result):
        result = ensureDeferred(result)
    if isinstance(result, Deferred):
        result.addErrback(failed)


def tell(log: Logger, name: str, function: Callable[..., Any], *args: Any) -> None:
    """Call a program's callback, which may be a coroutine function; where it fails the log says so."""

    def failed(failure: Failure) -> None:
        log.failure("{name} failed", failure, name=name)

    try:
        started(function(*args), failed)
    except Exception:
        failed(Failure())  # type: ignore[no-untyped-call]


def run(handler: Handler, request: Request) -> Callable[[], None]:
    """Start a handler; see ``operations.Run``."""

    def start() -> Any:
        result = handler(request)
        return ensureDeferred(result) if iscoroutine(result) else result

    def failed(failure: Failure) -> None:
        number = request.fail(failure.value or RuntimeError("failed"))
        if number:
            log.failure(
                "the handler of {method!r} failed, reference {number}", failure, method=request.method, number=number
            )

    running = maybeDeferred(start)
    running.addCallback(request.respond).addErrback(failed)
    return running.cancel
