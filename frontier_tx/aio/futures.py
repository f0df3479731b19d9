"""From the core's callbacks to coroutines, and from users' handlers to the core."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from typing import Any, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from frontier_tx.clients.core.intake import Done, Inbox
from frontier_tx.clients.core.operations import Request
from frontier_tx.errors import Canceled

#: Answers a call: bytes, or None for none; what it raises fails the call, see ``Request.fail``.
Handler = Callable[[Request], Awaitable[bytes | None] | bytes | None]

T = TypeVar("T")

log = logging.getLogger("frontier.client")

#: Seconds for which the end of a client waits for tasks that were cancelled: handlers may have something to put away.
SETTLE = 5.0


class Cancelable(Protocol):
    """What an operation of the core returns."""

    def cancel(self) -> None:
        """Give it up."""


async def outcome(
    start: Callable[[Done], Cancelable | Callable[[], None] | None],
    unclaimed: Callable[[Any], None] | None = None,
) -> Any:
    """Start an operation and wait for its result; cancelling the task gives the operation up.

    What hands over items out of a queue does not use this one but ``arrival``.

    :param unclaimed: takes a result that came when the task was cancelled already.
    """
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(result: Any, error: Exception | None) -> None:
        if not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        elif error is None and unclaimed is not None:
            # The future is cancelled at once, the operation when the task runs next.
            unclaimed(result)

    handle = start(done)
    try:
        return await future
    except BaseException as error:
        if future.done() and not future.cancelled():
            if future.exception() is error:
                raise
            if future.exception() is None and unclaimed is not None:
                unclaimed(future.result())
        if handle is not None:
            (handle if callable(handle) else handle.cancel)()
        raise


async def arrival(wait: Callable[[Callable[[], bool]], Cancelable]) -> None:
    """Wait until something may have come, which the caller then takes itself, without a wait between.

    So a task that is cancelled never has what it did not return.

    :param wait: as ``Inbox.wait``.
    """
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> bool:
        if future.done():
            return False
        future.set_result(None)
        return True

    waiting = wait(wake)
    try:
        await future
    except BaseException:
        waiting.cancel()
        raise


async def taken(inbox: Inbox[T]) -> T:
    """Take the next item.

    :raises EndClosed: there will be none.
    """
    while not inbox.ready:
        await arrival(inbox.wait)
    return inbox.pop()


async def settled(start: "Callable[[], Deferred[Any]]", unclaimed: Callable[[Any], None] | None = None) -> Any:
    """Start an operation that gives a Deferred and wait for its result; see ``outcome``."""

    def started(done: Done) -> Cancelable:
        made = start()
        made.addCallbacks(lambda result: done(result, None), lambda failure: done(None, _exception(failure)))
        return made

    return await outcome(started, unclaimed)


def _exception(failure: Failure) -> Exception:
    error = failure.value
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


class Tasks:
    """Tasks of one client: kept from being collected while they run, and waited for at its end.

    The loop itself holds tasks weakly, and one that is still pending when its loop is closed is complained about.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        #: Callbacks that run, and what is to be done where one is cancelled.
        self._callbacks: dict[asyncio.Task[None], Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Start one."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def tell(self, what: str, function: Callable[..., Any], *args: Any) -> None:
        """Call a program's callback, which may be a coroutine function; where it fails the log says so."""

        def failed(error: BaseException) -> None:
            log.error("%s failed", what, exc_info=error)

        self.begin(failed, lambda: None, function, *args)

    def begin(
        self,
        failed: Callable[[BaseException], None],
        cancelled: Callable[[], None],
        function: Callable[..., Any],
        *args: Any,
    ) -> None:
        """Call a function; what it returns is awaited if it can be.

        :param failed: told what goes wrong. :param cancelled: called where it is cancelled, maybe more than once.
        """

        def over(task: "asyncio.Task[None]") -> None:
            self._callbacks.pop(task, None)
            if task.cancelled():
                cancelled()
            elif (error := task.exception()) is not None:
                failed(error)

        try:
            result = function(*args)
        except Exception as error:
            failed(error)
            return
        if isawaitable(result):
            task = self.start(_awaited(result))
            self._callbacks[task] = cancelled
            task.add_done_callback(over)

    def cancel_callbacks(self) -> None:
        """The client is being closed: callbacks that still run are to end, but for the one that asks for it."""
        current = asyncio.current_task()
        for task, cancelled in list(self._callbacks.items()):
            if task is not current:
                task.cancel()
                cancelled()

    async def ended(self, seconds: float = SETTLE) -> None:
        """Return when all are over, the one that asks left out, or after ``seconds``."""
        others = self._running - {cast("asyncio.Task[None]", asyncio.current_task())}
        if others:
            await asyncio.wait(others, timeout=seconds)
            self.cancel_callbacks()


async def _awaited(result: Awaitable[Any]) -> None:
    await result


class Runner:
    """Runs handlers as tasks."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def run(self, handler: Handler, request: Request) -> Callable[[], object]:
        """Start a handler; see ``operations.Run``."""
        task = self._tasks.start(_work(handler, request))
        # A task that is cancelled before its first step never gets to answer.
        task.add_done_callback(lambda task: _answer_for(task, request))
        return task.cancel


def _answer_for(task: "asyncio.Task[None]", request: Request) -> None:
    if task.cancelled():
        request.fail(Canceled())
    elif (error := task.exception()) is not None:
        _refuse(request, error)


async def _work(handler: Handler, request: Request) -> None:
    try:
        result = handler(request)
        request.respond(await result if isawaitable(result) else result)
    except Exception as error:
        _refuse(request, error)


def _refuse(request: Request, error: BaseException) -> None:
    number = request.fail(error)
    if number:
        log.error("the handler of %r failed, reference %s", request.method, number, exc_info=error)
