"""Messages that come, and streams."""

from collections.abc import AsyncIterator
from typing import Any, Generic, Self, cast

from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Done, Inbox
from frontier_tx.clients.core.operations import Message
from frontier_tx.clients.core.session import ClientSession
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.clients.core.values import note, string
from frontier_tx.clients.surface.flavour import (
    Flavour,
    GivesBytes,
    GivesMessage,
    GivesNothing,
    Handle,
    Handler,
    Registering,
)
from frontier_tx.clients.surface.speaking import Speaker
from frontier_tx.errors import EndClosed


class Messages(Flavour, Generic[GivesMessage]):
    """Gives messages: ``receive``, and ``async for``."""

    def _messages(self) -> Inbox[Message]:
        raise NotImplementedError

    def receive(self) -> GivesMessage:
        """Return the next message, to be answered with ``ack()`` or ``fail(text)``; EndClosed when there is none.

        A client waits across reconnects, until it is closed for good. One that leaves messages lying stops reading at
        ``Bounds.messages``: answers to its calls then wait too. A wait that is given up takes none away.
        """
        result: GivesMessage = self._next(self._messages(), lambda message: message)
        return result

    def __aiter__(self) -> AsyncIterator[Message]:
        return Arriving(self)


class Arriving(AsyncIterator[Message]):
    """Messages until there are no more of them.

    No generator: that would be over with the first step that somebody gives up.
    """

    def __init__(self, source: Messages[Any]) -> None:
        self._source = source

    async def __anext__(self) -> Message:
        try:
            return cast("Message", await self._source.receive())
        except EndClosed:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Do nothing; closing helpers for generators call it."""


class StreamFace(Speaker[GivesBytes, GivesNothing], Messages[GivesMessage], Registering[GivesNothing]):
    """One stream. ``meta`` and ``peer`` are the opener's."""

    def __init__(self, session: StreamSession) -> None:
        self.session = session
        self._home: Home = session.connection.home
        session.owner = self

    @property
    def meta(self) -> bytes:
        """What the opener said of it."""
        return self.session.wire.meta

    @property
    def peer(self) -> str:
        """Whom the opener opened it to: a service's name or an edge's id in decimal; may be empty at the acceptor."""
        return self.session.wire.peer

    @property
    def id(self) -> int:
        """Session id, on this connection."""
        return self.session.wire.id

    @property
    def open(self) -> bool:
        """Whether something can be sent."""
        return self.session.open

    def _session(self) -> ClientSession:
        return self.session

    def _messages(self) -> Inbox[Message]:
        return self.session.messages

    def _register(self, method: str, handler: Handler, done: Done, timeout: float | None) -> Handle:
        note(self.session.methods, method, handler)
        return self.session.register(method, done, timeout)

    def write(self, data: bytes) -> None:
        """Send bytes; wait for ``drain`` now and then. What the other side does not take yet follows by itself.

        :raises EndClosed: the stream is over.
        :raises SendBufferFull: more waits than the bound allows.
        """
        self._home.check()
        self.session.write(data)

    def drain(self) -> GivesNothing:
        """Done when little enough waits to be sent; EndClosed or ForceClosed when the stream is over."""
        result: GivesNothing = self._begin(self.session.drain)
        return result

    def close(self) -> GivesNothing:
        """Send what was written, then close both directions; what was not read is discarded.

        Done when the other side knows, after 30 s when it does not answer. Where it takes nothing more for 3 s this
        is done too, and the rest follows when it goes on. ForceClosed where what was written cannot have come to it.
        """
        result: GivesNothing = self._begin(self.session.close)
        return result

    def abort(self, reason: str = "") -> None:
        """End it at once: what waits is neither sent nor read. The other side reads ForceClosed, with this reason."""
        self._home.check()
        self.session.abort(string(reason, "reason"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        # What was written only in part must not look complete.
        if kind is None:
            await cast("Any", self.close())
        else:
            self.abort()
