"""Keeps one broker connected, and takes records to it: buffers while it is away, gives up in time, says so once."""

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from frontier_tx.backoff import Backoff, Retry
from frontier_tx.config.queues import QueueBuffer
from frontier_tx.errors import ReceiverCongested
from frontier_tx.queues.counters import Counters
from frontier_tx.queues.interfaces import IBroker, Spooling
from frontier_tx.queues.outbox import Outbox
from frontier_tx.queues.record import Record
from frontier_tx.runtime.deferreds import Waiters
from frontier_tx.runtime.lograte import LogRate
from frontier_tx.runtime.logs import Logger

#: Between attempts; short, as an edge waits `buffer.seconds` at most.
WAITS = Backoff(first=0.25, most=3.0)
#: Seconds that one attempt may take.
ATTEMPT = 10.0
#: While the broker works on a batch, the next one waits this many seconds for more, or until it has this many.
#: One message at a time costs the gateway and the broker several times as much.
LINGER, ENOUGH = 0.001, 32
#: Of confirmations that come together, edges are told for TELL_SECONDS in one turn of the reactor, and of the rest in
#: the next turns. Confirmations more than PAUSE apart do not come together.
TELL_SECONDS, PAUSE = 0.004, 0.0005
#: Characters of what an edge is told.
MOST_ERROR = 500
#: Failures of single records are logged at most once in so many seconds.
FAILURE_LOG_SECONDS = 10.0

log = Logger("frontier.queues")


