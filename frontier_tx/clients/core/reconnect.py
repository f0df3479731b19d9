"""Keeps one client connected: dials, tries again with growing waits, registers again what was registered."""

from collections.abc import Callable
from typing import Any, Protocol

from frontier_tx.backoff import Backoff, Retry
from frontier_tx.clients.core.connection import FRAME_LIMIT, ClientConnection
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.hosts import FrameTransport
from frontier_tx.clients.core.intake import Done, Intake, ignore
from frontier_tx.clients.core.session import ClientSession
from frontier_tx.clients.core.values import id_bytes, instance, note, octets
from frontier_tx.errors import ConnectFailed, EndClosed, OperationError
from frontier_tx.runtime.lograte import Troubles
from frontier_tx.timers import Alarms

#: Notes on an ``EndClosed``, which a traceback shows beside its text.
CLOSED = "the client is closed"
NOT_CONNECTED = "the client is not connected: await connect(), or use it with `async with`"
NOT_NOW = "there is no connection at the moment; when_online() waits for the next"


class Dial(Protocol):
    """Starts one attempt, which ends in ``Reconnector.attach`` or ``dial_failed``. Returns what gives it up."""

    def __call__(self, reconnector: "Reconnector", /) -> Callable[[], object]: ...


class Reconnector:
    """One client's connection, over and over.

    :param home: where the client may be used.
    :param reconnect: None: when the connection ends, all is over.
    :param attempt_seconds: for one attempt, handshake included; None: as long as the dialler and the wire give it.
    :param connected: called each time that a connection is up; ``lost`` each time that one ends, with the reason;
        ``finished`` when there will be no further one, ``cleared`` when the last transport is closed too. ``failing``
        is told why an attempt failed that is followed by another, and whether that was told since a connection was up.
    """

    def __init__(
        self,
        dial: Dial,
        intake: Intake,
        alarms: Alarms,
        wall_clock: Callable[[], float],
        *,
        home: Home | None = None,
        meta: bytes = b"",
        wanted_id: int = 0,
        tailed: bool = False,
        reconnect: Backoff | None = None,
        attempt_seconds: float | None = None,
        connected: Callable[[], None] = lambda: None,
        lost: Callable[[str], None] = lambda reason: None,
        finished: Callable[[], None] = lambda: None,
        cleared: Callable[[], None] = lambda: None,
        failing: Callable[[str, bool], None] = lambda why, again: None,
    ) -> None:
        self.intake = intake
        self.alarms = alarms
        self.wall_clock = wall_clock
        self.home = home or Home()
        self.meta = octets(meta, "meta")
        id_bytes(wanted_id, "wanted id")
        #: The id to ask for, and the one that was asked for last.
        self.wanted_id = self.asked_id = wanted_id
        self.tailed = tailed
        #: For whoever made it.
        self.owner: Any = None
        self.keeps_trying = instance(reconnect, Backoff, "reconnect") is not None
        self.retry = Retry(reconnect or Backoff(), alarms.clock, self._attempt)
        self.connection: ClientConnection | None = None
        self.client_id = 0
        self.reconnects = 0
        self.started = False
        self.closed = False
        #: Why the last attempt failed; empty since a connection was up.
        self.trouble = ""
        #: When the last attempt began.
        self.tried_at = float("-inf")
        self._troubles = Troubles()
        self._dial = dial
        self._attempt_seconds = attempt_seconds
        self._connected = connected
        self._lost = lost
        self._finished = finished
        self._cleared = cleared
        self._failing = failing
        self._ended = False
        #: Transports that are not closed yet, those of earlier connections included.
        self._transports = 0
        self._dialing: Callable[[], object] | None = None
        self._attached: ClientConnection | None = None
        #: The delayed call that ends an attempt.
        self._limit: Any = None
        self._late: ConnectFailed | None = None
        self._at_once = False
        #: Whoever called ``start``, and whether only a connection satisfies it.
        self._first: Done | None = None
        self._first_waits = False
        self._waiters: dict[object, Done] = {}
        self._closers: list[Done] = []

    @property
    def online(self) -> bool:
        """Whether a connection is up."""
        return self.connection is not None and not self.connection.over

    @property
    def trying(self) -> bool:
        """Whether an attempt is under way."""
        return self._dialing is not None or (self._attached is not None and self.connection is None)

    def session(self) -> ClientSession:
        """Return session 1 of the connection that is up.

        :raises EndClosed: there is none now.
        """
        connection = self.connection
        if connection is None or connection.over or connection.main is None:
            raise self._no_connection()
        return connection.main

    def _no_connection(self) -> EndClosed:
        error = EndClosed()
        error.add_note(CLOSED if self.closed else NOT_NOW if self.started else NOT_CONNECTED)
        return error

    def start(self, done: Done, *, keep_trying: bool = False) -> Callable[[], None]:
        """Connect for the first time. Returns what gives up, and closes the client.

        :param keep_trying: try until a connection is up, as after a loss; otherwise it is one attempt, whose failure
            is told.
        :raises RuntimeError: it was called before. :raises ValueError: to keep trying without ``reconnect``.
        :raises EndClosed: the client is closed.
        """
        if keep_trying and not self.keeps_trying:
            raise ValueError("keep_trying: reconnect=None leaves no waits between attempts")
        if self.started:
            raise RuntimeError("a client connects once; make a new one")
        if self.closed:
            raise self._no_connection()
        self.started = True
        self._first, self._first_waits = done, keep_trying
        self._attempt()
        return self._give_up

    def when_online(self, done: Done) -> Callable[[], None]:
        """Tell ``done`` when a connection is up; ``EndClosed`` when there will be none. Returns what cancels it."""
        token = object()
        if self.online:
            done(None, None)
        elif self.closed:
            done(None, EndClosed())
        else:
            self._waiters[token] = done

        def cancel() -> None:
            self._waiters.pop(token, None)

        return cancel

    def register(
        self, method: str, handler: Any, done: Done, timeout: float | None = None
    ) -> Callable[[], None] | None:
        """Keep a handler, and announce it on the connection that is up and on every later one.

        :return: what gives up waiting for that.
        :raises TypeError: the name is not text, or nothing can be called. :raises EndClosed: the client is closed.
        """
        if self.closed:
            raise self._no_connection()
        methods = self.intake.methods
        before = note(methods, method, handler)
        if not self.online:
            done(None, None)
            return None

        def answered(result: Any, error: Exception | None) -> None:
            if isinstance(error, OperationError) and error.origin != "caller" and methods.get(method) is handler:
                # The gateway does not take it, and would not after a reconnect.
                del methods[method]
                if before is not None:
                    methods[method] = before
            done(result, error)

        return self.session().register(method, answered, timeout).cancel

    def redial(self) -> None:
        """Leave the connection that is up, and connect anew at once."""
        self._at_once = True
        if self._attached is not None:
            self._attached.leave()

    def _give_up(self) -> None:
        self._first = None
        self.close(ignore)

    def close(self, done: Done) -> None:
        """Say goodbye and stop trying; ``done`` is told when the connection is gone and its transport closed."""
        self.closed = True
        self.retry.stop()
        self._attempt_over()
        if self._dialing is not None:
            dialing, self._dialing = self._dialing, None
            dialing()
        self._closers.append(done)
        if self._attached is None:
            self._over(EndClosed())
        else:
            self._attached.leave()

    # -- attempts -----------------------------------------------------------------------------------------

    def _attempt(self) -> None:
        clock = self.alarms.clock
        self.tried_at = clock.seconds()
        if self._attempt_seconds is not None:
            self._limit = clock.callLater(self._attempt_seconds, self._too_late, self._attempt_seconds)
        self._dialing = _nothing
        cancel = self._dial(self)
        if self._dialing is _nothing:
            self._dialing = cancel

    def _attempt_over(self) -> None:
        limit, self._limit = self._limit, None
        if limit is not None and limit.active():
            limit.cancel()

    def _too_late(self, seconds: float) -> None:
        self._late = ConnectFailed(f"no connection within {seconds:g} s")
        if self._attached is not None:
            self._attached.transport.abort(str(self._late))
        elif self._dialing is not None:
            self._dialing()

    # -- what the dialler and the connection tell -----------------------------------------------------------

    def attach(self, transport: FrameTransport) -> ClientConnection:
        """A transport is there: introduce this client on it."""
        self._dialing = None
        self._transports += 1
        connection = self._attached = ClientConnection(
            transport, self, self.intake, self.alarms, self.wall_clock, tailed=self.tailed, home=self.home
        )
        if self.closed:
            transport.abort("closed")
        else:
            self.asked_id = self.wanted_id
            kind = "service" if self.tailed else "edge"
            transport.connection.offers_traces = self.intake.traceparent is not None
            transport.connection.connect(self.meta, self.wanted_id, FRAME_LIMIT, kind)
        return connection

    def dial_failed(self, error: Exception) -> None:
        """No transport came about."""
        if self._attached is None and not self.closed:
            self._dialing = None
            self._failed(error)

    def transport_gone(self) -> None:
        """An attached transport is closed. With TLS that is some time after the end of its connection."""
        self._transports -= 1
        if self._ended and not self._transports:
            self._tell_closers()

    def came_online(self, connection: ClientConnection) -> None:
        """See ``ConnectionOwner``."""
        assert connection.main is not None
        self._attempt_over()
        self.connection = connection
        self.client_id = connection.wire.client_id
        self.retry.worked()
        self.trouble = ""
        self._troubles.over()
        for method in self.intake.methods:
            connection.main.register(method, ignore)
        first, self._first = self._first, None
        if first is None:
            self.reconnects += 1
        else:
            first(None, None)
        self._tell_waiters(None)
        self._connected()

    def went_offline(self, connection: ClientConnection, reason: str) -> None:
        """See ``ConnectionOwner``."""
        was_up = self.connection is connection
        self.connection = self._attached = None
        if was_up:
            self._lost(reason)
            self._again(EndClosed())
        else:
            self._failed(connection.refusal or ConnectFailed(reason or "connection closed"))

    def _failed(self, error: Exception) -> None:
        """An attempt failed."""
        self._attempt_over()
        late, self._late = self._late, None
        error = late or error
        why = str(error) or type(error).__name__
        self.trouble = why
        if self._again(error):
            self._failing(why, not self._troubles.is_new(why))

    def _again(self, error: Exception) -> bool:
        """Plan the next attempt; False where there is none, and all is over."""
        at_once, self._at_once = self._at_once, False
        alone = self._first is not None and not self._first_waits
        if self.closed or alone or not self.keeps_trying:
            self._over(error if alone and not self.closed else EndClosed())
            return False
        if at_once:
            self.retry.now()
        else:
            self.retry.later()
        return True

    # -- the end ------------------------------------------------------------------------------------------

    def _over(self, error: Exception) -> None:
        self.closed = True
        first, self._first = self._first, None
        self._tell_waiters(EndClosed())
        finished, self._finished = self._finished, _nothing
        finished()
        self._ended = True
        if not self._transports:
            self._tell_closers()
        if first is not None:
            first(None, error)

    def _tell_waiters(self, error: Exception | None) -> None:
        waiters, self._waiters = self._waiters, {}
        for done in waiters.values():
            done(None, error)

    def _tell_closers(self) -> None:
        cleared, self._cleared = self._cleared, _nothing
        cleared()
        closers, self._closers = self._closers, []
        for done in closers:
            done(None, None)


def _nothing() -> None:
    pass
