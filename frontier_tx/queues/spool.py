"""Keeps on disk what a broker cannot have now, and gives it to the broker in its order when it is back.

A message is acknowledged when it is on the disk. As long as something is there, everything that comes for that queue
goes behind it, so that order holds. A file that cannot be used is named, tried again, and stops nobody: messages go on
as they would without a spool.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from frontier_tx.queues.forwarder import Forwarder
from frontier_tx.queues.record import Record
from frontier_tx.queues.spool_file import Entry, Held, SpoolFile
from frontier_tx.queues.spool_writer import GO, Copy, FileAsBroker, Writer
from frontier_tx.queues.worker import Worker
from frontier_tx.runtime.logs import Logger
from frontier_tx.runtime.loss_text import one_line

#: Messages that the broker refused may take this fraction of the bound: a tenth.
ASIDE = 10

log = Logger("frontier.queues")


class Spool:
    """The spool of one queue.

    :param queue: the forwarder that it belongs to; its ``spool`` is set.
    :param path: the file.
    :param most_bytes: what may wait in it.
    :param worker: the thread that does what blocks.
    """

    def __init__(self, queue: Forwarder, path: Path, most_bytes: int, clock: IReactorTime, worker: Worker) -> None:
        queue.spool = self
        self.path = path
        self.most_bytes = most_bytes
        #: Messages here, on the disk and on their way to it, and their bytes.
        self.messages = self.bytes = 0
        #: Those that the broker refused, put aside.
        self.refused = self.refused_bytes = 0
        #: So far: messages taken, and given to the broker.
        self.taken = self.given = 0
        self._queue = queue
        self._clock = clock
        self._worker = worker
        self._file = SpoolFile(path)
        self._writer = Writer(self, queue, FileAsBroker(self._file, worker, self._opened), clock)
        self._ready: Callable[[], None] | None = None
        self._id = ""
        self._of_edge: dict[int, int] = {}
        #: On the disk and not at the broker, as far as it is known.
        self._on_disk = 0
        #: Given to the forwarder, by number; confirmed or refused by the broker, and not yet so in the file.
        self._fed: dict[int, Entry] = {}
        self._fed_bytes = 0
        self._gone: list[Entry] = []
        self._aside: list[tuple[Entry, str]] = []
        self._cursor = 0
        #: What is to be taken over, the oldest first; what comes meanwhile goes behind it.
        self._over: deque[Record] = deque()
        self._taking: IDelayedCall | None = None
        #: Counts losses of the broker: what was read for an earlier connection is read again.
        self._epoch = 0
        self._busy = self._paused = self._stopped = False

    # -- what the forwarder asks --------------------------------------------------------------------------

    def start(self, ready: Callable[[], None]) -> None:
        """See ``Spooling``."""
        self._ready = ready
        self._writer.start()

    def takes(self, record: Record) -> bool:
        """See ``Spooling``."""
        if self._over:
            self._over.append(record)
            return True
        return self._take(record)

    def _take(self, record: Record) -> bool:
        if not self._writer.connected or (self._queue.connected and not self.messages and not self._over):
            return False
        if record.size + self._of_edge.get(record.edge_id, 0) > self.most_bytes - self.bytes:
            away = f"the broker is away ({self._queue.trouble})" if self._queue.trouble else "the broker is behind"
            self._queue.fail(record, "full", f"{away} and the spool is full")
            return True
        self._count(record.edge_id, record.size, 1)
        self._writer.publish(Copy(record, self._written))
        return True

    def drain(self) -> None:
        """See ``Spooling``."""
        self._work()

    def lost(self) -> None:
        """See ``Spooling``."""
        self._epoch += 1
        self._cursor = self._fed_bytes = 0
        self._fed.clear()
        self._take_over()

    def _take_over(self) -> None:
        """Take what waits in memory, but for what is on the disk: that has a number."""
        self._over.extendleft(reversed([record for record in self._queue.outbox.clear() if not record.number]))
        if self._over and self._taking is None:
            self._take_next()

    def _take_next(self) -> None:
        self._taking = None
        for _ in range(min(GO, len(self._over))):
            record = self._over.popleft()
            if not self._take(record):
                due = record.due
                self._queue.forward(record)
                record.due = due or record.due
        if self._over:
            self._taking = self._clock.callLater(0, self._take_next)

    def consequence(self) -> str:
        """See ``Spooling``."""
        return f"wait in {self.path} up to {self.most_bytes} bytes" if self._writer.connected else ""

    def pause(self) -> None:
        """See ``Spooling``."""
        self._paused = True

    def stop(self) -> "Deferred[None]":
        """See ``Spooling``."""
        if self._stopped:
            return succeed(None)
        self._stopped = self._paused = True
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        while self._over:
            self._queue.fail(self._over.popleft(), "stopping", "the gateway is stopping")
        if self._writer.connected:
            self._worker.run(self._settle, *self._take_settled()).addErrback(lambda failure: None)
        closing = self._writer.stop()
        # A disk that hangs must not keep the gateway from ending.
        closing.addTimeout(self._writer.outbox.bounds.confirm_seconds, self._clock)
        closing.addErrback(lambda failure: None)
        return closing.addCallback(lambda _: self._worker.stop())

    @property
    def open(self) -> bool:
        """Whether the file can be used."""
        return self._writer.connected

    def trouble(self) -> str:
        """What is to be said of it in one line; empty where nothing is."""
        if self._writer.trouble:
            return f"its spool cannot be used: {self._writer.trouble}"
        return f"{self.messages} messages ({self.bytes} bytes) in its spool" if self.messages else ""

    # -- what the writer tells ----------------------------------------------------------------------------

    def _opened(self, held: Held) -> None:
        if held.id != self._id:
            # Another file than before, or the first: the numbers in memory are not of it.
            self._id = held.id
            self._cursor = self._fed_bytes = 0
            self._fed.clear()
            self._gone.clear()
            self._aside.clear()
        self.messages = self._on_disk = held.messages
        self.bytes, self._of_edge = held.bytes, held.of_edge
        self.refused, self.refused_bytes = held.refused, held.refused_bytes
        if held.messages or held.refused:
            log.info(
                "queue {name}: its spool {path} holds {messages} messages ({bytes} bytes) for the broker, "
                "and {refused} that the broker refused",
                name=self._queue.name, path=str(self.path), messages=held.messages, bytes=held.bytes,
                refused=held.refused,
            )  # fmt: skip

    def settled(self) -> None:
        """The writer has opened the file."""
        self._busy = False
        if not self._queue.connected:
            self._take_over()
        self._tell_ready()
        self._work()

    def broke(self) -> None:
        """The file cannot be used; what was on its way there goes on as without a spool."""
        for copy in reversed(self._writer.outbox.clear()):
            assert isinstance(copy, Copy)
            self._count(copy.edge_id, copy.size, -1)
            self._over.appendleft(copy.original)
        if self._over and self._taking is None:
            self._take_next()
        self._tell_ready()

    def _tell_ready(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()

    def _written(self, copy: Copy, error: str) -> None:
        if error:
            self._count(copy.edge_id, copy.size, -1)
        else:
            self.taken += 1
            self._on_disk += 1
            self._work()
        copy.original.finish(error)

    def _count(self, edge_id: int, size: int, sign: int) -> None:
        self.messages += sign
        self.bytes += sign * size
        left = self._of_edge.get(edge_id, 0) + sign * size
        if left > 0:
            self._of_edge[edge_id] = left
        else:
            self._of_edge.pop(edge_id, None)

    # -- from the file to the broker ----------------------------------------------------------------------

    def _work(self) -> None:
        """Have the thread do what is to be done: remove what the broker has, and read what is next."""
        if self._busy or self._stopped or not self._writer.connected:
            return
        bounds = self._queue.outbox.bounds
        count = max_bytes = 0
        unread = self._on_disk - len(self._fed) - len(self._gone) - len(self._aside)
        if self._queue.connected and not self._paused and unread > 0:
            count = min(GO, bounds.window - len(self._fed))
            max_bytes = bounds.window_bytes - self._fed_bytes
        if count <= 0 or max_bytes <= 0:
            count = 0
        if not count and not self._gone and not self._aside:
            return
        self._busy = True
        gone, aside = self._take_settled()
        empty = not unread and not self._fed
        doing = self._worker.run(self._step, gone, aside, self._cursor, count, max_bytes, empty)
        doing.addCallbacks(
            partial(self._stepped, self._epoch, gone, aside), partial(self._not_stepped, self._id, gone, aside)
        )

    def _take_settled(self) -> tuple[list[Entry], list[tuple[Entry, str]]]:
        gone, aside = self._gone, self._aside
        self._gone, self._aside = [], []
        return gone, aside

    def _settle(self, gone: list[Entry], aside: list[tuple[Entry, str]]) -> tuple[int, int, int] | None:
        self._file.delete([entry.number for entry in gone])
        if not aside:
            return None
        return self._file.refuse([(entry.number, why) for entry, why in aside], self.most_bytes // ASIDE)

    def _step(
        self, gone: list[Entry], aside: list[tuple[Entry, str]], after: int, count: int, max_bytes: int, empty: bool
    ) -> tuple[list[Entry], tuple[int, int, int] | None]:
        """In the thread."""
        refused = self._settle(gone, aside)
        found = self._file.read(after, count, max_bytes) if count else []
        if empty:
            self._file.shrink()
        return found, refused

    def _stepped(
        self, epoch: int, gone: list[Entry], aside: list[tuple[Entry, str]], result: tuple[list[Entry], Any]
    ) -> None:
        found, refused = result
        self._busy = False
        self._on_disk -= len(gone) + len(aside)
        for entry in (*gone, *(each for each, _ in aside)):
            self._count(entry.edge_id, entry.size, -1)
        if refused is not None:
            self.refused, self.refused_bytes, dropped = refused
            if dropped:
                log.warn(
                    "queue {name}: {count} messages that the broker refused were dropped from {path}, where more than "
                    "a {part}th was of them",
                    name=self._queue.name, count=dropped, path=str(self.path), part=ASIDE,
                )  # fmt: skip
        if epoch == self._epoch and not self._paused:
            for entry in found:
                self._feed(entry)
        if gone and not self.messages:
            log.info("queue {name}: its spool is empty again", name=self._queue.name)
        self._work()

    def _not_stepped(self, id: str, gone: list[Entry], aside: list[tuple[Entry, str]], failure: Failure) -> None:
        self._busy = False
        if self._id == id:
            self._gone[:0], self._aside[:0] = gone, aside
        if not self._stopped:
            self._writer.end_connection(one_line(failure.value))

    def _feed(self, entry: Entry) -> None:
        record = Record(
            entry.topic, entry.value, entry.edge_id, entry.address, entry.when, self,
            partial(self._answered, self._epoch, entry),
        )  # fmt: skip
        record.number, record.key = entry.number, entry.key
        self._cursor = entry.number
        self._fed[entry.number] = entry
        self._fed_bytes += entry.size
        self._queue.forward(record)

    def _answered(self, epoch: int, entry: Entry, error: str) -> None:
        """The broker has it, or refused it."""
        if epoch != self._epoch or self._fed.pop(entry.number, None) is None:
            return
        self._fed_bytes -= entry.size
        if error:
            self._aside.append((entry, error))
        else:
            self.given += 1
            self._gone.append(entry)
        self._work()
