"""The file in which the messages of one queue wait: SQLite. Blocks; used from one thread alone."""

import contextlib
import os
import secrets
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from frontier_tx.queues.record import Record

#: ``Fron`` as a number: tells a spool from other files of SQLite.
APPLICATION = 0x46726F6E
VERSION = 1
#: What the log of writes may keep on disk once it is written back.
LOG_BYTES = 8_388_608

_SCHEMA = """
CREATE TABLE identity (id TEXT NOT NULL);
CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    topic BLOB NOT NULL, value BLOB NOT NULL, edge_id INTEGER NOT NULL, address TEXT NOT NULL,
    time REAL NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, refused TEXT NOT NULL DEFAULT ''
);
CREATE INDEX refused ON messages (number) WHERE refused != '';
"""


class Entry(NamedTuple):
    """A message in the file; ``number`` is its place in the order."""

    number: int
    topic: str
    value: bytes
    edge_id: int
    address: str
    when: float
    key: str
    size: int


@dataclass(slots=True)
class Held:
    """What a file holds: messages that wait, by edge too, and those that the broker refused. Sizes are bytes."""

    id: str
    messages: int = 0
    bytes: int = 0
    of_edge: dict[int, int] = field(default_factory=dict)
    refused: int = 0
    refused_bytes: int = 0


class SpoolFile:
    """Messages in the order of their coming.

    All methods raise ``sqlite3.Error`` or ``OSError`` where the file cannot be used.

    :param path: the file; it and its folder are made where they are not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: sqlite3.Connection | None = None

    def open(self) -> Held:
        """Open, or make, the file, for this process alone, and say what is in it."""
        self.close()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Others on this machine must not read messages.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(self.path, isolation_level=None, timeout=0.5)
        try:
            held = self._prepare(database)
        except BaseException:
            database.close()
            raise
        self._database = database
        return held

    def _prepare(self, database: sqlite3.Connection) -> Held:
        run = database.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        (tables,) = run("SELECT count(*) FROM sqlite_master").fetchone()
        (application,), (version,) = run("PRAGMA application_id").fetchone(), run("PRAGMA user_version").fetchone()
        if tables and application != APPLICATION:
            raise sqlite3.DatabaseError("it is a database of another program")
        if version > VERSION:
            raise sqlite3.DatabaseError("a later version of this program wrote it")
        run("PRAGMA auto_vacuum = INCREMENTAL")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        # Takes the lock, for as long as the file is open.
        run("BEGIN IMMEDIATE")
        if not tables:
            for statement in _SCHEMA.split(";\n"):
                run(statement)
            run("INSERT INTO identity VALUES (?)", (secrets.token_hex(16),))
            run(f"PRAGMA application_id = {APPLICATION}")
            run(f"PRAGMA user_version = {VERSION}")
        run("COMMIT")
        held = Held(run("SELECT id FROM identity").fetchone()[0])
        rows = run("SELECT edge_id, count(*), sum(size) FROM messages WHERE refused = '' GROUP BY edge_id")
        for edge_id, messages, size in rows:
            held.of_edge[_unsigned(edge_id)] = size
            held.messages += messages
            held.bytes += size
        held.refused, held.refused_bytes = self._refused(database)
        return held

    @property
    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise sqlite3.OperationalError("it is not open")
        return self._database

    def append(self, records: Sequence[Record]) -> None:
        """Add messages behind all others; when it returns they are on the disk, all of them or none."""
        rows = [
            (
                record.topic.encode("utf-8", "surrogatepass"), record.value, _signed(record.edge_id), record.address,
                record.when, record.key or str(uuid.uuid4()), record.size,
            )
            for record in records
        ]  # fmt: skip
        with _Transaction(self._open) as database:
            database.executemany(
                "INSERT INTO messages (topic, value, edge_id, address, time, key, size) VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    def read(self, after: int, count: int, most_bytes: int) -> list[Entry]:
        """The next messages behind a number, up to so many and, but for the first, so many bytes."""
        found: list[Entry] = []
        rows = self._open.execute(
            "SELECT number, topic, value, edge_id, address, time, key, size FROM messages"
            " WHERE number > ? AND refused = '' ORDER BY number LIMIT ?",
            (after, count),
        )
        for number, topic, value, edge_id, address, when, key, size in rows:
            most_bytes -= size
            if found and most_bytes < 0:
                break
            text = topic.decode("utf-8", "surrogatepass")
            found.append(Entry(number, text, value, _unsigned(edge_id), address, when, key, size))
        rows.close()
        return found

    def delete(self, numbers: Sequence[int]) -> None:
        """Remove messages that the broker has."""
        if numbers:
            with _Transaction(self._open) as database:
                database.executemany("DELETE FROM messages WHERE number = ?", ((number,) for number in numbers))

    def refuse(self, numbers: Iterable[tuple[int, str]], most_bytes: int) -> tuple[int, int, int]:
        """Put messages aside with the error of the broker; the oldest of them go once they have more bytes than this.

        :return: how many are kept aside, their bytes, and how many went.
        """
        with _Transaction(self._open) as database:
            database.executemany(
                "UPDATE messages SET refused = ? WHERE number = ?",
                ((why[:500] or "refused", number) for number, why in numbers),
            )
            count, size = self._refused(database)
            gone = []
            for number, its in database.execute(
                "SELECT number, size FROM messages WHERE refused != '' ORDER BY number"
            ).fetchall():
                if size <= most_bytes:
                    break
                gone.append((number,))
                size -= its
            database.executemany("DELETE FROM messages WHERE number = ?", gone)
        return count - len(gone), size, len(gone)

    def shrink(self) -> None:
        """Give the disk back what a file that is nearly empty does not need."""
        self._open.execute("PRAGMA incremental_vacuum").fetchall()
        self._open.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the file; it can be opened again."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _refused(self, database: sqlite3.Connection) -> tuple[int, int]:
        row = database.execute("SELECT count(*), coalesce(sum(size), 0) FROM messages WHERE refused != ''").fetchone()
        return row[0], row[1]


class _Transaction:
    """All that is done inside, on the disk when it ends, or nothing."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._database.execute("COMMIT")
        else:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")


def _signed(number: int) -> int:
    """SQLite's whole numbers have 64 bits and a sign."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _unsigned(number: int) -> int:
    return number + (1 << 64) if number < 0 else number
