"""The command, run in this process; and a gateway with an edge in a thread for it to talk to."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from frontier_tx.cli.main import frontier, guarded
from frontier_tx.cli.session import Session
from frontier_tx.testing.aio import LocalGateway

T = TypeVar("T")


@dataclass
class Done:
    """What a command did."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


def run(*arguments: str, stdin: bytes = b"") -> Done:
    """Run a command as a script does: neither input nor output is a terminal."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
    session = Session()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = guarded(
                session, lambda: frontier.main(list(arguments), "frontier", standalone_mode=False, obj=session)
            )
            out.flush()
    finally:
        sys.stdin = before
    return Done(int(code), out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]


@contextlib.contextmanager
def process(*arguments: str, ready: str = "Ctrl-C ends it") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command that goes on, once it has said on standard error that it is ready; and what it said."""
    code = "from frontier_tx.cli.main import main; main()"
    started = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert started.stderr is not None
        said = ""
        while ready not in said:
            line = started.stderr.readline()
            assert line, f"it ended with {started.wait(5)}: {said}"
            said += line
        yield started, said
    finally:
        started.kill()
        started.communicate()


class World:
    """A gateway whose loop runs in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.gateway = LocalGateway()
        self.do(self.gateway.start())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop of the gateway."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def edge(self, meta: bytes = b"", **handlers: Any) -> Any:
        """An edge that is online and answers calls."""

        async def connected() -> Any:
            edge = self.gateway.edge(meta=meta)
            await edge.connect()
            for method, handler in handlers.items():
                await edge.register(method, handler)
            return edge

        return self.do(connected())

    def service(self, name: str = "", topics: tuple[str, ...] = (), **handlers: Any) -> Any:
        """A service that is online and answers calls."""

        async def connected() -> Any:
            service = self.gateway.service(name=name, topics=topics)
            await service.connect()
            for method, handler in handlers.items():
                await service.register(method, handler)
            return service

        return self.do(connected())

    def stop(self) -> None:
        """End everything."""
        self.do(self.gateway.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
