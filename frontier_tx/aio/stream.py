"""A stream for asyncio."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from frontier_tx.aio.futures import Handler, outcome
from frontier_tx.clients.channel import Channel
from frontier_tx.clients.operations import Message
from frontier_tx.clients.values import note
from frontier_tx.wire.errors import EndClosed, ForceClosed


class Speaker:
    """What an edge and a stream have in common: they speak on one session."""

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
            SendBufferFull.
        """
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

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            try:
                message = await self.receive()
            except EndClosed:
                return
            yield message


class Stream(Speaker, Messages):
    """One stream, read and written like asyncio's own: ``read``, ``readexactly``, ``write``, ``drain``, ``close``.

    ``meta`` and ``peer`` are the opener's.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._kept = b""
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
        message: Message = await outcome(self.channel.messages.take, self.channel.messages.put_back)
        return message

    async def register(
        self,
        method: str,
        handler: Handler,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as in call
    ) -> None:
        """Answer calls of this method on this stream."""
        note(self.channel.methods, method, handler)
        await outcome(lambda done: self.channel.register(method, done, timeout))

    def write(self, data: bytes) -> None:
        """Send bytes; await ``drain`` now and then.

        :raises EndClosed: the stream is over.
        :raises SendBufferFull: more waits than the bound allows.
        """
        self.channel.write(data)

    async def drain(self) -> None:
        """Return when little enough waits to be sent."""
        await outcome(lambda done: self.channel.drain(done))

    async def read(self, n: int = -1) -> bytes:
        """Return some bytes, at most ``n``; ``b""`` at the end. One read at a time.

        ForceClosed when the connection was lost and nobody closed the stream: more may have been on its way.
        """
        if self._kept and n:
            size = len(self._kept) if n < 0 else n
            data, self._kept = self._kept[:size], self._kept[size:]
            return data
        got: bytes = await outcome(lambda done: self.channel.read(n, done), self.channel.unread)
        return got

    async def readexactly(self, n: int) -> bytes:
        """Return exactly ``n`` bytes.

        :raises asyncio.IncompleteReadError: the stream ended before.
        :raises ForceClosed: the connection was lost before; ``read`` has what came of it.
        """
        parts: list[bytes] = []
        left = n
        while left:
            try:
                data = await self.read(left)
            except (asyncio.CancelledError, ForceClosed):
                self._kept = b"".join(parts) + self._kept
                raise
            if not data:
                raise asyncio.IncompleteReadError(b"".join(parts), n)
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    async def close(self) -> None:
        """Flush, then close both directions; returns when the other side knows, or after 30 s."""

        def start(done: Any) -> None:
            self.channel.close(done)

        await outcome(start)

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
