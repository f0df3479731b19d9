"""One permanent connection to one server: connects again for ever, pipelines commands, notices silence."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from frontier_tx.config.redis import Redis
from frontier_tx.redis.address import Address
from frontier_tx.redis.connection import Connection, Greeting, Login, reply_error
from frontier_tx.redis.errors import RedisError, RedisLostError, RedisTimeoutError
from frontier_tx.redis.interfaces import Argument, Reply, Request
from frontier_tx.redis.kept import KeptConnection
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


class Link(KeptConnection):
    """A kept connection for commands."""

    def __init__(
        self,
        reactor: Any,
        settings: Redis,
        login: Login,
        find: Callable[[], Awaitable[Address]],
        check: Callable[[Address, Greeting], RedisError | None],
        owner: ILinkOwner,
    ) -> None:
        super().__init__(reactor, settings, login, find, check)
        self._owner = owner
        self._sent: deque[Command] = deque()
        self._queue: deque[Command] = deque()
        self._watch: IDelayedCall | None = None
        self._silent = False
        self._dropped = ""
        self.commands = 0

    @property
    def ready(self) -> bool:
        """Whether commands can be sent."""
        return self.connection is not None

    @property
    def waiting(self) -> int:
        """Commands in the queue of this link."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether any command is under way."""
        return bool(self._sent)

    def withdraw(self) -> list[Command]:
        """Close for good; gives back the commands that have no answer."""
        self._unwatch()
        left = self._take()
        self.stop()
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

    def drop(self, why: str = "") -> None:
        """Close the connection at once; a new one follows."""
        self._dropped = why
        super().drop()

    def submit(self, command: Command) -> None:
        """Send the command, or queue it while many are under way.  Only while ``ready``."""
        if len(self._sent) < WINDOW:
            self._write(command)
        else:
            self._queue.append(command)

    def _write(self, command: Command) -> None:
        connection = self.connection
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
        while self._queue and len(self._sent) < WINDOW and self.connection is not None:
            command = self._queue.popleft()
            if not command.over:
                self._write(command)

    def _check_silence(self) -> None:
        self._watch = None
        if not self._sent or self.connection is None:
            return
        if self._reactor.seconds() - self._sent[0].sent >= self._settings.read_timeout:
            self._silent = True
            self.connection.abort()
            return
        self._watch = self._reactor.callLater(self._settings.read_timeout / 4, self._check_silence)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _take(self) -> list[Command]:
        left = [command for command in (*self._sent, *self._queue) if not command.over]
        self._sent.clear()
        self._queue.clear()
        return left

    def failed(self, error: RedisError) -> None:
        self._owner.link_failed(self, error)

    async def serve(self, connection: Connection, ended: Deferred[None]) -> None:
        self._silent, self._dropped = False, ""
        self._owner.link_ready(self)
        try:
            await ended
        finally:
            if self.connection is connection:
                self.connection = None
                self._unwatch()
        error: RedisError = RedisLostError(connection.address, self._dropped or connection.cause)
        if self._silent:
            error = RedisTimeoutError(connection.address, self._settings.read_timeout)
        self._owner.link_lost(self, error, self._take())
