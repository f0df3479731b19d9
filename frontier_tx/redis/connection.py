"""One logged-in connection on txredisapi's protocol.

txredisapi installs the global reactor when it is imported, so it is imported only when the first connection
is made. Of it the protocol is used (encoding, parsing, matching replies to commands) and not its factory:
that stops for ever after a refused login, hides why a connection failed, and lets commands wait without end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from os import strerror
from typing import Any, Protocol, cast

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from frontier_tx.config.redis import Redis
from frontier_tx.errors import ConfigError
from frontier_tx.redis.address import Address
from frontier_tx.redis.errors import (
    RedisAnswerError,
    RedisError,
    RedisLoginError,
    RedisLostError,
    RedisReplyError,
    RedisStrangerError,
    RedisTimeoutError,
    RedisTLSError,
    RedisUnreachableError,
)
from frontier_tx.redis.interfaces import Argument, Reply, Script
from frontier_tx.runtime.deferreds import cancellable
from frontier_tx.runtime.loss_text import loss_text
from frontier_tx.runtime.tls import client_context


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server says of itself; texts are empty where it does not tell (access rules may forbid INFO or
    ROLE)."""

    mode: str = ""
    run_id: str = ""
    role: str = ""
    master: str = ""


class Wire(Protocol):
    """What is used of the protocol class that :func:`_protocol_class` makes."""

    transport: Any
    lost: Callable[[Failure], None] | None
    pushed: Callable[[list[Any]], None] | None
    received: Callable[[bytes], None] | None
    reason: Failure | None

    def execute_command(self, *args: Argument) -> Deferred[Any]: ...


@cache
def _protocol_class() -> type[Any]:
    from txredisapi import BaseRedisProtocol

    class WireProtocol(BaseRedisProtocol):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(charset=None, convertNumbers=False)
            self.lost: Callable[[Failure], None] | None = None
            self.pushed: Callable[[list[Any]], None] | None = None
            self.received: Callable[[bytes], None] | None = None
            self.reason: Failure | None = None

        def dataReceived(self, data: bytes, unpause: bool = False) -> None:
            if self.received is not None:
                self.received(data)
            else:
                super().dataReceived(data, unpause)

        def connectionLost(self, reason: Failure) -> None:
            self.reason = reason
            super().connectionLost(reason)
            if self.lost is not None:
                self.lost(reason)

        def replyReceived(self, reply: Any) -> None:
            if self.pushed is not None and isinstance(reply, list):
                self.pushed(reply)
            else:
                super().replyReceived(reply)

    return WireProtocol


class Connection:
    """A connection that has logged in.  ``lost`` is called once when it ends, with the cause."""

    def __init__(self, wire: Wire, address: Address) -> None:
        self._wire = wire
        self.address = address
        self.greeting = Greeting()
        #: Whether the server ever answered anything.
        self.heard = False

    @property
    def cause(self) -> str:
        """Why the connection ended."""
        return _cause(self._wire.reason)

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Have this called when the connection ends."""
        self._wire.lost = lambda reason: callback()

    def on_push(self, callback: Callable[[list[Any]], None] | None) -> None:
        """From now on give every list that arrives to this instead of to a command."""
        self._wire.pushed = callback

    def take_over(self, received: Callable[[bytes], None]) -> None:
        """From now on give all bytes to this, for who parses replies by itself and sends with :meth:`write` alone."""
        self._wire.received = received
        no_delay = getattr(self._wire.transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)

    def send(self, *args: Argument) -> Deferred[Reply]:
        """Write one command.  The Deferred fails with an exception of txredisapi, see :func:`reply_error`."""
        return self._wire.execute_command(*args)

    async def ask(self, *args: Argument) -> Reply:
        """One command of the login.

        Raises ``RedisReplyError``, or ``RedisLostError``, ``RedisStrangerError``, ``RedisTLSError`` where the
        connection ends.
        """
        try:
            reply = await self.send(*args)
        except CancelledError:
            # Whoever asked has stopped; taken for a loss it would be tried elsewhere.
            raise
        except Exception as error:
            text = reply_error(_failure(error))
            if text is None:
                raise self._lost() from error
            self.heard = True
            raise RedisReplyError(self.address, text) from error
        self.heard = True
        return reply

    def _lost(self) -> RedisError:
        if self.heard:
            return RedisLostError(self.address, self.cause)
        reason = self._wire.reason
        if reason is not None and (text := loss_text(reason)).startswith("TLS: "):
            return RedisTLSError(self.address, text.removeprefix("TLS: "))
        return RedisStrangerError(self.address, self.cause)

    async def ask_within(self, clock: IReactorTime, seconds: float, *args: Argument) -> Reply:
        """Like :meth:`ask`, for a connection in use: raises ``RedisTimeoutError`` and ends it if nothing
        comes."""

        def too_late(_failure: Any, _seconds: float) -> Any:
            self.abort()
            raise RedisTimeoutError(self.address, seconds)

        return await ensureDeferred(self.ask(*args)).addTimeout(seconds, clock, too_late)

    def write(self, data: bytes) -> None:
        """Write raw bytes, for commands whose replies do not go to a waiting command."""
        self._wire.transport.write(data)

    def abort(self) -> None:
        """End the connection at once."""
        self._wire.transport.abortConnection()


def reply_error(failure: Failure) -> str | None:
    """The text of an error that the server answered with, None for errors of the connection."""
    from txredisapi import ResponseError

    error = failure.value
    return str(error.args[0]) if isinstance(error, ResponseError) and error.args else None


@contextmanager
def understood(address: Address | str, command: str) -> Iterator[None]:
    """Around what reads an answer: raises ``RedisAnswerError`` where it is of another shape."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise RedisAnswerError(address, command) from error


