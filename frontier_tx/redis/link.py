"""One permanent connection to one server: connects again for ever, pipelines commands, notices silence."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from frontier_tx.backoff import Backoff, Retry
from frontier_tx.config.redis import Redis
from frontier_tx.redis.address import Address
from frontier_tx.redis.connection import Connection, Greeting, Login, cancelled, open_connection, reply_error
from frontier_tx.redis.errors import RedisError, RedisLostError, RedisTimeoutError
from frontier_tx.redis.interfaces import Argument, Reply, Request
from frontier_tx.runtime.histogram import Histogram

WINDOW = 500
"""Commands under way per connection; more wait in the link's queue."""


class Command:
    """A request on its way: ``finished`` is called once, with the reply or a ``RedisError``.

    One that is ``over`` may still be under way, since a server cannot be told that nobody waits any more.
    """

    __slots__ = (
        "_finished",
        "ask_at",
        "asking",
        "deadline",
        "in_full",
        "over",
        "redirects",
        "request",
        "sent",
        "tries",
    )

    def __init__(self, request: Request, finished: Callable[[Reply | RedisError], None], deadline: float) -> None:
        self.request = request
        self._finished = finished
        self.deadline = deadline
        self.over = False
        self.sent = 0.0
        self.tries = 0
        self.redirects = 0
        self.asking = False
        self.ask_at: Address | None = None
        self.in_full = False

    def finish(self, outcome: Reply | RedisError) -> None:
        """This came of it, or this is why it came to nothing."""
        if not self.over:
            self.over = True
            self._finished(outcome)

    def words(self) -> tuple[Argument, ...]:
        """What goes over the wire."""
        script = self.request.script
        if script is None:
            return self.request.args
        if self.in_full:
            return ("EVAL", script.text, 1, *self.request.args)
        return ("EVALSHA", script.sha, 1, *self.request.args)


class ILinkOwner(Protocol):
    """Who has links; every method returns at once."""

    #: How long servers took to answer.
    times: Histogram

    def link_ready(self, link: Link) -> None:
        """The link logged in and takes commands."""

    def link_failed(self, link: Link, error: RedisError) -> None:
        """An attempt to connect failed; another one follows."""

    def link_lost(self, link: Link, error: RedisError, commands: list[Command]) -> None:
        """The connection ended; these commands have no answer (those with ``sent`` may have run)."""

    def link_answer(self, link: Link, command: Command, error: str) -> None:
        """The server answered this command with an error."""


