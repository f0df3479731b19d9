"""What the three modes have in common: waiting, deadlines, retries, answers that are errors, readiness,
batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from frontier_tx.config.redis import Redis
from frontier_tx.redis.address import Address
from frontier_tx.redis.connection import Greeting, Login
from frontier_tx.redis.errors import (
    RedisBusyError,
    RedisError,
    RedisLoginError,
    RedisReplyError,
    RedisStoppedError,
    RedisTimeoutError,
)
from frontier_tx.redis.interfaces import Argument, IRedis, Reply, Request, Script
from frontier_tx.redis.link import Command, Link
from frontier_tx.redis.listener import Listener
from frontier_tx.runtime.histogram import Histogram
from frontier_tx.runtime.lograte import LogRate

log = Logger()

TEMPORARY = frozenset({"LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "BUSY"})
"""First words of answers after which the same command is worth sending again a little later."""
PAUSE = 0.1
"""Seconds before a command is sent again after such an answer."""
MAX_WAITING = 20_000
"""Commands that may wait for a connection."""
SWEEP = 0.25
"""Seconds between two looks at the deadlines of commands."""
SAY_AFTER = 1.0
"""Seconds of trouble before it is logged: by then it is known what is behind a connection that broke."""
SAY_AGAIN = 300.0
"""Seconds after which trouble of the same kind is logged once more, and of good service after which it is
news again."""


@implementer(IRedis)
class RedisClient(ABC):
    """Base of the three modes; see ``IRedis``.

    A command goes to the link that :meth:`pick` names; while there is none it waits, in order, until a link
    comes up or its deadline passes; after an outage longer than a deadline, commands fail at once.  The
    waiting commands are bounded.
    """

    def __init__(self, reactor: Any, settings: Redis, scripts: Sequence[Script] = (), db: int = 0) -> None:
        self._reactor = reactor
        self._settings = settings
        library = f"frontlas({settings.identity_suffix})" if settings.identity_suffix else "frontlas"
        self._login = Login(
            settings.username,
            settings.password,
            db,
            settings.clientname,
            "" if settings.disable_identity else library,
            tuple(scripts),
        )
        #: How long servers took to answer.
        self.times = Histogram()
        self._waiting: deque[Command] = deque()
        self._sweep: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None
        self._stopped = True
        self._changed: list[Callable[[bool], None]] = []
        self._disturbed: list[Callable[[], None]] = []
        self._listeners: set[Listener] = set()
        self._seen: dict[Address, str] = {}
        self.ready = False
        self.error: RedisError | None = RedisStoppedError()
        self._down_since: float | None = None
        self._ready_since = float("-inf")
        self._said: dict[type[RedisError], LogRate] = {}
        self._saying: IDelayedCall | None = None
        self._retired_commands = 0
        self._counts = dict.fromkeys(
            ("retries", "timeouts", "redirects", "refused", "batches", "requests", "troubles"), 0
        )

    # What a mode has of its own

    @property
    @abstractmethod
    def name(self) -> str:
        """The configured addresses, for messages."""

    @abstractmethod
    def links(self) -> Sequence[Link]:
        """All links there are."""

    @abstractmethod
    def pick(self, command: Command) -> Link | None:
        """The ready link that is to take the command, None if it must wait."""

    @abstractmethod
    def begin(self) -> None:
        """Create and start links."""

    def end(self) -> None:  # noqa: B027 - nothing to do for some
        """Give up what is under way besides links; the client counts as stopped already."""

    @abstractmethod
    async def find_listening(self) -> Address:
        """A server to subscribe at; raises ``RedisError``."""

    @abstractmethod
    def check_listening(self, address: Address, greeting: Greeting) -> RedisError | None:
        """What is wrong with the server that a listener reached."""

    def moved(self, link: Link, command: Command, words: list[str]) -> bool:
        """Deal with MOVED and ASK; False if they make no sense in this mode."""
        return False

    def unusable(self, link: Link, error: str) -> None:
        """A server said that it does not take writes (any more)."""
        link.drop(error)

    def still_usable(self) -> bool:
        """Whether the client counts as ready; asked whenever a link changed."""
        return any(link.ready for link in self.links())

    # IRedis

    def start(self) -> None:
        if self._stopped:
            self._stopped = False
            self.error = None
            self._down_since = self._reactor.seconds()
            self.begin()
            for listener in self._listeners:
                listener.start()

    def stop(self) -> Deferred[None]:
        if self._stopped:
            return succeed(None)
        self._stopped = True
        left = [command for link in self.links() for command in link.withdraw()] + list(self._waiting)
        self._waiting.clear()
        for listener in list(self._listeners):
            listener.stop()
        for call in (self._sweep, self._retry, self._saying):
            if call is not None:
                call.cancel()
        self._sweep = self._retry = self._saying = None
        self.end()
        self.error = RedisStoppedError()
        self._set_ready(False)
        for command in left:
            command.finish(self.error)
        return succeed(None)

    def execute(self, *args: Argument) -> Deferred[Reply]:
        waiter: Deferred[Reply] = Deferred()

        def finish(reply: Reply | RedisError) -> None:
            if isinstance(reply, RedisError):
                waiter.errback(reply)
            else:
                waiter.callback(reply)

        self.dispatch(Command(Request(args), finish, self._deadline()))
        return waiter

    def batch(self, requests: Sequence[Request]) -> Deferred[list[Reply]]:
        if not requests:
            return succeed([])
        replies: list[Reply] = [None] * len(requests)
        waiter: Deferred[list[Reply]] = Deferred()
        missing = len(requests)

        def finisher(index: int) -> Callable[[Reply | RedisError], None]:
            def finish(reply: Reply | RedisError) -> None:
                nonlocal missing
                replies[index] = reply
                missing -= 1
                if not missing:
                    waiter.callback(replies)

            return finish

        self._counts["batches"] += 1
        deadline = self._deadline()
        for index, request in enumerate(requests):
            self.dispatch(Command(request, finisher(index), deadline))
        return waiter

    def subscribe(self, channel: str, received: Callable[[bytes], None], gap: Callable[[], None]) -> Callable[[], None]:
        listener = Listener(
            self._reactor,
            self._settings,
            self._login,
            channel,
            self.find_listening,
            self.check_listening,
            received,
            gap,
        )
        self._listeners.add(listener)
        if not self._stopped:
            listener.start()

        def end() -> None:
            self._listeners.discard(listener)
            listener.stop()

        return end

    def watch(self, changed: Callable[[bool], None], disturbed: Callable[[], None]) -> None:
        self._changed.append(changed)
        self._disturbed.append(disturbed)

    def metrics(self) -> dict[str, float]:
        links = self.links()
        return {
            "redis_commands_total": float(self._retired_commands + sum(link.commands for link in links)),
            "redis_connections": float(sum(link.ready for link in links)),
            "redis_waiting": float(len(self._waiting) + sum(link.waiting for link in links)),
            **{f"redis_{name}_total": float(number) for name, number in self._counts.items()},
        }

    # Dispatching

    def dispatch(self, command: Command) -> None:
        """Send the command, or let it wait."""
        if self._stopped:
            command.finish(RedisStoppedError())
            return
        self._counts["requests"] += not command.tries and not command.redirects
        link = self.pick(command)
        if link is None and self._given_up:
            command.finish(self.error or RedisTimeoutError(self.name, self._settings.done_within))
        elif link is not None and link.waiting < MAX_WAITING:
            link.submit(command)
            self._look_for_late()
        elif len(self._waiting) < MAX_WAITING:
            self._wait(command)
        else:
            self._counts["refused"] += 1
            command.finish(RedisBusyError(self.name, len(self._waiting)))

    def drain(self) -> None:
        """Try again to send what waits, in order."""
        waiting, self._waiting = self._waiting, deque()
        for command in waiting:
            link = self.pick(command)
            if link is None:
                self._waiting.append(command)
            else:
                link.submit(command)

    def put_back(self, commands: Sequence[Command]) -> None:
        """Let commands wait before all others (they are older)."""
        for command in reversed(commands):
            self._wait(command, first=True)

    def retire(self, link: Link) -> None:
        """Stop a link that is not needed any more; its commands wait for another one."""
        self.put_back(link.withdraw())
        self._retired_commands += link.commands

    @property
    def _given_up(self) -> bool:
        """Whether Redis has been unreachable for longer than a command's deadline."""
        if self._down_since is None:
            return False
        return bool(self._reactor.seconds() - self._down_since > self._settings.done_within)

    def _deadline(self) -> float:
        return float(self._reactor.seconds()) + self._settings.done_within

    def _wait(self, command: Command, first: bool = False) -> None:
        if first:
            self._waiting.appendleft(command)
        else:
            self._waiting.append(command)
        self._look_for_late()

    def _look_for_late(self) -> None:
        if self._sweep is None and not self._stopped:
            self._sweep = self._reactor.callLater(SWEEP, self._expire)

    def _wait_a_little(self, command: Command) -> None:
        if self._given_up and self.error is not None:
            command.finish(self.error)
            return
        command.redirects = 0
        self._counts["retries"] += 1
        self._wait(command)
        if self._retry is None:
            self._retry = self._reactor.callLater(PAUSE, self._again)

    def _again(self) -> None:
        self._retry = None
        self.drain()

    def _expire(self) -> None:
        self._sweep = None
        now = self._reactor.seconds()
        late = [command for command in self._waiting if command.deadline <= now]
        if late:
            self._waiting = deque(command for command in self._waiting if command.deadline > now)
        links = self.links()
        for link in links:
            late += link.late(now)
        self._counts["timeouts"] += len(late)
        for command in late:
            command.finish(self.error or RedisTimeoutError(self.name, self._settings.done_within))
        if self._waiting or any(link.busy for link in links):
            self._look_for_late()

    # From the links

    def link_ready(self, link: Link) -> None:
        connection = link.connection
        if connection is not None:
            self._note(connection.address, connection.greeting.run_id)
        self.state_changed(None)
        self.drain()

    def link_failed(self, link: Link, error: RedisError) -> None:
        self.state_changed(error)

    def link_lost(self, link: Link, error: RedisError, commands: list[Command]) -> None:
        again: list[Command] = []
        over: list[Command] = []
        limit = max(0, self._settings.max_retries)
        for command in commands:
            command.tries += bool(command.sent)
            (again if command.tries <= limit else over).append(command)
        self._counts["retries"] += len(again)
        self.put_back(again)
        self.state_changed(error)
        for command in over:
            command.finish(error)
        self.drain()

    def link_answer(self, link: Link, command: Command, error: str) -> None:
        words = error.split(" ")
        address = link.connection.address if link.connection is not None else self.name
        if words[0] == "NOSCRIPT" and command.request.script is not None and not command.in_full:
            command.in_full = True
            self.dispatch(command)
        elif words[0] in ("MOVED", "ASK") and len(words) >= 3 and self.moved(link, command, words):
            self._counts["redirects"] += 1
            command.redirects += 1
            if command.redirects > max(1, self._settings.cluster.max_redirects):
                self._wait_a_little(command)
            else:
                self.dispatch(command)
        elif words[0] == "READONLY":
            self._wait(command)
            self.unusable(link, error)
        elif words[0] in TEMPORARY:
            self.troubled(link, error)
            self._wait_a_little(command)
        elif words[0] in ("NOAUTH", "WRONGPASS"):
            command.finish(RedisLoginError(address, words[0], self._login.keys))
        else:
            command.finish(RedisReplyError(address, error))

    def troubled(self, link: Link, error: str) -> None:
        """A server cannot serve for the moment."""
        self._counts["troubles"] += 1

    def state_changed(self, error: RedisError | None) -> None:
        """Work out ``ready`` again; ``error`` is the newest cause of trouble, if any."""
        if self._stopped:
            return
        usable = self.still_usable()
        if usable:
            self.error = None
        elif error is not None:
            self.error = error
        self._set_ready(usable)
        if not usable and self._saying is None:
            self._saying = self._reactor.callLater(SAY_AFTER, self._say)

    def _say(self) -> None:
        self._saying = None
        if self.ready or self.error is None:
            return
        rate = self._said.setdefault(type(self.error), LogRate(1, SAY_AGAIN, self._reactor.seconds))
        if rate.allows():
            log.error("{error}; trying again until it answers", error=self.error)

    def _set_ready(self, ready: bool) -> None:
        if ready == self.ready:
            return
        self.ready = ready
        now = self._reactor.seconds()
        self._down_since = None if ready else now
        if ready:
            if self._saying is not None:
                self._saying.cancel()
                self._saying = None
            if self._said or self._ready_since < 0:
                log.info("redis {name} answers", name=self.name)
            self._ready_since = now
        elif now >= self._ready_since + SAY_AGAIN:
            self._said.clear()
        for callback in list(self._changed):
            callback(ready)

    def _note(self, address: Address, run_id: str) -> None:
        """Tell when a server is not the process that it was, or is one that was not there before."""
        before = self._seen.get(address)
        self._seen[address] = run_id
        if len(self._seen) > 1_000:
            self._seen = {address: run_id}
        if before is None and len(self._seen) == 1:
            return
        if before != run_id:
            for callback in list(self._disturbed):
                callback()


def spread(links: Sequence[Link], key: Argument) -> Link | None:
    """The link for this key, so that commands on one key keep their order; any other ready one if it is
    down."""
    if not links:
        return None
    data = key if isinstance(key, bytes) else str(key).encode()
    start = crc32(data) % len(links)
    if links[start].ready:
        return links[start]
    return next((link for link in (*links[start:], *links[:start]) if link.ready), None)
