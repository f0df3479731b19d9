"""Another server behind the edges' port: a connection that does not speak this wire is relayed to it.

The first two bytes of this wire are always ``01 01``. They are only looked at: whoever gets the connection gets them.
"""

import random
from collections import OrderedDict
from collections.abc import Sequence

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.gateway.door import Door, origin
from frontier_tx.gateway.factories import REFUSAL_LOG_SECONDS, LegFactory
from frontier_tx.gateway.protocols import address_text
from frontier_tx.runtime.lograte import LogRate
from frontier_tx.runtime.logs import Logger

PREFIX = b"\x01\x01"
#: A peer that says nothing for so long is waiting for the server to speak first, which is not this wire.
SILENCE_SECONDS = 10.0
#: Bytes that a relay reads at a time, and from which on it stops reading for a side that does not take them.
PIECE = 32_768


@implementer(IHalfCloseableProtocol)
class Side(Protocol):
    """One of the two connections of a relay: what comes in goes out at ``other``, the end of it too."""

    def __init__(self) -> None:
        self.other: Side | None = None
        #: What stops and resumes the reading of this side.
        self.valve: Valve | None = None
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
            if self.valve is not None:
                self.valve.release()
            other.transport.unregisterProducer()
            other.transport.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        """The other has nothing more to say, and this peer knows it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.other is not None:
            _end(self.other)


@implementer(IPushProducer)
class Valve:
    """Stops and resumes the reading of one side of a relay for the other, and lets the factory know."""

    def __init__(self, side: Side, factory: "BypassFactory") -> None:
        self._side = side
        self._factory = factory

    def pauseProducing(self) -> None:
        """The other side is full."""
        self._factory.stalled(self)
        self._side.transport.pauseProducing()  # type: ignore[union-attr]

    def resumeProducing(self) -> None:
        """The other side has taken everything."""
        self._factory.flowing(self)
        self._side.transport.resumeProducing()  # type: ignore[union-attr]

    def stopProducing(self) -> None:
        """The other side is going away."""
        self._factory.flowing(self)
        self._side.transport.stopProducing()  # type: ignore[union-attr]

    def release(self) -> None:
        """Its side has nothing more to say, or is gone."""
        self._factory.flowing(self)

    def cut(self) -> None:
        """End both sides at once."""
        for side in (self._side, self._side.other):
            if side is not None and side.transport is not None:
                transport = side.transport
                getattr(transport, "abortConnection", transport.loseConnection)()


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
                transport.bufferSize = PIECE
                transport.setTcpNoDelay(True)
                transport.setTcpKeepAlive(True)
        self.valve, self._peer.valve = Valve(self, self._peer.factory), Valve(self._peer, self._peer.factory)
        near.registerProducer(self.valve, True)  # type: ignore[union-attr]
        far.registerProducer(self._peer.valve, True)  # type: ignore[union-attr]
        self._peer.relayed(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for side in (self, self._peer):
            if side.valve is not None:
                side.valve.release()
        super().connectionLost(reason)


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
        self.factory = factory
        self._address = address
        self._seen = b""
        self._decided = False
        self._timer: IDelayedCall | None = None
        self._untried: list[IStreamClientEndpoint] = []

    def connectionMade(self) -> None:
        self._timer = self.factory.clock.callLater(SILENCE_SECONDS, self._bypass)

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
        self.factory.forget(self)
        made = self.factory.wrapped.buildProtocol(self._address)
        transport = self.transport
        assert transport is not None
        if made is None:
            transport.loseConnection()
            return
        if isinstance(transport, TLSMemoryBIOProtocol):
            transport.wrappedProtocol = made
        else:
            transport.protocol = made  # type: ignore[attr-defined]
        made.makeConnection(transport)
        made.dataReceived(self._seen)

    def _bypass(self) -> None:
        """It is something else: connect to one of the servers for that, and read no more until that is done."""
        self._settle()
        self.factory.door.introduced(self)
        self.transport.pauseProducing()  # type: ignore[union-attr]
        self._untried = self.factory.candidates()
        self._connect()

    def _connect(self) -> None:
        connecting = self._untried.pop().connect(_RelayFactory(self))
        connecting.addErrback(self._unreachable)

    def _unreachable(self, failure: Failure) -> None:
        self.factory.unreachable(failure.getErrorMessage())
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
        self.factory.forget(self)
        if not self._seen and self.other is None:
            self.factory.wrapped.ended_by["silent"] += 1
        super().connectionLost(reason)


class BypassFactory(Factory):
    """Stands in front of a listener's factory.

    :param wrapped: makes the protocols of connections that do speak this wire.
    :param endpoints: the other servers, at least one. Each connection goes to any of them that can be reached.
    :param held_bytes: what relays may hold together because one side does not take it; beyond it the one that has held
        something for longest is cut.
    :param stall_seconds: a side that takes nothing for so long is cut.
    """

    noisy = False
    log = Logger(namespace="frontier.bypass")

    def __init__(
        self,
        wrapped: LegFactory,
        endpoints: Sequence[IStreamClientEndpoint],
        clock: IReactorTime,
        *,
        held_bytes: int = 268_435_456,
        stall_seconds: float = 30.0,
    ) -> None:
        self.wrapped = wrapped
        self.clock = clock
        #: Those that are looked at, and those that are relayed; not those that turned out to be edges.
        self.connections: set[Sniffer] = set()
        #: Relays cut because a side did not take what was for it.
        self.cut = 0
        self.door = Door(
            wrapped.most,
            per_address=wrapped.door.per_address,
            strangers=wrapped.door.most_strangers,
            now=clock.seconds,
        )
        self._endpoints = list(endpoints)
        # A side that is stopped has up to a piece too much waiting, on top of the one that stopped it.
        self._most_stalled = max(1, held_bytes // (2 * PIECE))
        self._stall_seconds = stall_seconds
        self._stalled: OrderedDict[Valve, float] = OrderedDict()
        self._watch: IDelayedCall | None = None
        self._refusals = LogRate(1, REFUSAL_LOG_SECONDS, clock.seconds)
        self._failures = LogRate(1, SILENCE_SECONDS, clock.seconds)
        self._cuts = LogRate(1, REFUSAL_LOG_SECONDS, clock.seconds)

    @property
    def held_bytes(self) -> int:
        """What relays hold at most because one side does not take it."""
        return len(self._stalled) * 2 * PIECE

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Return something that looks at the first two bytes, or None to turn a newcomer away."""
        where = origin(addr)
        self.door.most = self.wrapped.most
        why = self.door.refusal(where)
        if why:
            if (before := self._refusals.due()) is not None:
                told = why.format(addr=address_text(addr)[1]) + before
                self.log.warn("edgebound.bypass: {told}", told=told)
            return None
        in_the_way = self.door.in_the_way()
        if isinstance(in_the_way, Sniffer):
            _end(in_the_way)
            self.forget(in_the_way)
        made = Sniffer(self, addr)
        self.connections.add(made)
        self.door.enter(made, where)
        return made

    def forget(self, sniffer: Sniffer) -> None:
        """It is gone, or an edge."""
        self.connections.discard(sniffer)
        self.door.leave(sniffer)

    def candidates(self) -> list[IStreamClientEndpoint]:
        """The other servers in an order of chance; the last is tried first."""
        return random.sample(self._endpoints, len(self._endpoints))

    def unreachable(self, why: str) -> None:
        """Say so, but not for each connection."""
        if self._failures.allows():
            self.log.error("edgebound.bypass: cannot connect: {why}; check edgebound.bypass.addrs", why=why)

    def stalled(self, valve: Valve) -> None:
        """A side of a relay is full."""
        if valve in self._stalled:
            return
        if len(self._stalled) >= self._most_stalled:
            self._cut(next(iter(self._stalled)), "relays hold too much")
        self._stalled[valve] = self.clock.seconds()
        if self._watch is None:
            self._watch = self.clock.callLater(self._stall_seconds, self._look)

    def flowing(self, valve: Valve) -> None:
        """It has taken everything, or is gone."""
        self._stalled.pop(valve, None)

    def _look(self) -> None:
        self._watch = None
        now = self.clock.seconds()
        while self._stalled:
            valve, since = next(iter(self._stalled.items()))
            if since + self._stall_seconds > now:
                self._watch = self.clock.callLater(since + self._stall_seconds - now, self._look)
                return
            self._cut(valve, "one side does not take what is sent to it")

    def _cut(self, valve: Valve, why: str) -> None:
        self._stalled.pop(valve, None)
        self.cut += 1
        if (before := self._cuts.due()) is not None:
            self.log.info("edgebound.bypass: a relay is cut: {why}{before}", why=why, before=before)
        valve.cut()


def _end(protocol: Protocol) -> None:
    transport = protocol.transport
    if transport is not None:
        if getattr(transport, "producer", None) is not None:
            transport.unregisterProducer()  # type: ignore[attr-defined]
        transport.loseConnection()
