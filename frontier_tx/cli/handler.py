"""A handler of calls that is a command of the shell."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from frontier_tx.cli.failures import Exit, fail
from frontier_tx.cli.session import Session
from frontier_tx.cli.text import data_fields, shown, span

if TYPE_CHECKING:
    from frontier_tx.aio import Request

#: Bytes of an answer, and of standard error that is kept.
MOST_ANSWER = 12 << 20
MOST_ERROR = 64 << 10
#: Characters of standard error that the caller reads.
TOLD = 500


class CommandHandler:
    """Runs a command for each request.

    :param command: the program and its arguments.
    :param parallel: at a time; other requests wait, within the client's bounds.
    """

    def __init__(self, session: Session, command: Sequence[str], parallel: int) -> None:
        self.session = session
        self.command = command
        self._free = asyncio.Semaphore(parallel)
        self._seconds = session.settings.timeout(30.0)
        if shutil.which(command[0]) is None:
            fail(Exit.USAGE, f"there is no program {command[0]!r}")

    async def __call__(self, request: "Request") -> bytes:
        began = time.monotonic()
        problem = "withdrawn"
        answer = b""
        try:
            async with self._free:
                answer = await self._answer(request)
            problem = ""
        except Exception as error:
            problem = str(error)
            raise
        finally:
            self._told(request, answer, problem, time.monotonic() - began)
        return answer

    async def _answer(self, request: "Request") -> bytes:
        from frontier_tx.aio import HandlerError

        environment = {**os.environ, "FRONTIER_METHOD": request.method.replace("\0", "")}
        if request.edge_id:
            environment["FRONTIER_EDGE_ID"] = str(request.edge_id)
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
            )
        except OSError as error:
            raise HandlerError(f"the command cannot be started: {error.strerror}") from None
        try:
            async with asyncio.timeout(self._seconds):
                _, answer, told = await asyncio.gather(
                    _fed(process, request.data), _read(process.stdout, MOST_ANSWER), _tail(process.stderr)
                )
                status = await process.wait()
        except TimeoutError:
            raise HandlerError(f"the command took longer than {span(self._seconds)}") from None
        finally:
            # With everything that it started, however this ends.
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if told:
            self.session.output.note(told.decode("utf-8", "backslashreplace").rstrip("\n"))
        if status:
            lines = told.decode("utf-8", "replace").strip().splitlines()
            ended = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
            raise HandlerError(f"{lines[-1][:TOLD]} ({ended})" if lines else ended)
        return answer

    def _told(self, request: "Request", answer: bytes, problem: str, seconds: float) -> None:
        output = self.session.output
        if output.as_json:
            fields = {"error": problem} if problem else data_fields(answer, "answer")
            caller = {"edge_id": request.edge_id} if request.edge_id else {}
            about = {"method": request.method, **caller, **data_fields(request.data)}
            output.record({**about, **fields, "seconds": round(seconds, 4)})
            return
        caller_text = f"edge {request.edge_id}: " if request.edge_id else ""
        what = f"error: {shown(problem)}" if problem else f"{len(answer)} bytes"
        output.note(f"{caller_text}{shown(request.method)}({len(request.data)} bytes) -> {what}, {span(seconds)}")


async def _fed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    # A command need not read its input.
    with suppress(OSError):
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


async def _read(stream: asyncio.StreamReader | None, most: int) -> bytes:
    from frontier_tx.aio import HandlerError

    assert stream is not None
    parts, size = [], 0
    while data := await stream.read(1 << 16):
        parts.append(data)
        size += len(data)
        if size > most:
            raise HandlerError(f"the command answers with more than {most} bytes")
    return b"".join(parts)


async def _tail(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None
    kept = b""
    while data := await stream.read(1 << 16):
        kept = (kept + data)[-MOST_ERROR:]
    return kept


async def idle(client: Any) -> None:
    """Work until it is cancelled; who sends a message here reads at once that nobody takes it."""
    while True:
        message = await client.receive()
        message.fail("nobody takes messages here")
