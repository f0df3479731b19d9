"""To its writer a spool's file is one more broker, which confirms what is on the disk: bounds, retries and time limits
are those of a forwarder."""

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.queues.forwarder import Forwarder
from frontier_tx.queues.interfaces import IBroker
from frontier_tx.queues.record import Record
from frontier_tx.queues.spool_file import Held, SpoolFile
from frontier_tx.queues.worker import Worker
from frontier_tx.runtime.logs import Logger
from frontier_tx.runtime.loss_text import one_line

#: Messages that are written or read at a time, so that no turn of the reactor is long.
GO = 512
#: A large file takes its time to be opened, in seconds.
OPEN_SECONDS = 600.0

log = Logger("frontier.queues")


class Told(Protocol):
    """Whom a writer tells."""

    def settled(self) -> None:
        """The file is open."""

    def broke(self) -> None:
        """The file cannot be used; what was on its way there is in the outbox."""


@implementer(IBroker)
class FileAsBroker:
    """To the writer below, the file is a broker that confirms what is on the disk."""

    def __init__(self, file: SpoolFile, worker: Worker, opened: Callable[[Held], None]) -> None:
        self.where = str(file.path)
        self._file = file
        self._worker = worker
        self._opened = opened
        self._lost: Callable[[str], None] = lambda reason: None
        #: What came while something was being written: it goes together.
        self._next: deque[tuple[Record, Callable[[Record], None], Callable[[Record, str], None]]] = deque()
        self._writing = False

    def connect(self, lost: Callable[[str], None]) -> "Deferred[None]":
        self._lost, self._writing = lost, False
        self._next.clear()
        return self._worker.run(self._file.open).addCallback(self._opened)

    def send(
        self, records: Sequence[Record], confirmed: Callable[[Record], None], failed: Callable[[Record, str], None]
    ) -> None:
        self._next.extend((record, confirmed, failed) for record in records)
        if not self._writing:
            self._write()

    def _write(self) -> None:
        going = [self._next.popleft() for _ in range(min(GO, len(self._next)))]
        self._writing = bool(going)
        if not going:
            return
        lost = self._lost

        def written(_: object) -> None:
            if self._lost is lost:
                self._write()
            for record, confirmed, _failed in going:
                confirmed(record)

        def not_written(failure: Failure) -> None:
            if not _is_full(failure.value):
                lost(one_line(failure.value))
                return
            if self._lost is lost:
                self._write()
            for record, _confirmed, failed in going:
                failed(record, f"the spool: {one_line(failure.value)}")

        self._worker.run(self._file.append, [record for record, _, _ in going]).addCallbacks(written, not_written)

    def disconnect(self) -> "Deferred[None]":
        return self._worker.run(self._file.close)


class Copy(Record):
    """A record on its way to the disk, and the one that it stands for."""

    __slots__ = ("original",)

    def __init__(self, original: Record, done: Callable[["Copy", str], None]) -> None:
        super().__init__(
            original.topic, original.value, original.edge_id, original.address, original.when, original.sender,
            lambda error: done(self, error),
        )  # fmt: skip
        self.key = original.key
        self.original = original


class Writer(Forwarder):
    """Takes records to the file: what waits for the disk has the bounds of what waits for a broker."""

    receiver = "the spool"
    attempt_seconds = OPEN_SECONDS

    def __init__(self, spool: Told, queue: Forwarder, broker: IBroker, clock: IReactorTime) -> None:
        super().__init__(queue.name, (), broker, clock, queue.outbox.bounds)
        self._spool = spool
        # An edge that is told an error is one of the queue.
        self.counters.failed = queue.counters.failed

    def _say_connected(self, again: bool) -> None:
        pass

    def _say_away(self) -> None:
        log.warn(
            "queue {name}: its spool {where} cannot be used: {why}; messages go on without it; it keeps trying",
            name=self.name, where=self.broker.where, why=self.trouble,
        )  # fmt: skip

    def _connected(self, epoch: int) -> None:
        super()._connected(epoch)
        self._spool.settled()

    def _away(self, reason: str) -> None:
        super()._away(reason)
        self._spool.broke()


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