def text_of(reply: Reply) -> str:
    """The text of a reply that should be one; raises ``TypeError`` if it is none."""
    if not isinstance(reply, bytes):
        raise TypeError(f"{reply!r} is no text")
    return reply.decode("utf-8", "replace")


def cancelled(failure: Failure) -> None:
    """Errback of something that runs until it is cancelled."""
    failure.trap(CancelledError)  # type: ignore[no-untyped-call]


def _failure(error: BaseException) -> Failure:
    return Failure(error)  # type: ignore[no-untyped-call]


def _cause(reason: Failure | None) -> str:
    if reason is None or isinstance(reason.value, ConnectionDone):
        return "closed by the server"
    if isinstance(reason.value, ConnectError) and isinstance(reason.value.osError, int):
        return strerror(reason.value.osError).lower()
    text = " ".join(reason.getErrorMessage().split())
    return text.rstrip(".") or reason.type.__name__ if reason.type else text


def _endpoint(reactor: Any, address: Address, settings: Redis) -> IStreamClientEndpoint:
    seconds = settings.dial_timeout
    if not address.port:
        socket = UNIXClientEndpoint(reactor, address.host, timeout=seconds)  # type: ignore[no-untyped-call]
        return cast(IStreamClientEndpoint, socket)
    # HostnameEndpoint starts a second attempt only after a delay; one refused address is reported at once.
    endpoint = HostnameEndpoint(reactor, address.host, address.port, timeout=seconds)
    if not settings.tls.enable:
        return endpoint
    return wrapClientTLS(client_context(settings.tls, "redis.tls", address.host), endpoint)


@dataclass(frozen=True, slots=True)
class Login:
    """What is said right after connecting."""

    username: str = ""
    password: str = ""
    db: int = 0
    clientname: str = ""
    library: str = ""
    scripts: tuple[Script, ...] = ()
    keys: str = "redis.username and redis.password"


def open_connection(reactor: Any, address: Address, settings: Redis, login: Login) -> Deferred[Connection]:
    """Connect and log in, within ``settings.dial_timeout`` altogether.

    Fails with ``RedisError``; when it is cancelled with ``CancelledError`` and nothing else.
    """
    opened: list[Connection] = []
    attempt = ensureDeferred(_open(reactor, address, settings, login, opened))
    timed_out: list[bool] = []

    def too_late(result: Any, seconds: float) -> Any:
        timed_out.append(True)
        return result

    attempt.addTimeout(settings.dial_timeout, cast(IReactorTime, reactor), too_late)

    def failed(failure: Failure) -> Failure:
        for connection in opened:
            connection.abort()
        if not timed_out:
            return failure
        if settings.tls.enable and opened and not opened[0].heard:
            return _failure(RedisTLSError(address, f"nothing came back within {settings.dial_timeout:g} s"))
        return _failure(RedisTimeoutError(address, settings.dial_timeout))

    attempt.addErrback(failed)
    return cancellable(attempt, Connection.abort)


async def _open(reactor: Any, address: Address, settings: Redis, login: Login, opened: list[Connection]) -> Connection:
    factory = Factory.forProtocol(_protocol_class())
    factory.noisy = False
    try:
        wire = await _endpoint(reactor, address, settings).connect(factory)
    except ConnectTimeoutError as error:
        raise RedisTimeoutError(address, settings.dial_timeout) from error
    except (ConfigError, ValueError, OSError) as error:
        raise RedisUnreachableError(address, str(error)) from error
    except Exception as error:
        raise RedisUnreachableError(address, _cause(_failure(error))) from error
    connection = Connection(cast(Wire, wire), address)
    opened.append(connection)
    await _log_in(connection, login)
    return connection


async def _log_in(connection: Connection, login: Login) -> None:
    if login.password:
        user = (login.username,) if login.username else ()
        try:
            await connection.ask("AUTH", *user, login.password)
        except RedisReplyError as error:
            if "without any password configured" not in str(error):
                raise RedisLoginError(connection.address, error.code, login.keys) from error
    mode, run_id = await _server(connection, login)
    role, master = await _role(connection)
    connection.greeting = Greeting(mode, run_id, role, master)
    if mode == "sentinel":
        return
    if login.db:
        await connection.ask("SELECT", login.db)
    for words in (("CLIENT", "SETNAME", login.clientname), ("CLIENT", "SETINFO", "LIB-NAME", login.library)):
        if words[-1]:
            await _optional(connection, *words)
    if role != "slave":
        for script in login.scripts:
            await _optional(connection, "SCRIPT", "LOAD", script.text)


async def _server(connection: Connection, login: Login) -> tuple[str, str]:
    try:
        text = await connection.ask("INFO", "server")
    except RedisReplyError as error:
        if error.code in ("NOAUTH", "WRONGPASS"):
            raise RedisLoginError(connection.address, "a password is required", login.keys) from error
        if error.code != "NOPERM" and "unknown command" not in str(error):
            raise
        return "", ""
    with understood(connection.address, "INFO"):
        fields = dict(line.partition(":")[::2] for line in text_of(text).splitlines() if ":" in line)
    return fields.get("redis_mode", ""), fields.get("run_id", "")


async def _role(connection: Connection) -> tuple[str, str]:
    reply = await _optional(connection, "ROLE")
    if not isinstance(reply, list) or not reply:
        return "", ""
    with understood(connection.address, "ROLE"):
        role = text_of(reply[0])
        master = str(Address(text_of(reply[1]), int(reply[2]))) if role == "slave" else ""
    return role, master


async def _optional(connection: Connection, *args: Argument) -> Reply:
    try:
        return await connection.ask(*args)
    except RedisReplyError:
        return None
