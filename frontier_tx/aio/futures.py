"""From the core's callbacks to coroutines, and from users' handlers to the core."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from inspect import getattr_static, isawaitable, iscoroutinefunction, isfunction
from typing import Any, cast

from twisted.logger import Logger, STDLibLogObserver
from twisted.python.failure import Failure

from frontier_tx.clients.core.intake import Inbox
from frontier_tx.clients.core.operations import Request
from frontier_tx.clients.surface.flavour import GIVEN, Cancelable, Flavour, Handler, Start, cancel
from frontier_tx.errors import Canceled

log = logging.getLogger("frontier.client")
#: Sends what the shared parts log to ``logging``: no observer of Twisted runs here.
LOG = Logger("frontier.client", observer=STDLibLogObserver("frontier.client"))

#: Seconds for which ``close`` waits for cancelled tasks: handlers may have to clean up.
SETTLE = 5.0


class Awaiting(Flavour):
    """Gives coroutines. Cancelling the task that awaits one gives the operation up."""

    def __init_subclass__(cls) -> None:
        # Known as coroutine functions, to mocks for instance, and by their names where somebody forgot to await them.
        super().__init_subclass__()
        for name in dir(cls):
            function = getattr_static(cls, name)
            if isfunction(function) and function.__annotations__.get("return") in GIVEN:
                setattr(cls, name, _coroutine_function(function))

    async def _begin(self, start: Start, unclaimed: Callable[[Any], object] | None = None) -> Any:
        self._home.check()
        return await outcome(start, unclaimed)

    async def _next(self, inbox: Inbox[Any], made: Callable[[Any], Any]) -> Any:
        self._home.settle()
        return made(await taken(inbox))


def _coroutine_function(function: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(function):
        return function

    @wraps(function)
    async def operation(self: Any, *args: Any, **options: Any) -> Any:
        return await function(self, *args, **options)

    return operation


async def outcome(start: Start, unclaimed: Callable[[Any], object] | None = None) -> Any:
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
        cancel(handle)
        raise


async def arrival(wait: Callable[[Callable[[], bool]], Cancelable]) -> None:
    """Wait until something may have come; the caller then takes it itself, in the same turn.

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


async def taken(inbox: Inbox[Any]) -> Any:
    """Take the next item.

    :raises EndClosed: there will be none.
    """
    while not inbox.ready:
        await arrival(inbox.wait)
    return inbox.pop()


class Tasks:
    """The tasks of one client: holds them while they run, and waits for them at its end.

    The loop itself holds tasks weakly, and one that is still pending when its loop is closed is complained about.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        #: Those of callbacks.
        self._callbacks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Start one."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def begin(
        self,
        failed: Callable[[Failure], object],
        over: Callable[[bool], object],
        function: Callable[..., Any],
        *args: Any,
    ) -> None:
        """Call a function; see ``flavour.Callbacks``."""

        def ended(task: "asyncio.Task[None]") -> None:
            self._callbacks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                failed(Failure(error))  # type: ignore[no-untyped-call]
            over(error is None and not task.cancelled())

        try:
            result = function(*args)
        except Exception:
            failed(Failure())  # type: ignore[no-untyped-call]
            over(False)
            return
        if isawaitable(result):
            task = self.start(_awaited(result))
            self._callbacks.add(task)
            task.add_done_callback(ended)
        else:
            over(True)

    def cancel_callbacks(self) -> None:
        """Cancel callbacks that still run, except the one that calls this."""
        for task in self._callbacks - {asyncio.current_task()}:
            task.cancel()

    def run(self, handler: Handler, request: Request) -> Callable[[], object]:
        """Start a handler; see ``operations.Run``."""
        task = self.start(_work(handler, request))
        # A task that is cancelled before its first step never gets to answer.
        task.add_done_callback(lambda task: _answer_for(task, request))
        return task.cancel

    async def ended(self, seconds: float = SETTLE) -> None:
        """Return when all other tasks are over, or after ``seconds``."""
        others = self._running - {cast("asyncio.Task[None]", asyncio.current_task())}
        if others:
            await asyncio.wait(others, timeout=seconds)
            self.cancel_callbacks()


async def _awaited(result: Awaitable[Any]) -> None:
    await result


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
