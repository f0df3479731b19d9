"""Another server behind the edges' port: a connection that does not speak this wire is relayed to it.

The first two bytes of this wire are always ``01 01``. They are only looked at: whoever gets the connection gets them.
"""

import random
from collections.abc import Sequence

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from frontier_tx.gateway.factories import LegFactory

PREFIX = b"\x01\x01"
#: A peer that says nothing for so long is waiting for the server to speak first, which is not this wire.
SILENCE_SECONDS = 10.0


class Relay(Protocol):
    """The connection to the other server; its bytes go to the peer."""

    def __init__(self, peer: "Sniffer") -> None:
        self._peer = peer

    def connectionMade(self) -> None:
        """Each side is read from only as fast as the other takes it."""
        near, far = self._peer.transport, self.transport
        near.registerProducer(far, True)  # type: ignore[union-attr]
        far.registerProducer(near, True)  # type: ignore[union-attr]
        self._peer.relayed(self)

    def dataReceived(self, data: bytes) -> None:
        self._peer.transport.write(data)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        _end(self._peer)


class Sniffer(Protocol):
    """A connection of which it is not known yet what it speaks."""

    log = Logger(namespace="frontier.bypass")

    def __init__(self, factory: "BypassFactory", address: IAddress | None) -> None:
        self._factory = factory
        self._address = address
        self._seen = b""
        self._relay: Relay | None = None
        self._decided = False
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._timer = self._factory.clock.callLater(SILENCE_SECONDS, self._bypass)

    def dataReceived(self, data: bytes) -> None:
        if self._relay is not None:
            self._relay.transport.write(data)  # type: ignore[union-attr]
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
        self._factory.sniffing.discard(self)
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
        endpoint = self._factory.choose()
        if endpoint is None:
            _end(self)
            return
        self.transport.pauseProducing()  # type: ignore[union-attr]
        connecting = endpoint.connect(Factory.forProtocol(lambda: Relay(self)))
        connecting.addErrback(self._unreachable)

    def _unreachable(self, failure: Failure) -> None:
        self._factory.unreachable(failure.getErrorMessage())
        _end(self)

    def relayed(self, relay: Relay) -> None:
        """The other server is there."""
        self._relay = relay
        if self.transport is None or self.transport.disconnected:  # type: ignore[attr-defined]
            _end(relay)
            return
        relay.transport.write(self._seen)  # type: ignore[union-attr]
        self._seen = b""
        self.transport.resumeProducing()  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._settle()
        self._factory.sniffing.discard(self)
        if self._relay is not None:
            _end(self._relay)


class BypassFactory(Factory):
    """Stands in front of a listener's factory.

    :param wrapped: makes the protocols of connections that do speak this wire.
    :param endpoints: the other servers; one is chosen at random for each connection.
    """

    noisy = False
    log = Logger(namespace="frontier.bypass")

    def __init__(self, wrapped: LegFactory, endpoints: Sequence[IStreamClientEndpoint], clock: IReactorTime) -> None:
        self.wrapped = wrapped
        self.clock = clock
        self.sniffing: set[Sniffer] = set()
        self._endpoints = list(endpoints)
        self._quiet_until = 0.0

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Return something that looks at the first two bytes."""
        if len(self.sniffing) >= self.wrapped.most:
            return None
        made = Sniffer(self, addr)
        self.sniffing.add(made)
        return made

    def choose(self) -> IStreamClientEndpoint | None:
        """One of the other servers."""
        return random.choice(self._endpoints) if self._endpoints else None

    def unreachable(self, why: str) -> None:
        """Say so, but not for each connection."""
        now = self.clock.seconds()
        if now >= self._quiet_until:
            self._quiet_until = now + SILENCE_SECONDS
            self.log.error("edgebound.bypass: cannot connect: {why}; check edgebound.bypass.addrs", why=why)


def _end(protocol: Protocol) -> None:
    transport = protocol.transport
    if transport is not None:
        if getattr(transport, "producer", None) is not None:
            transport.unregisterProducer()  # type: ignore[attr-defined]
        transport.loseConnection()
