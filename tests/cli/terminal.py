"""A command at a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time


class Terminal:
    """Runs a command whose three streams are a terminal of 100 columns."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        import fcntl
        import struct
        import termios

        self.near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        code = "from frontier_tx.cli.main import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=far, stdout=far, stderr=far, start_new_session=True,
            env={**os.environ, "TERM": "xterm", **environment},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(far)
        self.seen = ""

    def until(self, text: str, seconds: float = 20) -> str:
        """Read until something is there; return all that came since the last time."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.near], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} never came: {self.seen!r}"
            try:
                data = os.read(self.near, 65536)
            except OSError:
                data = b""
            assert data, f"{text!r} never came: {self.seen!r}"
            self.seen += data.decode()
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def wait(self, text: str, seconds: float) -> None:
        """Read until something is there, or for so long."""
        deadline = time.monotonic() + seconds
        while text not in self.seen and (left := deadline - time.monotonic()) > 0:
            if select.select([self.near], [], [], left)[0]:
                self.seen += os.read(self.near, 65536).decode()

    def rest(self) -> str:
        """Everything until it ends."""
        while True:
            try:
                data = os.read(self.near, 65536)
            except OSError:
                data = b""
            if not data:
                break
            self.seen += data.decode()
        self.process.wait(10)
        return self.seen

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.near, text.encode())

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self.near)
