"""Another server behind the edges' port: a connection that does not speak this wire is relayed to it.

The first two bytes of this wire are always ``01 01``. They are only looked at: whoever gets the connection gets them.
"""

import random
from collections.abc import Sequence

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.gateway.factories import REFUSAL_LOG_SECONDS, LegFactory
from frontier_tx.gateway.protocols import address_text

PREFIX = b"\x01\x01"
#: A peer that says nothing for so long is waiting for the server to speak first, which is not this wire.
SILENCE_SECONDS = 10.0


@implementer(IHalfCloseableProtocol)
class Side(Protocol):
    """One of the two connections of a relay: what comes in goes out at ``other``, the end of it too."""

    def __init__(self) -> None:
        self.other: Side | None = None
        self._finished = False

    def dataReceived(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)  # type: ignore[union-attr]

    def readConnectionLost(self) -> None:
        """This peer has nothing more to say, but may still listen."""
        self._finished = True
        other = self.other
        if other is None or other._finished or not isinstance(other.transport, TCPConnection):
            # Over TLS there is no such half.
            _end(self)
            if other is not None:
                _end(other)
        else:
            other.transport.unregisterProducer()
            other.transport.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        """The other has nothing more to say, and this peer knows it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.other is not None:
            _end(self.other)


class Relay(Side):
    """The connection to the other server."""

    def __init__(self, peer: "Sniffer") -> None:
        super().__init__()
        self._peer = peer

    def connectionMade(self) -> None:
        """Each side is read from only as fast as the other takes it."""
        self.other = self._peer
        near, far = self._peer.transport, self.transport
        for transport in (near, far):
            if isinstance(transport, TCPConnection):
                transport.setTcpNoDelay(True)
                transport.setTcpKeepAlive(True)
        near.registerProducer(far, True)  # type: ignore[union-attr]
        far.registerProducer(near, True)  # type: ignore[union-attr]
        self._peer.relayed(self)


class _RelayFactory(Factory):
    noisy = False

    def __init__(self, peer: "Sniffer") -> None:
        self._peer = peer

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return Relay(self._peer)


class Sniffer(Side):
    """A connection of which it is not known yet what it speaks."""

    log = Logger(namespace="frontier.bypass")

    def __init__(self, factory: "BypassFactory", address: IAddress | None) -> None:
        super().__init__()
        self._factory = factory
        self._address = address
        self._seen = b""
        self._decided = False
        self._timer: IDelayedCall | None = None
        self._untried: list[IStreamClientEndpoint] = []

    def connectionMade(self) -> None:
        self._timer = self._factory.clock.callLater(SILENCE_SECONDS, self._bypass)

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            super().dataReceived(data)
            return
        self._seen += data
        if self._decided:
            return
        if not PREFIX.startswith(self._seen[:2]):
            self._bypass()
        elif len(self._seen) >= len(PREFIX):
            self._hand_over()

    def _settle(self) -> None:
        self._decided = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _hand_over(self) -> None:
        """It is this wire: from now on the transport talks to the protocol that the listener would have made."""
        self._settle()
        self._factory.connections.discard(self)
        made = self._factory.wrapped.buildProtocol(self._address)
        transport = self.transport
        assert transport is not None
        if made is None:
            transport.loseConnection()
            return
        if isinstance(transport, TLSMemoryBIOProtocol):
            transport.wrappedProtocol = made
        else:
            transport.protocol = made  # type: ignore[attr-defined]
        made.makeConnection(transport)  # type: ignore[no-untyped-call]
        made.dataReceived(self._seen)

    def _bypass(self) -> None:
        """It is something else: connect to one of the servers for that, and read no more until that is done."""
        self._settle()
        self.transport.pauseProducing()  # type: ignore[union-attr]
        self._untried = self._factory.candidates()
        self._connect()

    def _connect(self) -> None:
        connecting = self._untried.pop().connect(_RelayFactory(self))
        connecting.addErrback(self._unreachable)

    def _unreachable(self, failure: Failure) -> None:
        self._factory.unreachable(failure.getErrorMessage())
        if self._untried and not self.transport.disconnected:  # type: ignore[union-attr]
            self._connect()
        else:
            _end(self)

    def relayed(self, relay: Relay) -> None:
        """The other server is there."""
        self.other = relay
        if self.transport is None or self.transport.disconnected:  # type: ignore[attr-defined]
            _end(relay)
            return
        relay.transport.write(self._seen)  # type: ignore[union-attr]
        self._seen = b""
        self.transport.resumeProducing()  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._settle()
        self._factory.connections.discard(self)
        super().connectionLost(reason)


class BypassFactory(Factory):
    """Stands in front of a listener's factory.

    :param wrapped: makes the protocols of connections that do speak this wire.
    :param endpoints: the other servers, at least one. Each connection goes to any of them that can be reached.
    """

    noisy = False
    log = Logger(namespace="frontier.bypass")

    def __init__(self, wrapped: LegFactory, endpoints: Sequence[IStreamClientEndpoint], clock: IReactorTime) -> None:
        self.wrapped = wrapped
        self.clock = clock
        #: Those that are looked at, and those that are relayed; not those that turned out to be edges.
        self.connections: set[Sniffer] = set()
        self._endpoints = list(endpoints)
        self._quiet_until: dict[str, float] = {}

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Return something that looks at the first two bytes, or None to turn a newcomer away."""
        if len(self.connections) >= self.wrapped.most:
            if self._speaks("limit", REFUSAL_LOG_SECONDS):
                self.log.warn(
                    "edgebound.bypass: {n} connections, the limit is reached; newcomers are turned away, {addr} among "
                    "them. Raise limits.connections if the host can carry more",
                    n=self.wrapped.most,
                    addr=address_text(addr)[1],
                )
            return None
        made = Sniffer(self, addr)
        self.connections.add(made)
        return made

    def candidates(self) -> list[IStreamClientEndpoint]:
        """The other servers in an order of chance; the last is tried first."""
        return random.sample(self._endpoints, len(self._endpoints))

    def unreachable(self, why: str) -> None:
        """Say so, but not for each connection."""
        if self._speaks("unreachable", SILENCE_SECONDS):
            self.log.error("edgebound.bypass: cannot connect: {why}; check edgebound.bypass.addrs", why=why)

    def _speaks(self, what: str, seconds: float) -> bool:
        now = self.clock.seconds()
        if now < self._quiet_until.get(what, 0.0):
            return False
        self._quiet_until[what] = now + seconds
        return True


def _end(protocol: Protocol) -> None:
    transport = protocol.transport
    if transport is not None:
        if getattr(transport, "producer", None) is not None:
            transport.unregisterProducer()  # type: ignore[attr-defined]
        transport.loseConnection()