class Forwarder:
    """Takes the messages of some topics to one broker.

    :param name: for the log, the metrics and errors: ``kafka``, ``redis``.
    :param topics: exact topics; ``*`` takes what nobody else takes.
    :param broker: an ``IBroker``.
    :param reserved: what names of the broker's own begin with: an edge may use one only if it is listed.
    :raises zope.interface.Invalid: the broker lacks what its interface demands.
    """

    #: For texts.
    receiver = "the broker"
    attempt_seconds = ATTEMPT

    def __init__(
        self,
        name: str,
        topics: Iterable[str],
        broker: Any,
        clock: IReactorTime,
        bounds: QueueBuffer | None = None,
        chance: Callable[[], float] = random.random,
        reserved: tuple[str, ...] = (),
    ) -> None:
        verifyObject(IBroker, broker)
        self.name = name
        self.topics = tuple(topics)
        self._reserved = reserved
        self.broker = broker
        self.outbox = Outbox(bounds or QueueBuffer())
        self.counters = Counters()
        self.connected = False
        #: Why the broker is away; empty while it is there.
        self.trouble = "not connected yet"
        #: Keeps on disk what the broker cannot have now, if that is configured.
        self.spool: Spooling | None = None
        self._clock = clock
        self._retry = Retry(WAITS, clock, self._connect, chance)
        self._attempt: Deferred[Any] | None = None
        self._attempt_limit: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._pumping: IDelayedCall | None = None
        #: Whether the next batch waits for more messages.
        self._lingering = False
        #: The reason in the last log line that called the broker away; empty before the first.
        self._said = ""
        self._said_away = False
        #: Records whose edges are still to be told, each with the error; when telling began, and when it last went on.
        self._untold: deque[tuple[Record, str]] = deque()
        self._telling_since = self._told_at = float("-inf")
        self._failures = LogRate(1, FAILURE_LOG_SECONDS, clock.seconds)
        #: Counts connections, so that what an earlier one still reports is ignored.
        self._epoch = 0
        self._stopped: Waiters[None] = Waiters()
        self._limit: IDelayedCall | None = None
        self._running = self._finished = False
        self._told: Deferred[None] | None = None

    # -- connecting ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, and stay connected."""
        self._running = True
        if self.spool is not None:
            # Its messages go first.
            self.spool.start(self._connect)
        else:
            self._connect()

    def _connect(self) -> None:
        if not self._running:
            return
        self._epoch += 1
        epoch = self._epoch
        self._attempt_limit = self._clock.callLater(self.attempt_seconds, self._attempt_took_too_long)
        attempt = self._attempt = maybeDeferred(self.broker.connect, lambda reason: self._lost(epoch, reason))
        attempt.addCallbacks(lambda _: self._connected(epoch), lambda failure: self._failed(epoch, failure))

    def _attempt_took_too_long(self) -> None:
        self._attempt_limit = None
        if self._attempt is not None:
            self._attempt.cancel()

    def _attempt_is_over(self) -> None:
        self._attempt = None
        if self._attempt_limit is not None:
            self._attempt_limit.cancel()
            self._attempt_limit = None

    def _connected(self, epoch: int) -> None:
        if epoch != self._epoch or not self._running:
            return
        self._attempt_is_over()
        self.connected, self.trouble = True, ""
        self._retry.worked()
        if self._said_away or not self._said:
            self._say_connected(again=self._said_away)
            self._said_away = False
        self._pump()
        if self.spool is not None:
            self.spool.drain()

    def _failed(self, epoch: int, failure: Failure) -> None:
        if epoch != self._epoch:
            return
        self._attempt_is_over()
        error = failure.value
        if isinstance(error, CancelledError):
            reason = f"no connection within {self.attempt_seconds:g} s"
        else:
            reason = str(error) or type(error).__name__
        self._away(reason)

    def _lost(self, epoch: int, reason: str) -> None:
        if epoch != self._epoch or not (self.connected or self._attempt is not None):
            return
        self.counters.reconnects += self.connected
        self._attempt_is_over()
        self._away(reason or "the connection was lost")

    def _away(self, reason: str) -> None:
        """Put back what was sent, and connect again after a while."""
        self.connected, self.trouble = False, " ".join(reason.split())[:300].rstrip(".")
        # What the old connection still reports is ignored.
        self._epoch += 1
        self.outbox.back()
        if not self._running:
            self._drained()
            return
        self._retry.later()
        # A broker that takes connections and ends each soon for the same reason is named once.
        if self.trouble != self._said or self._retry.failures == 1:
            self._say_away()
            self._said, self._said_away = self.trouble, True
        if self.spool is not None:
            self.spool.lost()
        self._set_timer()

    def _say_connected(self, again: bool) -> None:
        text = "queue {name}: connected to {where} again" if again else "queue {name}: connected to {where}"
        log.info(text, name=self.name, where=self.broker.where)

    def _say_away(self) -> None:
        bounds = self.outbox.bounds
        kept = self.spool.consequence() if self.spool is not None else ""
        log.warn(
            "queue {name}: {where} cannot be used: {why}; messages for it {kept}, then their edges are told; "
            "it keeps trying",
            name=self.name, where=self.broker.where, why=self.trouble,
            kept=kept or f"wait up to {bounds.seconds:g} s in {bounds.bytes} bytes",
        )  # fmt: skip

    # -- records ------------------------------------------------------------------------------------------

    def publish(self, record: Record) -> None:
        """Take a record over; its ``done`` is told in any case, at the latest after ``mqm.buffer.seconds``."""
        self.counters.published += 1
        if not self._running:
            self.fail(record, "stopping", "the gateway is stopping")
        elif record.topic.startswith(self._reserved) and record.topic not in self.topics:
            self.fail(
                record, "refused", f"the topic {record.topic[:80]!r} is the broker's own, and mqm does not list it"
            )
        elif self.spool is None or not self.spool.takes(record):
            self.forward(record)

    def forward(self, record: Record) -> None:
        """Let a record go to the broker, past the spool."""
        if self.outbox.put(record, self._clock.seconds()):
            if self._pumping is None:
                # Records of one turn go out together; while others are under way, records of LINGER seconds do.
                self._lingering = self.outbox.in_flight > 0
                self._pumping = self._clock.callLater(LINGER if self._lingering else 0, self._pump)
            elif self._lingering and self.outbox.waiting >= ENOUGH:
                self._pump_soon()
        else:
            why = (
                ReceiverCongested.text
                if self.connected
                else f"{self.receiver} is away ({self.trouble}) and the buffer is full"
            )
            self.fail(record, "full", why)

    def _pump(self) -> None:
        if self._pumping is not None and self._pumping.active():
            self._pumping.cancel()
        self._pumping = None
        if self.connected and not self._untold:
            records = self.outbox.take(self._clock.seconds())
            if records:
                self._send(records)
                self._went_on()
        self._set_timer()
        self._drained()

    def _send(self, records: Sequence[Record]) -> None:
        epoch = self._epoch

        def confirmed(record: Record) -> None:
            if epoch == self._epoch and self.outbox.settle(record):
                self.counters.confirmed += 1
                now = self._clock.seconds()
                self.counters.times.note(now - record.sent_at)
                self._tell(record, "", now)
                self._went_on()

        def failed(record: Record, why: str) -> None:
            if epoch == self._epoch and self.outbox.settle(record):
                self.fail(record, "refused", why)
                self._went_on()

        try:
            self.broker.send(records, confirmed, failed)
        except Exception as error:
            log.failure("queue {name}: a batch could not be sent", name=self.name)
            self.end_connection(f"{type(error).__name__}: {error}")

    def _went_on(self) -> None:
        if self.outbox.waiting or not self._running:
            if self._pumping is None:
                self._pumping = self._clock.callLater(0, self._pump)
            elif self._lingering and (not self.outbox.in_flight or not self._running):
                self._pump_soon()

    def _pump_soon(self) -> None:
        self._lingering = False
        if self._pumping is not None:
            self._pumping.reset(0)

    def fail(self, record: Record, kind: str, why: str) -> None:
        """Fail a record and tell its edge why; ``kind`` is a key of ``Counters.failed``."""
        self.counters.failed[kind] += 1
        why = why[:MOST_ERROR]
        if kind != "stopping" and self._failures.allows():
            log.warn(
                "queue {name}: a message of edge {edge} to {topic} failed: {why}",
                name=self.name, edge=record.edge_id, topic=record.topic[:100], why=why,
            )  # fmt: skip
        self._tell(record, f"queue {self.name}: {why}", self._clock.seconds())

    def _tell(self, record: Record, error: str, now: float) -> None:
        if self._untold:
            self._untold.append((record, error))
            return
        if now - self._told_at > PAUSE:
            self._telling_since = now
        if now - self._telling_since < TELL_SECONDS:
            record.finish(error)
            self._told_at = self._clock.seconds()
        else:
            self._untold.append((record, error))
            self._clock.callLater(0, self._tell_others)

    def _tell_others(self) -> None:
        until = self._clock.seconds() + TELL_SECONDS
        try:
            while self._untold and self._clock.seconds() < until:
                record, error = self._untold.popleft()
                record.finish(error)
        finally:
            if self._untold:
                self._clock.callLater(0, self._tell_others)
            elif self._told is not None:
                self._told.callback(None)
            else:
                self._went_on()

    def end_connection(self, reason: str) -> None:
        """End a connection that is of no use, and try again."""
        epoch = self._epoch
        self._close_broker()
        self._lost(epoch, reason)

    # -- time ---------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        due = self.outbox.next_due()
        if due == float("inf"):
            return
        if self._timer is not None:
            if self._timer.getTime() <= due:
                return
            self._timer.cancel()
        # At least a tenth of a second, so that a stream of records does not wake it for each.
        self._timer = self._clock.callLater(max(0.1, due - self._clock.seconds()), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        given_up = self.outbox.overdue(now)
        for record in given_up:
            away = f"{self.receiver} is away: {self.trouble}"
            why = away if self.trouble else f"{self.receiver} did not confirm in time"
            self.fail(record, "timeout", why)
        sent = self.outbox.oldest_sent()
        if sent is not None and sent.sent_at + self.outbox.bounds.confirm_seconds <= now:
            self.end_connection(f"it confirmed nothing for {self.outbox.bounds.confirm_seconds:g} s")
        self._set_timer()

    # -- the end ------------------------------------------------------------------------------------------

    def stop(self) -> "Deferred[None]":
        """Take no more, let what is here be confirmed as long as the broker is there, and disconnect.

        :return: fires when it is disconnected, soon after ``confirm_seconds`` at the latest; what is not confirmed by
            then has failed.
        """
        waiting = self._stopped.wait()
        if self._running:
            self._running = False
            if self.spool is not None:
                self.spool.pause()
            self._limit = self._clock.callLater(self.outbox.bounds.confirm_seconds, self._finish)
            self._drained()
        elif self._finished:
            self._stopped.tell(None)
        return waiting

    def _drained(self) -> None:
        if not self._running and (not len(self.outbox) or not self.connected):
            self._finish()

    def _finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        self._epoch += 1
        # Records that the spool gave are still in its file.
        spooled = self.spool.stop() if self.spool is not None else succeed(None)
        self.connected = False
        attempt = self._attempt
        self._attempt_is_over()
        self._retry.stop()
        for call in (self._limit, self._timer, self._pumping):
            if call is not None and call.active():
                call.cancel()
        self._timer = self._pumping = None
        if attempt is not None:
            attempt.addErrback(lambda failure: None)
            attempt.cancel()
        for record in self.outbox.clear():
            if not record.number:
                self.fail(record, "stopping", "the gateway is stopping")
        if self._untold:
            self._told = Deferred()
        closing = self._close_broker().addBoth(lambda _: spooled).addBoth(lambda _: self._told)
        closing.addBoth(lambda _: self._stopped.tell(None))

    def _close_broker(self) -> "Deferred[Any]":
        closing = maybeDeferred(self.broker.disconnect)
        return closing.addErrback(lambda failure: log.debug("queue {name}: {f}", name=self.name, f=failure.value))
