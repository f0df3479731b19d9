"""Keeps one client connected: dials, tries again with backoff and jitter, registers again what was registered."""

from collections.abc import Callable
from typing import Any, Protocol

from frontier_tx.backoff import Backoff
from frontier_tx.clients.core.channel import Channel
from frontier_tx.clients.core.end import FRAME_LIMIT, End, Link
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Done, Intake, ignore
from frontier_tx.clients.core.values import id_bytes, instance, note, octets
from frontier_tx.errors import ConnectFailed, EndClosed, OperationError
from frontier_tx.timers import Alarms

#: Notes on an ``EndClosed``, which a traceback shows beside its text.
CLOSED = "the client is closed"
NOT_CONNECTED = "the client is not connected: await connect(), or use it with `async with`"


class Dial(Protocol):
    """Starts one attempt; it ends in ``keeper.attach`` or ``keeper.dial_failed``. Returns what gives it up."""

    def __call__(self, keeper: "Keeper", /) -> Callable[[], object]: ...


class Keeper:
    """One client's connection, over and over.

    :param home: where the client may be used.
    :param reconnect: None: when the connection ends, all is over.
    :param connected: told each time that a connection is up; ``lost`` each time that one ends, with the reason;
        ``finished`` when there will be no further one, ``cleared`` when the last transport is closed too. ``failing``
        is told why attempts fail, each reason once in a row, as long as it goes on trying.
    """

    #: The slot of the timer (``timers.Timed``).
    tick = 0

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
        connected: Callable[[], None] = lambda: None,
        lost: Callable[[str], None] = lambda reason: None,
        finished: Callable[[], None] = lambda: None,
        cleared: Callable[[], None] = lambda: None,
        failing: Callable[[str], None] = lambda why: None,
    ) -> None:
        self.intake = intake
        self.alarms = alarms
        self.wall_clock = wall_clock
        self.home = home or Home()
        self.meta = octets(meta, "meta")
        id_bytes(wanted_id, "wanted id")
        self.wanted_id = wanted_id
        self.tailed = tailed
        self.reconnect: Backoff | None = instance(reconnect, Backoff, "reconnect")
        self.end: End | None = None
        self.client_id = 0
        #: Attempts since the last connection that lasted.
        self.attempts = 0
        self.reconnects = 0
        self.closed = False
        #: Why the last attempt failed; empty since a connection was up.
        self.trouble = ""
        self._started = False
        self._keep_trying = False
        self._up_since = 0.0
        self._dial = dial
        self._connected = connected
        self._lost = lost
        self._finished = finished
        self._cleared = cleared
        self._failing = failing
        self._ended = False
        #: Transports that are not closed yet; those of earlier connections may still be at it.
        self._transports = 0
        self._dialing: Callable[[], object] | None = None
        self._link: Link | None = None
        self._attached: End | None = None
        self._first: Done | None = None
        self._waiters: dict[object, Done] = {}
        self._closers: list[Done] = []

    @property
    def online(self) -> bool:
        """Whether a connection is up."""
        return self.end is not None and not self.end.over

    def channel(self) -> Channel:
        """Return session 1 of the connection that is up.

        :raises EndClosed: there is none now.
        """
        end = self.end
        if end is None or end.over or end.main is None:
            raise self._no_connection()
        return end.main

    def _no_connection(self) -> EndClosed:
        error = EndClosed()
        if self.closed:
            error.add_note(CLOSED)
        elif not self._started:
            error.add_note(NOT_CONNECTED)
        else:
            error.add_note("there is no connection at the moment; when_online() waits for the next")
        return error

    def start(self, done: Done, *, keep_trying: bool = False) -> None:
        """Connect for the first time.

        :param keep_trying: try until a connection is up, as after a loss; otherwise it is one attempt, whose failure
            is told.
        :raises RuntimeError: it was called before. :raises ValueError: to keep trying without ``reconnect``.
        """
        if keep_trying and self.reconnect is None:
            raise ValueError("keep_trying: reconnect=None leaves no waits between attempts")
        self._keep_trying = keep_trying
        if self._started:
            raise RuntimeError("a client connects once; make a new one")
        self._started = True
        self._first = done
        self._attempt()

    def when_online(self, done: Done) -> Callable[[], None]:
        """Tell ``done`` when a connection is up; ``EndClosed`` when there will be none. Returns what cancels it."""
        token = object()
        if self.online:
            done(None, None)
        elif self.closed:
            done(None, EndClosed())
        else:
            self._waiters[token] = done
        return lambda: _forget(self._waiters.pop(token, None))

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

        return self.channel().register(method, answered, timeout).cancel

    def give_up(self) -> None:
        """Whoever called ``start`` no longer wants it; it is not told any more."""
        self._first = None
        self.close(ignore)

    def close(self, done: Done) -> None:
        """Say goodbye and stop trying; ``done`` is told when the connection is gone and its transport closed."""
        self.closed = True
        self.alarms.cancel(self)
        if self._dialing is not None:
            dialing, self._dialing = self._dialing, None
            dialing()
        self._closers.append(done)
        if self._attached is None:
            self._over(EndClosed())
        else:
            self._attached.leave()

    # -- what the dialler and the end tell ----------------------------------------------------------------

    def attach(self, link: Link) -> End:
        """A transport is there: introduce this client on it."""
        self._dialing = None
        self._link = link
        self._transports += 1
        end = self._attached = End(
            link, self, self.intake, self.alarms, self.wall_clock, tailed=self.tailed, home=self.home
        )
        if self.closed:
            link.abort("closed")
        else:
            kind = "service" if self.tailed else "edge"
            link.connection.connect(self.meta, self.wanted_id, FRAME_LIMIT, kind)
        return end

    def dial_failed(self, error: Exception) -> None:
        """No transport came about."""
        if self._link is None and not self.closed:
            self._dialing = None
            self._name(error)
            self._failed(error)

    def transport_gone(self) -> None:
        """A transport that was attached is closed; where it says a goodbye of its own, some time after its end."""
        self._transports -= 1
        if self._ended and not self._transports:
            self._tell_closers()

    def _announce(self, end: End) -> None:
        assert end.main is not None
        for method in self.intake.methods:
            end.main.register(method, ignore)

    def _failed(self, error: Exception) -> None:
        if self._first is not None and not (self._keep_trying and not self.closed):
            self.closed = True
            first, self._first = self._first, None
            self._over(EndClosed())
            first(None, error)
        elif self.closed or self.reconnect is None:
            self.closed = True
            self._over(EndClosed())
        else:
            self.alarms.schedule(self, self.alarms.now() + self.reconnect.seconds(self.attempts))
            self.attempts += 1

    def _over(self, error: Exception) -> None:
        first, self._first = self._first, None
        waiters, self._waiters = self._waiters, {}
        if first is not None:
            first(None, error)
        for done in waiters.values():
            done(None, error)
        finished, self._finished = self._finished, _nothing
        finished()
        self._ended = True
        if not self._transports:
            self._tell_closers()

    def _tell_closers(self) -> None:
        cleared, self._cleared = self._cleared, _nothing
        cleared()
        closers, self._closers = self._closers, []
        for done in closers:
            done(None, None)

    def _attempt(self) -> None:
        self._dialing = _nothing
        cancel = self._dial(self)
        if self._dialing is _nothing:
            self._dialing = cancel

    def fire(self, now: float) -> None:
        """The wait before an attempt is over."""
        if not self.closed:
            self._attempt()

    # -- Owner --------------------------------------------------------------------------------------------

    def came_online(self, end: End) -> None:
        """See ``end.Owner``."""
        self.end = end
        self.client_id = end.connection.client_id
        self._up_since = self.alarms.now()
        self.trouble = ""
        self._announce(end)
        first, self._first = self._first, None
        if first is None:
            self.reconnects += 1
        else:
            first(None, None)
        waiters, self._waiters = self._waiters, {}
        for done in waiters.values():
            done(None, None)
        self._connected()

    def went_offline(self, end: End, reason: str) -> None:
        """See ``end.Owner``."""
        was_up = self.end is end
        self.end = None
        self._link = self._attached = None
        if was_up:
            if self.reconnect is not None and self.alarms.now() - self._up_since >= self.reconnect.steady:
                self.attempts = 0
            self._lost(reason)
        error = end.refusal or ConnectFailed(reason or "connection closed")
        if not was_up:
            self._name(error)
        self._failed(error)

    def _name(self, error: Exception) -> None:
        """Say why an attempt failed, unless that was said of the one before."""
        why = str(error) or type(error).__name__
        if why != self.trouble:
            self.trouble = why
            if self.reconnect is not None and not self.closed and (self._first is None or self._keep_trying):
                self._failing(why)


def _nothing() -> None:
    pass


def _forget(anything: object) -> None:
    pass
