"""Files over streams. docs/command-line.md, "Files", says what travels.

A stream begins with the line ``frontier-file``. The opener writes one line of JSON, what it wants; the other side
answers with one. Then the file goes in blocks, each behind its length in four bytes; length 0 is the end, and the
SHA-256 follows it. Who took the file confirms it with a line of JSON.
"""

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from frontier_tx.cli.failures import Exit, Failure, fail
from frontier_tx.cli.folder import Folder, Unusable, checked
from frontier_tx.cli.session import Session
from frontier_tx.cli.text import amount, shown
from frontier_tx.errors import FrontierError

if TYPE_CHECKING:
    from frontier_tx.aio import Stream

META = b"frontier-file"
BLOCK = 1 << 16
MOST_BLOCK = 1 << 20
MOST_LINE = 1 << 18
DIGEST = 32
#: Transfers of one command at a time, and seconds in which a peer that has the turn has to move.
MOST_TRANSFERS = 64
STALL_SECONDS = 60.0

Progress = Callable[[int], None]


class Broken(Exception):
    """The other side does not keep to what was agreed; the text says how."""


def write_line(stream: "Stream", **content: Any) -> None:
    """Send one line of JSON."""
    stream.write(json.dumps(content).encode() + b"\n")


async def read_line(stream: "Stream") -> dict[str, Any]:
    """Read one line of JSON; Broken where there is none."""
    line = bytearray()
    async with asyncio.timeout(STALL_SECONDS):
        # A byte at a time, so that nothing behind the line is taken.
        while not line.endswith(b"\n"):
            byte = await stream.read(1)
            if not byte or len(line) > MOST_LINE:
                raise Broken("the other side ended the stream" if not byte else "the answer is too long")
            line += byte
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Broken("the answer is no JSON; does the other side know of files?")
    return found


