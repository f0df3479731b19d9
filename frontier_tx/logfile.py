"""A log file that is replaced by a new one when it has grown, and whose predecessors are bounded in number and age."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from frontier_tx.errors import ConfigError

#: Between two attempts to write after one that failed.
RETRY_SECONDS = 5.0


class RotatingFile:
    """Lines to a file; at ``max_bytes`` it is renamed to ``<stem>-<UTC time>.log`` and begun anew.

    Where it is no regular file it is written to and otherwise left alone.

    :param max_backups: old files that are kept, 0 for all.
    :param max_age_seconds: age at which old files go, 0 for never.
    :param compress: whether old files become ``.gz``, in a thread of their own.
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
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(path).absolute()
        self._max_bytes = max_bytes
        self._max_backups = max_backups
        self._max_age_seconds = max_age_seconds
        self._compress = compress
        self._now = now
        self._tidying: threading.Thread | None = None
        self._retry_at = 0.0
        #: Lines that could not be written since the last that could.
        self.lost = 0
        self._old = re.compile(
            rf"{re.escape(self._path.stem)}-\d{{8}}T\d{{6}}\.\d{{6}}{re.escape(self._path.suffix)}(\.gz)?"
        )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            where = f" ({error.filename})" if error.filename != str(self._path) else ""
            raise ConfigError(f"log.file.path: cannot write {path}: {error.strerror or error}{where}") from None

    def write(self, line: bytes) -> None:
        """Append one line. A full disk costs lines, never an exception: they are counted and the count is logged."""
        if self.lost and self._now() < self._retry_at:
            self.lost += 1
            return
        try:
            if self._rotates and self._size and self._size + len(line) > self._max_bytes:
                self.rotate()
            if self.lost:
                note = f"{self.lost} log lines were lost because the file could not be written\n".encode()
                self._append(note)
                self.lost = 0
            self._append(line)
        except OSError as error:
            if not self.lost:
                self._complain(error)
            self.lost += 1
            self._retry_at = self._now() + RETRY_SECONDS

    def rotate(self) -> None:
        """Begin a new file. Old ones are tidied up in a thread, since compressing takes seconds."""
        moment = datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m%dT%H%M%S.%f")
        os.rename(self._path, self._path.with_name(f"{self._path.stem}-{moment}{self._path.suffix}"))
        self.reopen()
        if self._tidying is None or not self._tidying.is_alive():
            self._tidying = threading.Thread(target=self.tidy, name="log rotation", daemon=True)
            self._tidying.start()

    def reopen(self) -> None:
        """Open the file anew under its name."""
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

    def _open(self) -> None:
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
        # A device or a pipe, such as /dev/stdout in a container, is no file that could be put aside.
        self._rotates = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        self._size = self._file.tell() if self._rotates else 0

    def _append(self, line: bytes) -> None:
        self._size += self._file.write(line) or 0

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

    def _complain(self, error: OSError) -> None:
        """Say it on the terminal, if there is one: the log itself is what does not work."""
        stream = sys.__stderr__
        if stream is not None:
            stream.write(f"log file {self._path}: {error.strerror or error}\n")


def _compress(path: Path) -> None:
    partial = path.with_name(f"{path.name}.gz.partial")
    with path.open("rb") as source, gzip.open(partial, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    shutil.copystat(path, partial)
    os.replace(partial, path.with_name(f"{path.name}.gz"))
    path.unlink()
