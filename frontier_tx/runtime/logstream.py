"""Log lines to a terminal, a pipe or a device: a reader that stops must not stop the process."""

from __future__ import annotations

import os
import queue
import select
import stat
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import BinaryIO, cast

#: Bytes of lines that wait for a reader; what comes beyond them is lost.
MOST_BYTES = 1_048_576
#: Bytes that are written at a time.
CHUNK = 65_536
#: How long the end of a process waits for a reader, in seconds.
PARTING_SECONDS = 1.0


class Stream:
    """Lines to a descriptor that may block, written by a thread of its own; lines to a regular file straight away.

    That a pipe is writable says nothing: it is with one free page, and a longer line blocks. To make it non-blocking
    would make it so for every process that shares it, such as the shell of a terminal.

    :param most: bytes that wait for a slow reader. Beyond it lines are lost, until half of them were read.
    """

    def __init__(self, stream: BinaryIO, most: int = MOST_BYTES) -> None:
        self._stream = stream
        self._most = most
        self._lock = threading.Lock()
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._waiting = 0
        self._full = False
        self._thread: threading.Thread | None = None
        self._descriptor: int | None = None
        #: Lines that were lost since the last that was written, and in all.
        self.lost = 0
        self.lost_in_all = 0
        # Where there is no descriptor behind it, as in a test, nobody can be slow.
        with suppress(OSError, ValueError):
            descriptor = stream.fileno()
            stream.flush()
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                self._descriptor = descriptor
        _STREAMS.add(self)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that were not written yet."""
        return self._waiting

    def write(self, line: bytes) -> None:
        """Take one line with its line end; never waits for a reader, and never raises."""
        if self._descriptor is None:
            self._write_straight(line)
            return
        with self._lock:
            if self._full or (self._waiting and self._waiting + len(line) > self._most):
                self._full = self._waiting > self._most // 2
            if self._full:
                self._lose(1)
                return
            line = self._note() + line
            self._waiting += len(line)
        self._lines.put(line)
        if self._thread is None or not self._thread.is_alive():
            # Begun with the first line, and anew in a process that was forked.
            self._thread = threading.Thread(target=self._work, name="log stream", daemon=True)
            self._thread.start()
        if _parting_until:
            self._flush(_parting_until[0])

    def _write_straight(self, line: bytes) -> None:
        line = self._note() + line
        try:
            self._stream.write(line)
            self._stream.flush()
        except (OSError, ValueError):
            self._lose(1)

    def _lose(self, lines: int) -> None:
        self.lost += lines
        self.lost_in_all += lines

    def _note(self) -> bytes:
        """What is to be said of lines that were lost."""
        lost, self.lost = self.lost, 0
        return b"%d log lines were lost because nobody read them\n" % lost if lost else b""

    def _work(self) -> None:
        while True:
            lines = [self._lines.get()]
            size = len(lines[0])
            while size < CHUNK:
                try:
                    lines.append(self._lines.get_nowait())
                except queue.Empty:
                    break
                size += len(lines[-1])
            data = b"".join(lines)
            written = self._put(data)
            with self._lock:
                self._waiting -= len(data)
                if not written:
                    self._lose(len(lines))
                    continue
                note = self._note() if self.lost and not self._waiting else b""
                self._full = self._full and bool(self._waiting)
                self._waiting += len(note)
            if note:
                self._lines.put(note)

    def _put(self, data: bytes) -> bool:
        """Write all of it, however long that takes; return False where nobody will ever read it."""
        assert self._descriptor is not None
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                # Somebody who shares it has made it non-blocking.
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll(1000)
            except (OSError, ValueError):
                return False
        return True

    def _flush(self, until: float) -> None:
        while self._waiting and time.monotonic() < until:
            time.sleep(0.005)


_STREAMS: weakref.WeakSet[Stream] = weakref.WeakSet()
#: Until when lines are waited for, once the process is ending; empty before.
_parting_until: list[float] = []


def part() -> None:
    """The process ends: what waits is written, and from now on each line, within ``PARTING_SECONDS`` in all."""
    if not _parting_until:
        _parting_until.append(time.monotonic() + PARTING_SECONDS)
    for stream in list(_STREAMS):
        stream._flush(_parting_until[0])


def lost_lines() -> int:
    """Lines that no stream could take since the process began."""
    return sum(stream.lost_in_all for stream in list(_STREAMS))


def special_file(path: str) -> BinaryIO | None:
    """Open what is there and no regular file, such as ``/dev/stdout`` or a named pipe; None for any other path.

    :raises OSError: it cannot be opened.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    # A named pipe that nobody reads yet would keep the process from starting.
    flags = os.O_RDWR if stat.S_ISFIFO(mode) and not os.path.realpath(path).startswith("/proc/") else os.O_WRONLY
    return open(os.open(path, flags | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC), "wb", buffering=0)


def say_on_terminal(said: str) -> None:
    """Write a line to the process's standard error, if it has one, without waiting for a reader."""
    stream = sys.__stderr__
    if stream is None:
        return
    with suppress(OSError, ValueError):
        try:
            stream.fileno()
        except (OSError, ValueError):
            stream.write(f"{said}\n")
            return
        if not _TERMINAL or _TERMINAL[0][0] is not stream:
            _TERMINAL[:] = [(stream, Stream(cast(BinaryIO, stream.buffer)))]
        _TERMINAL[0][1].write(f"{said}\n".encode("utf-8", "backslashreplace"))


_TERMINAL: list[tuple[object, Stream]] = []