class Link:
    """A connection that is kept up.

    ``find`` gives the address before each attempt, ``check`` looks at the greeting and returns what is wrong
    with it.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Redis,
        login: Login,
        find: Callable[[], Awaitable[Address]],
        check: Callable[[Address, Greeting], RedisError | None],
        owner: ILinkOwner,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._login = login
        self._find = find
        self._check = check
        self._owner = owner
        self._connection: Connection | None = None
        self._running: Deferred[None] | None = None
        self._stopped = True
        self._sent: deque[Command] = deque()
        self._queue: deque[Command] = deque()
        self._watch: IDelayedCall | None = None
        self._ended: Deferred[None] | None = None
        self._silent = False
        self._dropped = ""
        self.commands = 0
        self.writes = 0

    @property
    def ready(self) -> bool:
        """Whether commands can be sent."""
        return self._connection is not None

    @property
    def connection(self) -> Connection | None:
        """The logged-in connection, None while there is none."""
        return self._connection

    @property
    def waiting(self) -> int:
        """Commands in the queue of this link."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether any command is under way."""
        return bool(self._sent)

    def start(self) -> None:
        """Begin to connect."""
        if self._running is None:
            self._stopped = False
            self._running = ensureDeferred(self._run())
            self._running.addErrback(cancelled)

    def stop(self) -> list[Command]:
        """Close for good; gives back the commands that have no answer."""
        self._stopped = True
        running, self._running = self._running, None
        connection = self._disconnect()
        left = self._take()
        if connection is not None:
            connection.abort()
        if running is not None:
            running.cancel()
        return left

    def late(self, now: float) -> list[Command]:
        """Those of its commands whose deadline has passed."""
        found: list[Command] = []
        for commands in (self._sent, self._queue):
            # They came in this order, so that the deadlines of most grow.
            for command in commands:
                if command.deadline > now:
                    break
                if not command.over:
                    found.append(command)
        return found

    def drop(self, why: str) -> None:
        """Close the connection at once; a new one follows."""
        if self._connection is not None:
            self._dropped = why
            self._connection.abort()

    def submit(self, command: Command) -> None:
        """Send the command, or queue it while many are under way.  Only while ``ready``."""
        if len(self._sent) < WINDOW:
            self._write(command)
        else:
            self._queue.append(command)

    def _write(self, command: Command) -> None:
        connection = self._connection
        if connection is None:
            raise RuntimeError("command submitted to a link without connection")
        if command.asking:
            connection.send("ASKING").addErrback(lambda _: None)
            self.commands += 1
        command.sent = self._reactor.seconds()
        self.commands += 1
        self._sent.append(command)
        connection.send(*command.words()).addCallbacks(self._reply, self._error)
        if self._watch is None:
            self._watch = self._reactor.callLater(self._settings.read_timeout / 4, self._check_silence)

    def _reply(self, reply: Reply) -> None:
        if not self._sent:
            return
        command = self._sent.popleft()
        self._owner.times.note(self._reactor.seconds() - command.sent)
        self._pump()
        command.finish(reply)

    def _error(self, failure: Failure) -> None:
        text = reply_error(failure)
        if text is None or not self._sent:
            return
        command = self._sent.popleft()
        self._pump()
        if not command.over:
            self._owner.link_answer(self, command, text)

    def _pump(self) -> None:
        while self._queue and len(self._sent) < WINDOW and self._connection is not None:
            command = self._queue.popleft()
            if not command.over:
                self._write(command)

    def _check_silence(self) -> None:
        self._watch = None
        if not self._sent or self._connection is None:
            return
        if self._reactor.seconds() - self._sent[0].sent >= self._settings.read_timeout:
            self._silent = True
            self._connection.abort()
            return
        self._watch = self._reactor.callLater(self._settings.read_timeout / 4, self._check_silence)

    def _disconnect(self) -> Connection | None:
        connection, self._connection = self._connection, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        return connection

    def _take(self) -> list[Command]:
        left = [command for command in (*self._sent, *self._queue) if not command.over]
        self._sent.clear()
        self._queue.clear()
        return left

    def _lost(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended.callback(None)

    async def _run(self) -> None:
        retry = Retry(Backoff(*self._settings.backoff, steady=0.0), self._reactor)
        while True:
            try:
                address = await self._find()
                connection = await open_connection(self._reactor, address, self._settings, self._login)
                problem = self._check(address, connection.greeting)
                if problem is not None:
                    connection.abort()
                    raise problem
            except RedisError as error:
                self._owner.link_failed(self, error)
            else:
                retry.worked()
                await self._serve(connection)
            if self._stopped:
                # By whoever was told just now: a coroutine that runs cannot be cancelled.
                return
            await deferLater(self._reactor, retry.wait())

    async def _serve(self, connection: Connection) -> None:
        ended: Deferred[None] = Deferred()
        self._ended = ended
        self._silent, self._dropped = False, ""
        connection.on_lost(self._lost)
        self._connection = connection
        self._owner.link_ready(self)
        try:
            await ended
        finally:
            if self._connection is connection:
                self._disconnect()
        error: RedisError = RedisLostError(connection.address, self._dropped or connection.cause)
        if self._silent:
            error = RedisTimeoutError(connection.address, self._settings.read_timeout)
        self._owner.link_lost(self, error, self._take())
