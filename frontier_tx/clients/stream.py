"""A stream for Twisted: calls, messages and raw bytes of one session, which can also carry any Twisted protocol."""

from typing import Any

from twisted.internet.defer import Deferred

from frontier_tx.clients.core.operations import Message
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.clients.deferring import Deferring, deferred
from frontier_tx.clients.surface.streams import StreamFace
from frontier_tx.clients.transport import AnyProtocol, StreamTransport


class Stream(Deferring, StreamFace[Deferred[bytes], Deferred[None], Deferred[Message]]):
    """One stream. ``meta`` and ``peer`` are the opener's."""

    def __init__(self, session: StreamSession, reactor: Any) -> None:
        super().__init__(session)
        self.reactor = reactor

    def read(self, n: int = -1) -> Deferred[bytes]:
        """Return some bytes, at most ``n``; ``b""`` at the end. One read at a time.

        ForceClosed, with the reason, where nobody closed the stream in order: more was to come.
        """
        self._home.check()
        return deferred(lambda done: self.session.reading.read(n, done))

    def attach(self, protocol: AnyProtocol) -> StreamTransport:
        """Run a protocol over this stream; from now on its transport has all the raw bytes."""
        self._home.check()
        return StreamTransport(self.session, self.reactor, protocol)
