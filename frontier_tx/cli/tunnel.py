"""TCP over streams: one stream for each connection. docs/command-line.md, "Forwarding", says what travels.

A stream begins with the line ``tcp:TARGET``. Bytes go as they are. A stream closes in both directions at once, TCP does
not: who has sent all of it publishes the message ``eof`` on the stream, with the number of bytes in decimal, and
reads on.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from frontier_tx.cli.failures import Exit, fail, reason
from frontier_tx.cli.session import Session
from frontier_tx.cli.text import shown
from frontier_tx.errors import FrontierError

if TYPE_CHECKING:
    from frontier_tx.aio import Stream

PREFIX = b"tcp:"
EOF = "eof"
BLOCK = 1 << 16
#: Connections of one command at a time.
MOST = 512
#: Seconds for connecting to what is exposed.
CONNECT_SECONDS = 10.0


def host_and_port(text: str, host: str = "127.0.0.1") -> tuple[str, int]:
    """Split ``80``, ``host:80`` or ``[::1]:80``; Failure where it is none."""
    before, mark, port = text.rpartition(":")
    if port.isascii() and port.isdigit() and int(port) < 65536 and (before or not mark):
        return (before.removeprefix("[").removesuffix("]") if mark else host), int(port)
    return fail(Exit.USAGE, f"{text!r} is neither a port nor HOST:PORT")


def forwarding(text: str) -> tuple[str, int, str, str]:
    """Split ``[BIND:]PORT:PEER:TARGET`` into bind address, port, peer and target; Failure where it is none."""
    bind = "127.0.0.1"
    rest = text
    if not text.partition(":")[0].isdigit():
        if text.startswith("["):
            bind, _, rest = text[1:].partition("]:")
        else:
            bind, _, rest = text.partition(":")
    port, _, rest = rest.partition(":")
    peer, _, target = rest.partition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536 and peer and target):
        fail(Exit.USAGE, f"{text!r} is no forwarding: expected [BIND:]PORT:WHO:[HOST:]PORT, such as 8080:42:80")
    host_and_port(target)
    return bind, int(port), peer, target


def reset(writer: asyncio.StreamWriter) -> None:
    """Cut a connection so that its peer does not take what came for complete."""
    near: socket.socket | None = writer.get_extra_info("socket")
    if near is not None:
        with suppress(OSError):
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class _Closed(Exception):
    """The other side closed the stream: nothing comes, and nothing can be sent."""


async def relay(stream: "Stream", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes both ways until both ends have sent all of theirs, or one of them is cut."""
    tasks = [asyncio.create_task(_up(stream, reader)), asyncio.create_task(_down(stream, writer))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        with suppress(_Closed):
            for task in done:
                task.result()
        await stream.close()
    except BaseException as error:
        stream.abort("" if isinstance(error, FrontierError) else "the connection was cut")
        reset(writer)
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _up(stream: "Stream", reader: asyncio.StreamReader) -> None:
    sent = 0
    # What becomes of a stream that ended is for the other direction to say. An end that does not know of halves ends it
    # when it is done.
    with suppress(FrontierError):
        while data := await reader.read(BLOCK):
            stream.write(data)
            await stream.drain()
            sent += len(data)
        await stream.publish(EOF, str(sent).encode(), timeout=30)


async def _down(stream: "Stream", writer: asyncio.StreamWriter) -> None:
    end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    told = asyncio.create_task(_hear_end(stream, end))
    got = 0
    try:
        while not end.done() or got < end.result():
            reading = asyncio.ensure_future(stream.read(BLOCK))
            try:
                if not end.done():
                    both: set[asyncio.Future[Any]] = {reading, end}
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                    if not reading.done() and got >= end.result():
                        break
                data = await reading
            finally:
                # A read that is given up takes nothing.
                if not reading.done():
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
            if not data:
                raise _Closed
            got += len(data)
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()
    finally:
        told.cancel()
        await asyncio.gather(told, return_exceptions=True)


async def _hear_end(stream: "Stream", end: "asyncio.Future[int]") -> None:
    while True:
        message = await stream.receive()
        if message.topic != EOF or not message.data.isdigit() or len(message.data) > 20 or end.done():
            message.fail("not a message of a forwarded connection")
            continue
        message.ack()
        end.set_result(int(message.data))


class Forwarder:
    """Listens, and opens a stream for each connection.

    :param opening: opens a stream, with its meta.
    """

    def __init__(
        self, session: Session, title: str, target: str, opening: Callable[[bytes], Awaitable["Stream"]]
    ) -> None:
        self._session = session
        self._title = title
        self._meta = PREFIX + target.encode()
        self._opening = opening
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, bind: str, port: int) -> asyncio.Server:
        """Begin; Failure where the port is taken."""
        try:
            server = await asyncio.start_server(self._connected, bind, port)
        except OSError as error:
            fail(Exit.USAGE, f"cannot listen on {bind}:{port}: {reason(error)}")
        return server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= MOST:
            self._session.output.note(f"frontier: {MOST} connections are open, one more is turned away")
            reset(writer)
            return
        self._tasks.add(task)
        try:
            stream = await self._opening(self._meta)
            await relay(stream, reader, writer)
        except (FrontierError, OSError) as error:
            reset(writer)
            self._session.output.note(f"frontier: {self._title}: {shown(str(error)) or type(error).__name__}")
        finally:
            self._tasks.discard(task)


class Exposed:
    """Takes streams to targets that are listed here.

    :param targets: ``80``, ``HOST:80``, or ``NAME=HOST:80`` where openers shall say something else than they get.
    """

    def __init__(self, session: Session, targets: tuple[str, ...]) -> None:
        self._session = session
        self._targets: dict[str, tuple[str, int]] = {}
        for text in targets:
            name, mark, target = text.partition("=")
            self._targets[_plain(name)] = host_and_port(target if mark else name)
        self._open = 0

    async def take(self, stream: "Stream", wanted: str) -> None:
        """Connect a stream to what it asks for."""
        target = self._targets.get(_plain(wanted))
        if target is None:
            self._session.output.note(f"frontier: refused: {shown(wanted, 200)} is not exposed")
            stream.abort("it is not exposed")
            return
        if self._open >= MOST:
            stream.abort("too many connections")
            return
        self._open += 1
        try:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(*target)
            except OSError as error:
                why = "no answer in time" if isinstance(error, TimeoutError) else reason(error)
                self._session.output.note(f"frontier: cannot connect to {target[0]}:{target[1]}: {why}")
                stream.abort(f"cannot connect to {shown(wanted, 200)}")
                return
            await relay(stream, reader, writer)
        except (FrontierError, OSError) as error:
            self._session.output.note(f"frontier: {shown(wanted, 200)}: {shown(str(error)) or type(error).__name__}")
        finally:
            self._open -= 1


def _plain(target: str) -> str:
    """A target in one spelling: a port alone is one of this machine."""
    return target.removeprefix("127.0.0.1:").removeprefix("localhost:")
