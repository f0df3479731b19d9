"""How operations of the core reach a program: what a flavour has to provide, and what all of them share."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Done, Inbox
from frontier_tx.clients.core.operations import Request
from frontier_tx.errors import Canceled

GivesBytes = TypeVar("GivesBytes")
GivesNothing = TypeVar("GivesNothing")
GivesMessage = TypeVar("GivesMessage")
GivesStream = TypeVar("GivesStream")
AStream = TypeVar("AStream")
#: The return annotations of operations.
GIVEN = (GivesBytes, GivesNothing, GivesMessage, GivesStream)

#: Answers a call: bytes, or None for none; what it raises fails the call, see ``Request.fail``.
Handler = Callable[[Request], Awaitable[bytes | None] | bytes | None]


class Cancelable(Protocol):
    """What an operation of the core returns."""

    def cancel(self) -> None:
        """Give it up."""


#: What gives an operation up; None where that is over at once.
Handle = Cancelable | Callable[[], None] | None
#: Starts an operation of the core.
Start = Callable[[Done], Handle]


def cancel(handle: Handle) -> None:
    """Give an operation up."""
    if handle is not None:
        (handle if callable(handle) else handle.cancel)()


def waiting_for(make: "Callable[[], Deferred[Any]]") -> Start:
    """Return what starts an operation that gives a Deferred."""

    def start(done: Done) -> Cancelable:
        made = make()
        made.addCallbacks(lambda result: done(result, None), lambda failure: done(None, error_of(failure)))
        return made

    return start


def error_of(failure: Failure) -> Exception:
    """Return the error that the caller gets for a failure."""
    if isinstance(failure.value, CancelledError):
        return Canceled()
    return failure.value if isinstance(failure.value, Exception) else RuntimeError(repr(failure.value))


class Callbacks(Protocol):
    """Calls functions of a program, which may be asynchronous."""

    def begin(
        self,
        failed: Callable[[Failure], object],
        over: Callable[[bool], object],
        function: Callable[..., Any],
        *args: Any,
    ) -> None:
        """Call a function and wait for what it returns; then tell ``over`` whether it came to its end.

        Where it failed ``failed`` is told before; not where it was cancelled.
        """


def tell(callbacks: Callbacks, log: Logger, name: str, function: Callable[..., Any] | None, *args: Any) -> None:
    """Call a program's callback, where there is one; where it fails the log says so."""

    def failed(failure: Failure) -> None:
        log.failure("{name} failed", failure, LogLevel.error, name=name)

    if function is not None:
        callbacks.begin(failed, lambda whole: None, function, *args)


class Flavour:
    """How operations of the core reach the caller. Each fails with RuntimeError where ``Home.check`` does."""

    _home: Home

    def _begin(self, start: Start, unclaimed: Callable[[Any], object] | None = None) -> Any:
        """Start an operation, and give its outcome to the caller in the way of the flavour.

        :param unclaimed: is given a result that the caller did not want any more when it came.
        """
        raise NotImplementedError

    def _next(self, inbox: Inbox[Any], made: Callable[[Any], Any]) -> Any:
        """Take the next item of a queue, and give the caller what ``made`` makes of it."""
        raise NotImplementedError


class Registering(Flavour, Generic[GivesNothing]):
    """Answers calls."""

    def _register(self, method: str, handler: Handler, done: Done, timeout: float | None) -> Handle:
        raise NotImplementedError

    def register(self, method: str, handler: Handler, *, timeout: float | None = None) -> GivesNothing:
        """Answer calls of this method: of a stream on this stream, of a client on every connection, now and later.

        Done when the gateways that are connected know, at once where none is; fails with the first refusal of one.

        :param handler: takes a ``Request`` and returns bytes or None, now or later.
        """
        result: GivesNothing = self._begin(lambda done: self._register(method, handler, done, timeout))
        return result
