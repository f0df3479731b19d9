"""A stream as a Twisted transport, and streams as endpoints: any protocol runs over them unchanged."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import BaseProtocol, Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.clients.core.intake import ignore
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.errors import OperationError

# Without the mypy plugin of zope.interface Twisted's classes do not count as what they implement.
AnyFactory: TypeAlias = "IProtocolFactory | Factory[Any]"
AnyProtocol: TypeAlias = IProtocol | BaseProtocol


class AnyStream(Protocol):
    """A stream of a client."""

    session: StreamSession
    reactor: Any


class StreamClient(Protocol):
    """A client that opens streams and is opened some."""

    def open_stream(self, target: str, meta: bytes = b"") -> "Deferred[Any]":
        """Open one."""

    def on_stream(self, callback: Callable[[Any], Any] | None) -> None:
        """Give those that come to ``callback``."""


@implementer(IAddress)
class StreamAddress:
    """Names a stream: the session id, and whom it was opened to."""

    def __init__(self, peer: str, session_id: int) -> None:
        self.peer = peer
        self.session_id = session_id

    def __repr__(self) -> str:
        return f"StreamAddress({self.peer!r}, {self.session_id})"


@implementer(ITransport, IConsumer, IPushProducer)
class StreamTransport:
    """Carries a protocol over a stream.

    ``loseConnection`` sends what was written and closes the stream; there is no half-close. A registered producer is
    paused while the connection has much to send, or the far side does not take it. While this transport is paused what
    comes is kept, and at the stream's bound its writer waits (where the gateway speaks no credit: the whole
    connection stops reading).
    """

    log = Logger(namespace="frontier.client")
    disconnecting = False
    disconnected = False

    def __init__(
        self, session: StreamSession, reactor: Any, protocol: AnyProtocol, on_end: Callable[[], None] | None = None
    ) -> None:
        self.session = session
        self._reactor = reactor
        self.protocol: Any = protocol
        self._on_end = on_end
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False
        self._pulling = False
        protocol.makeConnection(self)
        session.reading.flow_to(self._took)

    # -- ITransport ---------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send; after the end it does nothing, as on any transport."""
        if self.disconnecting or self.disconnected or not self.session.open:
            return
        try:
            self.session.write(data)
        except OperationError as error:
            self._abort(ConnectionLost(str(error)), str(error))
            return
        self._hold_producer()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of it."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when a registered producer is done and everything is sent."""
        if not self.disconnecting:
            self.disconnecting = True
            if self._producer is None:
                self._close()

    def _close(self) -> None:
        session = self.session
        if session.ended:
            self._reactor.callLater(0, self._closed, None, session.reading.error)
            return
        # It is told of the end also while it is paused, and whether all that was written has gone out.
        session.reading.on_bytes = _drop
        session.close(self._closed, at_the_end=True)

    def _closed(self, result: None, error: Exception | None) -> None:
        self._ended(Failure(ConnectionDone() if error is None else ConnectionLost(str(error))))  # type: ignore[no-untyped-call]

    def abortConnection(self) -> None:
        """End it at once: what waits is neither sent nor received, and the other side reads that it was cut."""
        self._abort(ConnectionAborted())

    def _abort(self, reason: Exception, why: str = "") -> None:
        self.disconnecting = True
        # What it tells of its end is not why.
        self.session.reading.on_bytes = _drop
        self.session.abort(why)
        # In a turn of its own, as a protocol does not expect to hear of it inside its own call.
        self._reactor.callLater(0, self._ended, Failure(reason))  # type: ignore[no-untyped-call]

    def getPeer(self) -> StreamAddress:
        """The stream's address."""
        return _address(self.session)

    def getHost(self) -> StreamAddress:
        """The stream's address."""
        return _address(self.session)

    # -- IConsumer ----------------------------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let ``producer`` write as fast as the connection sends."""
        if self._producer is not None:
            raise RuntimeError(f"a producer is registered already: {self._producer!r}")
        if self.disconnected or not self.session.open:
            producer.stopProducing()
            return
        self._producer = producer
        self.session.writers += 1
        self._streaming = streaming
        if not streaming:
            self._pull()

    def unregisterProducer(self) -> None:
        """The producer has written all it had."""
        self._take_producer()
        self._producer_paused = False
        if self.disconnecting:
            self._close()

    def _take_producer(self) -> Any:
        producer, self._producer = self._producer, None
        if producer is not None:
            self.session.writers -= 1
        return producer

    @property
    def _full(self) -> bool:
        return self.session.backlog > self.session.connection.bounds.high_water

    def _hold_producer(self) -> None:
        if self._producer is None:
            return
        if not self._streaming:
            self._pull()
        elif not self._producer_paused and self._full:
            self._producer_paused = True
            self.session.drain(self._drained)
            self._producer.pauseProducing()

    def _drained(self, result: None, error: Exception | None) -> None:
        if self._producer is None or error is not None:
            return
        if not self._streaming:
            self._pull()
        elif self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()

    def _pull(self) -> None:
        # In a turn of its own: a producer that writes at once must not re-enter this method.
        if not self._pulling:
            self._pulling = True
            self._reactor.callLater(0, self._pull_now)

    def _pull_now(self) -> None:
        self._pulling = False
        if self._producer is None or self.disconnected:
            return
        if self._full:
            self.session.drain(self._drained)
        else:
            self._producer.resumeProducing()

    # -- IPushProducer ------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Give the protocol nothing until ``resumeProducing``."""
        if self.session.reading.on_bytes is not _drop:
            self.session.reading.flow_to(None)

    def resumeProducing(self) -> None:
        """Go on."""
        if not self.disconnected and self.session.reading.on_bytes is not _drop:
            self.session.reading.flow_to(self._took)

    def stopProducing(self) -> None:
        """The protocol wants nothing more."""
        self.loseConnection()

    # -- what comes ---------------------------------------------------------------------------------------

    def _took(self, data: bytes | None) -> None:
        if self.disconnected:
            return
        if data is None:
            cut = self.session.reading.error
            self._ended(Failure(ConnectionDone() if cut is None else ConnectionLost(str(cut))))  # type: ignore[no-untyped-call]
            return
        try:
            self.protocol.dataReceived(data)
        except Exception:
            # As on any transport, a protocol that fails loses its connection: only this stream.
            failure = Failure()  # type: ignore[no-untyped-call]
            self.log.failure("a protocol on a stream failed; the stream is closed", failure)
            self.disconnecting = True
            self.session.reading.on_bytes = _drop
            self.session.abort()
            self._ended(failure)

    def _ended(self, reason: Failure) -> None:
        if self.disconnected:
            return
        self.disconnected = True
        producer = self._take_producer()
        if producer is not None:
            producer.stopProducing()
        try:
            self.protocol.connectionLost(reason)
        except Exception:
            self.log.failure("a protocol on a stream failed at its end")
        if self._on_end is not None:
            self._on_end()


