"""What comes to a client of asyncio, whatever number of connections it comes from: messages, streams, presence."""

import logging
from collections.abc import Callable
from typing import Any

from frontier_tx.aio.futures import Handler, Tasks, taken
from frontier_tx.aio.stream import Messages, Stream
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Intake
from frontier_tx.clients.core.operations import Message
from frontier_tx.clients.core.presence import EdgeEvent, event_handler, id_handler
from frontier_tx.clients.core.stream_channel import StreamChannel
from frontier_tx.clients.core.values import callback as checked

log = logging.getLogger("frontier.client")


class Incoming(Messages):
    """Takes from an intake."""

    intake: Intake
    _home: Home
    _tasks: Tasks

    async def receive(self) -> Message:
        """Return the next message, to be answered with ``ack()`` or ``fail(text)``.

        It waits across reconnects, and raises EndClosed when the client is closed for good. A client that leaves
        messages lying stops reading at ``Bounds.messages``: answers to its calls then wait too. A wait that is given up
        takes none away.
        """
        self._home.settle()
        message: Message = await taken(self.intake.messages)
        return message

    async def accept_stream(self) -> Stream:
        """Return the next stream that the other side opened."""
        self._home.settle()
        return stream_of(await taken(self.intake.streams))

    def on_stream(self, callback: Callable[[Stream], Any] | None) -> None:
        """Give each stream, those that wait included, to ``callback``; None: let them wait for ``accept_stream``.

        The callback may be a coroutine function. Where it fails the stream is cut, and the log says why.
        """
        self._home.check()
        if callback is None:
            self.intake.on_stream = None
            return
        given = checked(callback, "on_stream")

        def accepted(channel: StreamChannel) -> None:
            def failed(error: BaseException) -> None:
                log.error("on_stream failed; the stream is closed", exc_info=error)
                channel.abort()

            def cancelled() -> None:
                # What it was about to write is not to look complete.
                if channel.open:
                    channel.abort()

            self._tasks.begin(failed, cancelled, given, stream_of(channel))

        self.intake.serve(accepted)


class Presence:
    """How a service hands out edge ids and follows who is online."""

    async def register(
        self,
        method: str,
        handler: Handler,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as in Client
    ) -> None:
        """Answer calls of this method."""
        raise NotImplementedError

    async def register_get_edge_id(self, function: Callable[[bytes], Any]) -> None:
        """Let ``function(meta)`` give edges their ids: it returns one, or 0 to let the gateway allocate it.

        What it raises refuses the edge; it reads the text of a ``HandlerError``, of anything else a reference number
        that stands in the log. Like every handler it may be a coroutine function.
        """
        await self.register("get_edge_id", id_handler(function))

    async def register_edge_online(self, function: Callable[[EdgeEvent], Any]) -> None:
        """Let ``function(event)`` know of each edge before it is let in; what it raises refuses it, see above."""
        await self.register("edge_online", event_handler(function))

    async def register_edge_offline(self, function: Callable[[EdgeEvent], Any]) -> None:
        """Let ``function(event)`` know of each edge that left."""
        await self.register("edge_offline", event_handler(function))


def stream_of(channel: StreamChannel) -> Stream:
    """The one stream of a channel."""
    return channel.owner if channel.owner is not None else Stream(channel)


def abandon(channel: StreamChannel) -> None:
    """End a stream that nobody is going to use."""
    channel.abort()
