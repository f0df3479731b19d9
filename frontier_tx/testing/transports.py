"""Transports in memory: what one end writes the other end receives in a later turn of a clock."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

#: A writer's producer is paused while more than this many bytes wait for the reader, as with a socket's buffers.
HIGH_WATER = 262_144

_ports = itertools.cycle(range(40_000, 65_000))


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryTransport:
    """One end of a connection.

    :param clock: delivers in turns of it.
    """

    disconnecting = False

    def __init__(self, clock: IReactorTime, host: IAddress, peer: IAddress) -> None:
        self._clock = clock
        self._host, self._peer = host, peer
        self._protocol: Any = None
        self._other: MemoryTransport = self
        self._incoming: deque[bytes] = deque()
        self._held = 0
        self._reading = True
        self._scheduled = False
        self._ended_by: Exception | None = None
        self._producer: Any = None
        self.connected = True

    def start(self, other: "MemoryTransport", protocol: Any) -> None:
        """Join the other end, and give the protocol its transport."""
        self._other, self._protocol = other, protocol

    # -- ITransport ---------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send."""
        if data and self.connected and not self.disconnecting:
            self._other.receive(bytes(data))
            if self._producer is not None and self._other.held > HIGH_WATER:
                self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of it."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when everything was delivered and a registered producer is done."""
        if self._producer is None:
            self._close()
        else:
            self.disconnecting = True

    def _close(self) -> None:
        if self.connected:
            self.disconnecting = True
            self._other.end(ConnectionDone())
            self.end(ConnectionDone())

    def abortConnection(self) -> None:
        """Close at once; what was not delivered is lost."""
        for transport, error in ((self._other, ConnectionLost()), (self, ConnectionAborted())):
            transport.discard()
            transport.end(error)

    def getPeer(self) -> IAddress:
        """The far address."""
        return self._peer

    def getHost(self) -> IAddress:
        """The near address."""
        return self._host

    # -- IConsumer ----------------------------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause ``producer`` while the other end is behind.

        :raises ValueError: it is a pull producer.
        """
        if not streaming:
            raise ValueError("only push producers can be registered here")
        self._producer = producer

    def unregisterProducer(self) -> None:
        """The producer has written all that it had."""
        self._producer = None
        if self.disconnecting:
            self._close()

    # -- IPushProducer ------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Deliver nothing until ``resumeProducing``."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Deliver again."""
        self._reading = True
        self._schedule()

    def stopProducing(self) -> None:
        """Nothing more is wanted."""
        self.loseConnection()

    # -- the other end calls these ------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Bytes that wait to be delivered here."""
        return self._held

    def receive(self, data: bytes) -> None:
        """Bytes for this end's protocol."""
        self._incoming.append(data)
        self._held += len(data)
        self._schedule()

    def discard(self) -> None:
        """Nothing of what waits will be delivered."""
        self._incoming.clear()
        self._held = 0
        self._reading = True

    def end(self, error: Exception) -> None:
        """The connection is over, behind what waits."""
        if self._ended_by is None:
            self._ended_by = error
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and self.connected:
            self._scheduled = True
            self._clock.callLater(0, self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if not self.connected:
            return
        if self._reading and self._incoming and not isinstance(self._ended_by, ConnectionAborted):
            data = b"".join(self._incoming)
            self._incoming.clear()
            self._held = 0
            self._other.drained()
            self._protocol.dataReceived(data)
            if self._incoming or self._ended_by is not None:
                self._schedule()
        elif self._ended_by is not None and not self._incoming:
            self.connected = False
            producer, self._producer = self._producer, None
            if producer is not None:
                producer.stopProducing()
            self._protocol.connectionLost(Failure(self._ended_by))  # type: ignore[no-untyped-call]

    def drained(self) -> None:
        """The other end took everything."""
        if self._producer is not None and self.connected:
            self._producer.resumeProducing()


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects clients to a server's factory.

    :param made: told the two transports of each connection: the client's and the server's.
    """

    def __init__(
        self,
        clock: IReactorTime,
        factory: IProtocolFactory,
        port: int,
        made: Callable[[MemoryTransport, MemoryTransport], None],
    ) -> None:
        self._clock = clock
        self._factory = factory
        self._port = port
        self._made = made
        #: Whether a newcomer is let in; where not, its connection is refused as by a host where nobody listens.
        self.listening = True

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Connect.

        :return: fires with the client's protocol; fails with ConnectionRefusedError.
        """
        near = IPv4Address("TCP", "127.0.0.1", next(_ports))
        far = IPv4Address("TCP", "127.0.0.1", self._port)
        server = self._factory.buildProtocol(near) if self.listening else None
        client = protocolFactory.buildProtocol(far) if server is not None else None
        if server is None or client is None:
            return fail(ConnectionRefusedError())  # type: ignore[no-untyped-call]
        ends = MemoryTransport(self._clock, near, far), MemoryTransport(self._clock, far, near)
        ends[0].start(ends[1], client)
        ends[1].start(ends[0], server)
        self._made(*ends)
        server.makeConnection(ends[1])
        client.makeConnection(ends[0])
        return succeed(client)
