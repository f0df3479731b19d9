"""Twisted's flavour: Deferreds of what the core does; handlers and callbacks may give Deferreds or coroutines."""

from collections.abc import Callable
from inspect import iscoroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.clients.core.intake import Inbox
from frontier_tx.clients.core.operations import Request
from frontier_tx.clients.surface.flavour import Flavour, Handle, Handler, Start, cancel

log = Logger(namespace="frontier.client")


class Deferring(Flavour):
    """Gives Deferreds. Cancelling one gives the operation up."""

    def _begin(self, start: Start, unclaimed: Callable[[Any], object] | None = None) -> "Deferred[Any]":
        self._home.check()
        return deferred(start)

    def _next(self, inbox: Inbox[Any], made: Callable[[Any], Any]) -> "Deferred[Any]":
        return self._begin(
            lambda done: inbox.take(lambda item, error: done(None if error is not None else made(item), error))
        )


def deferred(start: Start) -> "Deferred[Any]":
    """Start an operation; return a Deferred of its result. What ``start`` raises fires the Deferred too."""
    handle: Handle = None
    made: Deferred[Any] = Deferred(lambda _: cancel(handle))

    def done(result: Any, error: Exception | None) -> None:
        nonlocal handle
        # The Deferred holds the operation, which holds this: otherwise both wait for the garbage collector.
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


def _called(function: Callable[..., Any], *args: Any) -> Any:
    result = function(*args)
    return ensureDeferred(result) if iscoroutine(result) else result


class DeferredCallbacks:
    """See ``flavour.Callbacks``."""

    def begin(
        self,
        failed: Callable[[Failure], object],
        over: Callable[[bool], object],
        function: Callable[..., Any],
        *args: Any,
    ) -> None:
        """Call a function; see ``flavour.Callbacks``."""

        def ended(result: Any) -> Any:
            over(True)
            return result

        def fell(failure: Failure) -> None:
            if not isinstance(failure.value, CancelledError):
                failed(failure)
            over(False)

        maybeDeferred(_called, function, *args).addCallbacks(ended, fell)


def run(handler: Handler, request: Request) -> Callable[[], None]:
    """Start a handler; see ``operations.Run``."""

    def failed(failure: Failure) -> None:
        number = request.fail(failure.value or RuntimeError("failed"))
        if number:
            log.failure(
                "the handler of {method!r} failed, reference {number}", failure, method=request.method, number=number
            )

    running = maybeDeferred(_called, handler, request)
    running.addCallback(request.respond).addErrback(failed)
    return running.cancel
