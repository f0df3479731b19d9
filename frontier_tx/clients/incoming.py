"""What comes to a client of Twisted, whatever number of connections it comes from: messages, streams, presence."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Done, Intake
from frontier_tx.clients.core.operations import Message
from frontier_tx.clients.core.presence import EdgeEvent, event_handler, id_handler
from frontier_tx.clients.core.stream_channel import StreamChannel
from frontier_tx.clients.core.values import callback as checked
from frontier_tx.clients.deferring import Handler, deferred, started
from frontier_tx.clients.stream import Messages, Stream


class Incoming(Messages):
    """Takes from an intake."""

    log = Logger(namespace="frontier.client")
    intake: Intake
    reactor: Any
    _home: Home

    def receive(self) -> "Deferred[Message]":
        """Return the next message, to be answered with ``ack()`` or ``fail(text)``.

        It waits across reconnects, and fails with EndClosed when the client is closed for good. A client that leaves
        messages lying stops reading at ``Bounds.messages``: answers to its calls then wait too. A wait that is given up
        takes none away.
        """
        self._home.check()
        return deferred(self.intake.messages.take)

    def accept_stream(self) -> "Deferred[Stream]":
        """Return the next stream that the other side opened."""
        self._home.check()
        return deferred(lambda done: self.intake.streams.take(self._streaming(done)))

    def on_stream(self, callback: Callable[[Stream], Any] | None) -> None:
        """Give each stream, those that wait included, to ``callback``; None: let them wait for ``accept_stream``.

        The callback may be a coroutine function. Where it fails the stream is cut, and the log says why.
        """
        self._home.check()
        if callback is None:
            self.intake.on_stream = None
            return
        taken = checked(callback, "on_stream")

        def accepted(channel: StreamChannel) -> None:
            def failed(failure: Failure) -> None:
                self.log.failure("on_stream failed; the stream is closed", failure)
                channel.abort()

            try:
                started(taken(self._stream(channel)), failed)
            except Exception:
                failed(Failure())  # type: ignore[no-untyped-call]

        self.intake.serve(accepted)

    def _stream(self, channel: StreamChannel) -> Stream:
        return channel.owner if channel.owner is not None else Stream(channel, self.reactor)

    def _streaming(self, done: Done) -> Done:
        def opened(channel: Any, error: Exception | None) -> None:
            done(None if channel is None else self._stream(channel), error)

        return opened


class Presence:
    """How a service hands out edge ids and follows who is online."""

    _home: Home

    def register(self, method: str, handler: Handler, *, timeout: float | None = None) -> "Deferred[None]":
        """Answer calls of this method."""
        raise NotImplementedError

    def register_get_edge_id(self, function: Callable[[bytes], Any]) -> "Deferred[None]":
        """Let ``function(meta)`` give edges their ids: it returns one, or 0 to let the gateway allocate it.

        What it raises refuses the edge; it reads the text of a ``HandlerError``, of anything else a reference number
        that stands in the log. Like every handler it may return a Deferred or a coroutine.
        """
        self._home.check()
        return maybeDeferred(lambda: self.register("get_edge_id", id_handler(function)))

    def register_edge_online(self, function: Callable[[EdgeEvent], Any]) -> "Deferred[None]":
        """Let ``function(event)`` know of each edge before it is let in; what it raises refuses it, see above."""
        self._home.check()
        return maybeDeferred(lambda: self.register("edge_online", event_handler(function)))

    def register_edge_offline(self, function: Callable[[EdgeEvent], Any]) -> "Deferred[None]":
        """Let ``function(event)`` know of each edge that left."""
        self._home.check()
        return maybeDeferred(lambda: self.register("edge_offline", event_handler(function)))
