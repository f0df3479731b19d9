"""A stream for asyncio."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from frontier_tx.aio.futures import Handler, arrival, outcome, taken
from frontier_tx.clients.arriving import Arriving
from frontier_tx.clients.core.channel import Channel
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.operations import Message
from frontier_tx.clients.core.reading import checked
from frontier_tx.clients.core.stream_channel import StreamChannel
from frontier_tx.clients.core.values import note, string


class Speaker:
    """What an edge and a stream have in common: they speak on one session."""

    _home: Home

    def _channel(self) -> Channel:
        raise NotImplementedError

    async def call(
        self,
        method: str,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the peer is told of it
        deadline: float | None = None,
    ) -> bytes:
        """Call a method of the other side; cancelling the task withdraws the call. There is no default timeout.

        :param timeout: seconds; then OperationTimeout. :param deadline: Unix seconds; then DeadlineExceeded.
        :raises RemoteError: the other side's text; besides ForceClosed, EndClosed, PayloadTooLarge, TooManyPending,
            SendBufferFull; and, like every method, RuntimeError in another loop, thread or process.
        """
        self._home.check()
        value: bytes = await outcome(
            lambda done: self._channel().call(method, data, done, custom=custom, timeout=timeout, deadline=deadline)
        )
        return value

    async def publish(
        self,
        topic: str,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the peer is told of it
        deadline: float | None = None,
        at_most_once: bool = False,
    ) -> None:
        """Send a message and wait until the receiver acknowledged it; with ``at_most_once`` do not wait."""
        self._home.check()
        await outcome(
            lambda done: self._channel().publish(
                topic,
                data,
                done,
                custom=custom,
                timeout=timeout,
                deadline=deadline,
                at_most_once=at_most_once,
            )
        )


class Messages:
    """What yields messages: ``receive``, and ``async for``."""

    async def receive(self) -> Message:
        """Return the next message, to be answered with ``ack()`` or ``fail(text)``; EndClosed when there is none."""
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[Message]:
        return Arriving(self)


class Stream(Speaker, Messages):
    """One stream, read and written like asyncio's own: ``read``, ``readexactly``, ``write``, ``drain``, ``close``.

    ``meta`` and ``peer`` are the opener's.
    """

    def __init__(self, channel: StreamChannel) -> None:
        self.channel = channel
        self._home = channel.home
        channel.owner = self

    @property
    def meta(self) -> bytes:
        """What the opener said of it."""
        return self.channel.session.meta

    @property
    def peer(self) -> str:
        """Whom the opener opened it to; may be empty at the acceptor."""
        return self.channel.session.peer

    @property
    def id(self) -> int:
        """Session id, on this connection."""
        return self.channel.session.id

    @property
    def open(self) -> bool:
        """Whether something can be sent."""
        return self.channel.open

    def _channel(self) -> Channel:
        return self.channel

    async def receive(self) -> Message:
        self._home.check()
        return await taken(self.channel.messages)

    async def register(
        self,
        method: str,
        handler: Handler,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as in call
    ) -> None:
        """Answer calls of this method on this stream."""
        self._home.check()
        note(self.channel.methods, method, handler)
        await outcome(lambda done: self.channel.register(method, done, timeout))

    def write(self, data: bytes) -> None:
        """Send bytes; await ``drain`` now and then. What the other side does not take yet follows by itself.

        :raises EndClosed: the stream is over.
        :raises SendBufferFull: more waits than the bound allows.
        """
        self._home.check()
        self.channel.write(data)

    async def drain(self) -> None:
        """Return when little enough waits to be sent; EndClosed or ForceClosed when the stream is over."""
        self._home.check()
        await outcome(self.channel.drain)

    async def read(self, n: int = -1) -> bytes:
        """Return some bytes, at most ``n``; ``b""`` at the end. One read at a time; one that is given up takes nothing.

        ForceClosed, with the reason, where nobody closed the stream in order: more was to come.
        """
        self._home.check()
        return await self._read(checked(n), exactly=False)

    async def readexactly(self, n: int) -> bytes:
        """Return exactly ``n`` bytes. One that is given up takes nothing.

        :raises asyncio.IncompleteReadError: the stream ended before.
        :raises ForceClosed: it was cut before; ``read`` has what came of it.
        """
        self._home.check()
        if checked(n) < 0:
            raise ValueError(f"readexactly: {n} bytes cannot be read")
        return await self._read(n, exactly=True)

    async def _read(self, n: int, exactly: bool) -> bytes:
        reading = self.channel.reading
        parts: list[bytes] = []
        left = n
        reading.begin()
        try:
            while left:
                while not reading.ready:
                    await arrival(reading.wait)
                data = reading.take(left)
                if not exactly:
                    return data
                if not data:
                    partial, parts = b"".join(parts), []
                    raise asyncio.IncompleteReadError(partial, n)
                parts.append(data)
                left -= len(data)
        except BaseException:
            reading.put_back(b"".join(parts))
            raise
        finally:
            reading.finish()
        return b"".join(parts)

    async def close(self) -> None:
        """Send what was written, then close both directions; what was not read is discarded.

        Returns when the other side knows, after 30 s when it does not answer. Where it takes nothing more for 3 s this
        returns too, and the rest follows when it goes on.

        :raises ForceClosed: what was written cannot have come to it.
        """

        def start(done: Any) -> None:
            self.channel.close(done)

        self._home.check()
        await outcome(start)

    def abort(self, reason: str = "") -> None:
        """End it at once: what waits is neither sent nor read. The other side reads ForceClosed, with this reason."""
        self._home.check()
        self.channel.abort(string(reason, "reason"))

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        # What somebody failed to write to the end must not look complete.
        if kind is None:
            await self.close()
        else:
            self.abort()