async def write_file(stream: "Stream", file: BinaryIO, progress: Progress) -> str:
    """Send what a file has; return its SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    while data := await asyncio.to_thread(file.read, BLOCK):
        digest.update(data)
        stream.write(len(data).to_bytes(4) + data)
        async with asyncio.timeout(STALL_SECONDS):
            await stream.drain()
        progress(len(data))
    stream.write(bytes(4) + digest.digest())
    await stream.drain()
    return digest.hexdigest()


async def read_file(stream: "Stream", write: Callable[[bytes], object], progress: Progress) -> str:
    """Take a file; return its SHA-256, which is what the sender says it is.

    :raises Broken: what came is not what was sent.
    """
    digest = hashlib.sha256()
    while True:
        async with asyncio.timeout(STALL_SECONDS):
            size = int.from_bytes(await stream.readexactly(4))
            if size > MOST_BLOCK:
                raise Broken("a block is too large")
            if not size:
                if await stream.readexactly(DIGEST) != digest.digest():
                    raise Broken("the checksum does not fit: what came is not what was sent")
                return digest.hexdigest()
            data = await stream.readexactly(size)
        digest.update(data)
        await asyncio.to_thread(write, data)
        progress(size)


def failed(error: Exception) -> Failure:
    """What ends a command that moves a file."""
    if isinstance(error, TimeoutError) and not isinstance(error, FrontierError):
        return Failure(Exit.TIMEOUT, f"the other side did not go on for {STALL_SECONDS:.0f} s; nothing was kept")
    if isinstance(error, asyncio.IncompleteReadError):
        return Failure(Exit.CUT, "the file was cut in the middle; nothing was kept")
    if isinstance(error, Broken):
        return Failure(Exit.PEER, str(error))
    if isinstance(error, Unusable):
        return Failure(Exit.USAGE, str(error))
    return Failure(Exit.USAGE, f"cannot read or write the file: {getattr(error, 'strerror', None) or error}")


#: What can go wrong beside the errors of the client library.
TROUBLES = (Broken, Unusable, asyncio.IncompleteReadError, OSError)


async def send(session: Session, stream: "Stream", path: str, name: str) -> dict[str, Any]:
    """Give the other side a file; return its name, size and checksum."""
    checked_here(name)
    file, size = _source(path)
    with file:
        write_line(stream, do="put", name=name, size=size)
        _agreed(await read_line(stream))
        with bar(session, name, size) as progress:
            counted = _Counter(progress)
            try:
                digest = await write_file(stream, file, counted)
            except FrontierError:
                # It may have said why it takes no more.
                with suppress(FrontierError, TimeoutError):
                    _agreed(await read_line(stream))
                raise
        _agreed(await read_line(stream))
    await stream.close()
    return {"name": name, "size": counted.total, "sha256": digest}


def _source(path: str) -> tuple[BinaryIO, int | None]:
    if path == "-":
        return sys.stdin.buffer, None
    import os

    file = open(path, "rb")  # noqa: SIM115 - the caller closes it
    return file, os.fstat(file.fileno()).st_size


async def get(session: Session, stream: "Stream", name: str, output: str, most: int, replacing: bool) -> dict[str, Any]:
    """Take a file from the other side, to ``output``: a path, or ``-`` for standard output."""
    import os

    write_line(stream, do="get", name=name)
    size = _agreed(await read_line(stream)).get("size")
    size = size if isinstance(size, int) and size >= 0 else None
    if most and size is not None and size > most:
        raise Unusable(f"the file has {size} bytes; --max-size allows {most}")
    with bar(session, name, size) as progress:
        counted = _Counter(progress)
        if output == "-":
            out = session.output.binary()
            digest = await read_file(stream, _bounded(out.write, most), counted)
            out.flush()
        else:
            folder = Folder(os.path.dirname(output) or ".", most, replacing=replacing)
            with folder.incoming(os.path.basename(output)) as arriving:
                digest = await read_file(stream, arriving.write, counted)
                await asyncio.to_thread(arriving.keep)
    with suppress(FrontierError):
        await stream.close()
    return {"name": name, "file": output, "size": counted.total, "sha256": digest}


async def names(stream: "Stream") -> list[dict[str, Any]]:
    """The files that the other side offers."""
    write_line(stream, do="list")
    found = _agreed(await read_line(stream)).get("files")
    with suppress(FrontierError):
        await stream.close()
    files = found if isinstance(found, list) else []
    return [
        {"name": str(each["name"]), "size": int(each["size"])}
        for each in files
        if isinstance(each, dict) and isinstance(each.get("name"), str) and isinstance(each.get("size"), int)
    ]


def checked_here(name: str) -> None:
    """Fail for a name that no receiver would take."""
    try:
        checked(name)
    except Unusable as error:
        fail(Exit.USAGE, f"{name!r}: {error}; --as gives another name")


def _agreed(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise Broken(f"the other side says no: {answer['error']}")
    return answer


def _bounded(write: Callable[[bytes], object], most: int) -> Callable[[bytes], object]:
    total = 0

    def bounded(data: bytes) -> None:
        nonlocal total
        total += len(data)
        if most and total > most:
            raise Unusable(f"the file is larger than --max-size, {most} bytes")
        write(data)

    return bounded


class _Counter:
    def __init__(self, progress: Progress) -> None:
        self.total = 0
        self._progress = progress

    def __call__(self, size: int) -> None:
        self.total += size
        self._progress(size)


class bar:  # noqa: N801 - used as a function
    """A progress bar on standard error, where a person looks at it."""

    def __init__(self, session: Session, title: str, size: int | None) -> None:
        self._shown: Any = None
        if session.output.bar_wanted:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
            from rich.progress import TransferSpeedColumn as Speed

            console = Console(stderr=True, no_color=session.output.colour is False)
            columns = [TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), Speed()]
            self._shown = Progress(*columns, TimeRemainingColumn(), console=console)
            self._task = self._shown.add_task(shown(title, 40), total=size)

    def __enter__(self) -> Progress:
        if self._shown is None:
            return lambda size: None
        self._shown.start()
        return lambda size: self._shown.advance(self._task, size)

    def __exit__(self, *exc: object) -> None:
        if self._shown is not None:
            self._shown.stop()


class FileServer:
    """Takes files into a folder, or gives those of one.

    :param taking: where files of peers go; None: none are taken. ``giving``: from where they are given.
    """

    def __init__(self, session: Session, taking: Folder | None = None, giving: Folder | None = None) -> None:
        self._session = session
        self._taking = taking
        self._giving = giving
        self._open = 0

    async def take(self, stream: "Stream") -> None:
        """Do what the opener of a stream asks for."""
        if self._open >= MOST_TRANSFERS:
            stream.abort("too many files at a time")
            return
        self._open += 1
        try:
            asked = await read_line(stream)
            try:
                await self._serve(stream, asked.get("do"), str(asked.get("name", "")))
            except Unusable as error:
                self._told(f"refused: {error}")
                write_line(stream, error=str(error))
            except OSError as error:
                if isinstance(error, TimeoutError):
                    raise
                self._told(f"cannot read or write: {error.strerror}")
                write_line(stream, error="it cannot be read or written here")
            await stream.close()
        except (FrontierError, Broken, asyncio.IncompleteReadError, TimeoutError) as error:
            self._told(f"given up: {shown(str(error)) or type(error).__name__}")
            stream.abort("given up")
        finally:
            self._open -= 1

    async def _serve(self, stream: "Stream", what: object, name: str) -> None:
        if what == "put" and self._taking is not None:
            with self._taking.incoming(name) as arriving:
                write_line(stream, ok=True)
                digest = await read_file(stream, arriving.write, lambda size: None)
                await asyncio.to_thread(arriving.keep)
            write_line(stream, ok=True, sha256=digest)
            self._record("received", name, arriving.size, digest)
        elif what == "get" and self._giving is not None:
            file, size = self._giving.outgoing(name)
            with file:
                write_line(stream, ok=True, size=size)
                digest = await write_file(stream, file, lambda size: None)
            self._record("gave", name, size, digest)
        elif what == "list" and self._giving is not None:
            write_line(stream, files=[{"name": each, "size": size} for each, size in self._giving.names()])
        else:
            raise Unusable("files are not taken here" if what == "put" else "no files are given here")

    def _told(self, text: str) -> None:
        self._session.output.note(f"frontier: {shown(text, 300)}")

    def _record(self, verb: str, name: str, size: int, digest: str) -> None:
        output = self._session.output
        if output.as_json:
            output.record({"event": verb, "name": name, "size": size, "sha256": digest})
        else:
            output.text(f"{verb} {shown(name)}  {amount(size)}  sha256 {digest}")
