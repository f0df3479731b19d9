"""A log file that is rotated by size; old files are bounded in number and age."""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from frontier_tx.errors import ConfigError
from frontier_tx.runtime.logstream import say_on_terminal

#: Between two attempts to write after one that failed.
RETRY_SECONDS = 5.0
#: How often it is looked whether somebody has moved or deleted the file.
LOOK_SECONDS = 1.0
#: The same after it could not be begun anew.
STRAY_SECONDS = 60.0


class RotatingFile:
    """Lines to a file; at ``max_bytes`` it is renamed to ``<stem>-<UTC time>.log`` and begun anew.

    It is begun anew too when somebody else has moved or deleted it. Where that cannot be done lines go on into the
    file that is open. Where it is no regular file it is written to and otherwise left alone.

    :param max_backups: old files that are kept, 0 for all.
    :param max_age_seconds: age at which old files go, 0 for never.
    :param compress: whether old files become ``.gz``, in a thread of their own. :param key: names the path in errors.
    :param now: Unix seconds. :param steady: seconds of a clock that nobody sets.
    :raises ConfigError: the file cannot be opened.
    """

    def __init__(
        self,
        path: str,
        *,
        max_bytes: int,
        max_backups: int = 0,
        max_age_seconds: float = 0,
        compress: bool = False,
        key: str = "log.file.path",
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = Path(path).absolute()
        self._max_bytes = max_bytes
        self._max_backups = max_backups
        self._max_age_seconds = max_age_seconds
        self._compress = compress
        self._now = now
        self._steady = steady
        self._tidying: threading.Thread | None = None
        self._retry_at = 0.0
        self._look_at = steady() + LOOK_SECONDS
        #: Whether the last line in the file is a part of one.
        self._torn = False
        #: Lines that could not be written since the last that could.
        self.lost = 0
        self._old = re.compile(
            rf"{re.escape(self._path.stem)}-\d{{8}}T\d{{6}}\.\d{{6}}{re.escape(self._path.suffix)}(\.gz)?"
        )
        try:
            self._open()
        except OSError as error:
            where = f" ({error.filename})" if error.filename != str(self._path) else ""
            raise ConfigError(f"{key}: cannot write {path}: {error.strerror or error}{where}") from None

    def write(self, line: bytes) -> None:
        """Append one line. A full disk costs lines, never an exception: they are counted and the count is logged."""
        now = self._steady()
        if self.lost and now < self._retry_at:
            self.lost += 1
            return
        try:
            if self._rotates and now >= self._look_at:
                self._look(now)
            if self._rotates and self._size and self._size + len(line) > self._full_at:
                self._renew(self.rotate, now)
            if self.lost:
                note = f"{self.lost} log lines were lost because the file could not be written\n".encode()
                self._append(b"\n" + note if self._torn else note)
                self.lost, self._torn = 0, False
            self._append(line)
        except OSError as error:
            if not self.lost:
                self._complain(error)
            self.lost += 1
            self._retry_at = now + RETRY_SECONDS

    def rotate(self) -> None:
        """Begin a new file. Old ones are tidied up in a thread, since compressing takes seconds.

        :raises OSError: the old one stays in use.
        """
        moment = datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m%dT%H%M%S.%f")
        # Nothing is there to be renamed after somebody has deleted it.
        with suppress(FileNotFoundError):
            os.rename(self._path, self._path.with_name(f"{self._path.stem}-{moment}{self._path.suffix}"))
        self.reopen()
        if self._tidying is None or not self._tidying.is_alive():
            self._tidying = threading.Thread(target=self.tidy, name="log rotation", daemon=True)
            self._tidying.start()

    def reopen(self) -> None:
        """Open the file anew under its name.

        :raises OSError: the one that was open stays in use.
        """
        previous = self._file
        self._open()
        previous.close()

    def tidy(self) -> None:
        """Delete old files that are too many or too old, compress the rest if wanted."""
        try:
            kept = self._delete(self._backups())
            if self._compress:
                for path in kept:
                    if path.suffix != ".gz":
                        _compress(path)
        except OSError as error:
            self._complain(error)

    def close(self) -> None:
        """Close the file and wait for the tidying up."""
        self._file.close()
        if self._tidying is not None:
            self._tidying.join()

    def _look(self, now: float) -> None:
        """Begin a new file where the name no longer leads to this one; somebody may also have emptied it."""
        self._look_at = now + LOOK_SECONDS
        try:
            there = self._path.stat()
        except OSError:
            there = None
        if there is None or not os.path.samestat(there, os.fstat(self._file.fileno())):
            self._renew(self.reopen, now)
        else:
            self._size = there.st_size

    def _renew(self, begin: Callable[[], None], now: float) -> None:
        """``begin`` a new file, or go on with the old one and say why."""
        try:
            begin()
        except OSError as error:
            self._look_at = now + STRAY_SECONDS
            self._append(f"{self._complain(error)}; lines go on into the file that is open\n".encode())
            self._full_at = self._size + self._max_bytes

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
        # A device or a pipe, such as /dev/stdout in a container, is no file that could be put aside.
        self._rotates = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        self._size = self._file.tell() if self._rotates else 0
        #: At that size the file is full.
        self._full_at = self._max_bytes
        self._torn = False

    def _append(self, line: bytes) -> None:
        written = self._file.write(line) or 0
        self._size += written
        if written < len(line):
            self._torn = written > 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _backups(self) -> list[Path]:
        """Old files, newest first."""
        found = [path for path in self._path.parent.iterdir() if self._old.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.name, reverse=True)

    def _delete(self, backups: list[Path]) -> list[Path]:
        kept = []
        for index, path in enumerate(backups):
            too_many = self._max_backups and index >= self._max_backups
            too_old = self._max_age_seconds and self._now() - path.stat().st_mtime > self._max_age_seconds
            if too_many or too_old:
                path.unlink(missing_ok=True)
            else:
                kept.append(path)
        return kept

    def _complain(self, error: OSError) -> str:
        """Say it on the terminal, if there is one: the log itself is what does not work. Return what was said."""
        said = f"log file {self._path}: {error.strerror or error}"
        say_on_terminal(said)
        return said


def _compress(path: Path) -> None:
    partial = path.with_name(f"{path.name}.gz.partial")
    with path.open("rb") as source, gzip.open(partial, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    shutil.copystat(path, partial)
    os.replace(partial, path.with_name(f"{path.name}.gz"))
    path.unlink()
