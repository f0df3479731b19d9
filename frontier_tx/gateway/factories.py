"""Factories of the two listeners: they bound the number of connections, and log who comes and goes."""

from collections.abc import Callable
from typing import ClassVar

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from zope.interface import implementer

from frontier_tx.gateway import endings
from frontier_tx.gateway.door import Door, origin
from frontier_tx.gateway.protocols import EdgeProtocol, LegProtocol, ServiceProtocol, address_text
from frontier_tx.interfaces import IPlaneFactory
from frontier_tx.runtime.lograte import LogRate
from frontier_tx.runtime.logs import Logger
from frontier_tx.switch.presence import Presence
from frontier_tx.timers import Alarms
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet

#: While connections are turned away, one line in so many seconds says so.
REFUSAL_LOG_SECONDS = 10.0


@implementer(IPlaneFactory)
class LegFactory(Factory):
    """Makes the protocols of one listener.

    To plug in an own protocol, subclass ``EdgeProtocol`` or ``ServiceProtocol`` and set ``protocol``.

    :param most: connections at one time; newcomers beyond it are closed at once.
    :param per_address: connections from one address; 0: as many as leave room for others (``door.GREED``).
    :param strangers: connections that have not introduced themselves.
    """

    protocol: type[LegProtocol]
    noisy = False
    log = Logger(namespace="frontier.gateway")
    side: ClassVar[str]

    def __init__(
        self,
        presence: Presence,
        alarms: Alarms,
        outlet: Outlet,
        limits: Limits | None = None,
        *,
        write_stall_seconds: float = 30.0,
        most: int = 1_000_000,
        per_address: int = 0,
        strangers: int = 20_000,
        wall_clock: Callable[[], float],
    ) -> None:
        self.connections: set[LegProtocol] = set()
        #: Whether the gateway is leaving: who comes in on a connection that was there before is turned away.
        self.closed = False
        #: Newcomers turned away, as the gateway stops or has no room for them.
        self.refused = {"draining": 0, "limit": 0}
        self.accepted = 0
        #: Connections that are over, by the word for why. Those that are ``silent`` ended without a byte from the peer,
        #: as probes of load balancers do.
        self.ended_by = dict.fromkeys(endings.MEANINGS, 0)
        #: Bytes that came and went on connections that are over.
        self.bytes_in = self.bytes_out = 0
        self.door = Door(most, per_address=per_address, strangers=strangers, now=alarms.now)
        self._presence = presence
        self._alarms = alarms
        self._outlet = outlet
        self._limits = limits
        self._write_stall_seconds = write_stall_seconds
        self._wall_clock = wall_clock
        self._refusals = LogRate(1, REFUSAL_LOG_SECONDS, alarms.now)
        #: How long a goodbye may take.
        self.close_seconds = (limits or Limits()).close_seconds

    @property
    def most(self) -> int:
        """Connections at one time; may be set."""
        return self.door.most

    @most.setter
    def most(self, most: int) -> None:
        self.door.most = most

    def buildProtocol(self, addr: IAddress | None) -> LegProtocol | None:
        """Return a protocol for a newcomer, or None to turn it away."""
        if self.closed:
            self.refused["draining"] += 1
            return None
        where = origin(addr)
        why = self.door.refusal(where)
        if why:
            self.refused["limit"] += 1
            if (before := self._refusals.due()) is not None:
                told = why.format(addr=address_text(addr)[1]) + before
                self.log.warn("{side}: {told}", side=self.side, told=told)
            return None
        in_the_way = self.door.in_the_way()
        if isinstance(in_the_way, LegProtocol):
            in_the_way.abort("timeout: no handshake, and others wait for the place")
        self.accepted += 1
        made = self.protocol(
            self._presence,
            self._alarms,
            self._outlet,
            self._limits,
            self._write_stall_seconds,
            self._wall_clock(),
        )
        made.factory = self
        self.connections.add(made)
        self.door.enter(made, where)
        return made

    def introduced(self, protocol: LegProtocol) -> None:
        """A peer has said who it is."""
        self.door.introduced(protocol)

    def ended(self, protocol: LegProtocol, reason: str) -> None:
        """A connection is over. Of who never said a word nothing is said."""
        self.connections.discard(protocol)
        self.door.leave(protocol)
        self.bytes_in += protocol.bytes_in
        self.bytes_out += protocol.bytes_out
        if protocol.silent and not _says_of_tls(reason):
            self.ended_by["silent"] += 1
            return
        word = protocol.ending(reason)
        self.ended_by["draining" if self.closed and word == "kicked" else word] += 1
        if reason:
            self.log.info("{leg} ended: {reason}", leg=protocol.leg, reason=reason)


def _says_of_tls(reason: str) -> bool:
    """Whether a handshake of TLS failed for what was in it, which its owner wants to read."""
    return reason.startswith("TLS:") and "eof" not in reason.lower()


class EdgeFactory(LegFactory):
    """Factory of edgebound."""

    protocol = EdgeProtocol
    side = "edgebound"


class ServiceFactory(LegFactory):
    """Factory of servicebound."""

    protocol = ServiceProtocol
    side = "servicebound"