@implementer(IStreamClientEndpoint)
class StreamClientEndpoint:
    """Connects a protocol by opening a stream.

    :param target: a service's name (from an edge), an edge's id (from a service).
    """

    def __init__(self, client: StreamClient, target: str | int, meta: bytes = b"") -> None:
        self._client = client
        self._target = target
        self._meta = meta

    def connect(self, protocolFactory: AnyFactory) -> "Deferred[IProtocol]":
        """Open a stream and run the factory's protocol over it."""

        def attach(stream: AnyStream) -> IProtocol:
            protocol = None
            try:
                protocol = _build(protocolFactory, stream, protocolFactory.doStop)
            finally:
                if protocol is None:
                    stream.session.close(ignore)
            if protocol is None:
                raise NoProtocol
            return protocol

        def failed(failure: Failure) -> Failure:
            protocolFactory.doStop()
            return failure

        protocolFactory.doStart()
        opening: Deferred[AnyStream] = self._client.open_stream(str(self._target), self._meta)
        return opening.addCallback(attach).addErrback(failed)


@implementer(IStreamServerEndpoint)
class StreamServerEndpoint:
    """Serves a factory on every stream that the other side opens."""

    def __init__(self, client: StreamClient) -> None:
        self._client = client

    def listen(self, protocolFactory: AnyFactory) -> "Deferred[IListeningPort]":
        """From now on each accepted stream gets a protocol of the factory."""
        port = StreamPort(self._client, protocolFactory)
        port.startListening()
        return succeed(port)


@implementer(IListeningPort)
class StreamPort:
    """Hands accepted streams to a factory."""

    def __init__(self, client: StreamClient, factory: AnyFactory) -> None:
        self._client = client
        self._factory = factory

    def startListening(self) -> None:
        """Begin."""
        self._factory.doStart()
        self._client.on_stream(self._accepted)

    def stopListening(self) -> "Deferred[None]":
        """Further streams wait for ``accept_stream`` again; open ones go on."""
        self._client.on_stream(None)
        self._factory.doStop()
        return succeed(None)

    def getHost(self) -> StreamAddress:
        """An address without a stream."""
        return StreamAddress("", 0)

    def _accepted(self, stream: AnyStream) -> None:
        if _build(self._factory, stream) is None:
            stream.session.close(ignore)


def _address(session: StreamSession) -> StreamAddress:
    return StreamAddress(session.wire.peer, session.wire.id)


def _drop(data: bytes | None) -> None:
    """Drop it."""


def _build(factory: AnyFactory, stream: AnyStream, on_end: Callable[[], None] | None = None) -> IProtocol | None:
    build: Callable[[IAddress], IProtocol | None] = factory.buildProtocol
    protocol = build(_address(stream.session))
    if protocol is not None:
        StreamTransport(stream.session, stream.reactor, protocol, on_end)
    return protocol
