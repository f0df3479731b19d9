"""A stream for Twisted: calls, messages and raw bytes of one session, which can also carry any Twisted protocol."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from frontier_tx.clients.arriving import Arriving
from frontier_tx.clients.core.channel import Channel
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Done
from frontier_tx.clients.core.operations import Message, Pending
from frontier_tx.clients.core.stream_channel import StreamChannel
from frontier_tx.clients.core.values import note, string
from frontier_tx.clients.deferring import Handler, deferred

if TYPE_CHECKING:
    from frontier_tx.clients.transport import AnyProtocol, StreamTransport


class Speaker:
    """What an edge and a stream have in common: they speak on one session."""

    _home: Home

    def _channel(self) -> Channel:
        raise NotImplementedError

    def call(
        self,
        method: str,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> "Deferred[bytes]":
        """Call a method of the other side.

        Cancelling the Deferred withdraws the call. There is no default timeout.

        :param timeout: seconds; then it fails with ``OperationTimeout``.
        :param deadline: Unix seconds; then it fails with ``DeadlineExceeded``.
        :return: the answer; or RemoteError with the text that the other side gave, ForceClosed when the connection
            ended meanwhile, EndClosed when there is none, PayloadTooLarge, TooManyPending, SendBufferFull.
        :raises RuntimeError: (like every method) this is not the reactor's thread, or a fork of the process.
        """
        self._home.check()
        return deferred(
            lambda done: self._channel().call(method, data, done, custom=custom, timeout=timeout, deadline=deadline)
        )

    def publish(
        self,
        topic: str,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        at_most_once: bool = False,
    ) -> "Deferred[None]":
        """Send a message; the Deferred fires when the receiver acknowledged it, with its error if it refused.

        With ``at_most_once`` it fires at once. The other parameters and errors are those of ``call``.
        """
        self._home.check()
        return deferred(
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

    def receive(self) -> "Deferred[Message]":
        """Return the next message, to be answered with ``ack()`` or ``fail(text)``; EndClosed when there is none."""
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[Message]:
        return Arriving(self)


class Stream(Speaker, Messages):
    """One stream. ``meta`` and ``peer`` are the opener's."""

    def __init__(self, channel: StreamChannel, reactor: Any) -> None:
        self.channel = channel
        self._home = channel.home
        self.reactor = reactor
        channel.owner = self

    @property
    def meta(self) -> bytes:
        """What the opener said of it."""
        return self.channel.session.meta

    @property
    def peer(self) -> str:
        """Whom the opener opened it to: a service's name or an edge's id in decimal; may be empty at the acceptor."""
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

    def receive(self) -> "Deferred[Message]":
        self._home.check()
        return deferred(self.channel.messages.take)

    def register(self, method: str, handler: Handler, *, timeout: float | None = None) -> "Deferred[None]":
        """Answer calls of this method on this stream."""

        def start(done: Done) -> Pending:
            note(self.channel.methods, method, handler)
            return self.channel.register(method, done, timeout)

        self._home.check()
        return deferred(start)

    def write(self, data: bytes) -> None:
        """Send bytes; wait for ``drain`` now and then. What the other side does not take yet follows by itself.

        :raises EndClosed: the stream is over.
        :raises SendBufferFull: more waits than the bound allows.
        """
        self._home.check()
        self.channel.write(data)

    def drain(self) -> "Deferred[None]":
        """Fires when little enough waits to be sent; EndClosed or ForceClosed when the stream is over."""
        self._home.check()
        return deferred(lambda done: self.channel.drain(done))

    def read(self, n: int = -1) -> "Deferred[bytes]":
        """Return some bytes, at most ``n``; ``b""`` at the end. One read at a time.

        ForceClosed, with the reason, where nobody closed the stream in order: more was to come.
        """
        self._home.check()
        return deferred(lambda done: self.channel.reading.read(n, done))

    def close(self) -> "Deferred[None]":
        """Send what was written, then close both directions; what was not read is discarded.

        Fires when the other side knows, after 30 s when it does not answer. Where it takes nothing more for 3 s this
        fires too, and the rest follows when it goes on. ForceClosed where what was written cannot have come to it.
        """

        def start(done: Done) -> None:
            self.channel.close(done)

        self._home.check()
        return deferred(start)

    def abort(self, reason: str = "") -> None:
        """End it at once: what waits is neither sent nor read. The other side reads ForceClosed, with this reason."""
        self._home.check()
        self.channel.abort(string(reason, "reason"))

    def attach(self, protocol: "AnyProtocol") -> "StreamTransport":
        """Run a protocol over this stream; from now on its transport has all the raw bytes."""
        from frontier_tx.clients.transport import StreamTransport

        self._home.check()
        return StreamTransport(self, protocol)

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        # What somebody failed to write to the end must not look complete.
        if kind is None:
            await self.close()
        else:
            self.abort()
