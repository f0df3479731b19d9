"""Plays edges and services with the Go program in `goends/`, one process for all of them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tests import go_modules
from tests.interop.ends import EndError

SOURCE = Path(__file__).resolve().parent / "goends"


def build(folder: Path) -> Path:
    """Build the program; raises NoGo where there is no Go or no way to its modules."""
    go_modules.build(SOURCE, folder, ".")
    return folder / "goends"


class GoDriver:
    """A running program; every operation goes through its standard input and output."""

    def __init__(self, program: Path, log: Path) -> None:
        self.program = program
        self.log = log
        self._errors = log.open("ab")
        self._process = subprocess.Popen(
            [str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "GOGC": "200"},
        )
        self._pending: dict[int, Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="goends", daemon=True)
        self._reader.start()

    def submit(self, op: str, **fields: object) -> Future[dict[str, Any]]:
        # names that Python or a reader would trip over go out as the program calls them
        renamed = {{"as_": "as", "is_async": "async"}.get(key, key): value for key, value in fields.items()}
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            number = next(self._numbers)
            self._pending[number] = future
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps({"id": number, "op": op, **renamed}).encode() + b"\n")
                self._process.stdin.flush()
            except OSError:
                self._pending.pop(number)
                future.set_exception(RuntimeError("the Go program has ended"))
        return future

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reply = json.loads(line)
            with self._lock:
                future = self._pending.pop(reply["id"])
            if "error" in reply:
                future.set_exception(EndError(reply["error"]))
            else:
                future.set_result(reply)
        with self._lock:
            left, self._pending = self._pending, {}
        for future in left.values():
            future.set_exception(RuntimeError("the Go program has ended"))

    def freeze(self) -> None:
        """Nothing that arrives is looked at from now on, as at a host that the network does not reach."""
        self._process.send_signal(signal.SIGSTOP)
        # Until all of its threads stand still it may go on answering.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        self._errors.close()
