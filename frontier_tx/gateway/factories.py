"""Factories of the two listeners: they bound the number of connections, and log who comes and goes."""

from collections.abc import Callable
from typing import ClassVar

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from frontier_tx.gateway.protocols import EdgeProtocol, LegProtocol, ServiceProtocol, address_text
from frontier_tx.interfaces import IPlaneFactory
from frontier_tx.switch.presence import Presence
from frontier_tx.timers import Alarms
from frontier_tx.wire.connection import Limits
from frontier_tx.wire.outlet import Outlet

#: While connections are turned away, one line in so many seconds says so.
REFUSAL_LOG_SECONDS = 10.0


@implementer(IPlaneFactory)
class LegFactory(Factory):
    """Makes the protocols of one listener.

    To plug in an own protocol, subclass ``EdgeProtocol`` or ``ServiceProtocol`` and set ``protocol``.

    :param most: connections at one time; newcomers beyond it are closed at once.
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
        wall_clock: Callable[[], float],
    ) -> None:
        self.connections: set[LegProtocol] = set()
        self.refused = 0
        self.accepted = 0
        self.most = most
        self._presence = presence
        self._alarms = alarms
        self._outlet = outlet
        self._limits = limits
        self._write_stall_seconds = write_stall_seconds
        self._wall_clock = wall_clock
        self._quiet_until = 0.0
        #: How long a goodbye may take.
        self.close_seconds = (limits or Limits()).close_seconds

    def buildProtocol(self, addr: IAddress | None) -> LegProtocol | None:
        """Return a protocol for a newcomer, or None to turn it away."""
        if len(self.connections) >= self.most:
            self.refused += 1
            now = self._alarms.now()
            if now >= self._quiet_until:
                self._quiet_until = now + REFUSAL_LOG_SECONDS
                self.log.warn(
                    "{side}: {n} connections, the limit is reached; newcomers are turned away, {addr} among "
                    "them. Raise limits.connections if the host can carry more",
                    side=self.side,
                    n=self.most,
                    addr=address_text(addr)[1],
                )
            return None
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
        return made

    def ended(self, protocol: LegProtocol, reason: str) -> None:
        """A connection is over."""
        self.connections.discard(protocol)
        if reason:
            self.log.info("{leg} ended: {reason}", leg=protocol.leg, reason=reason)


class EdgeFactory(LegFactory):
    """Factory of edgebound."""

    protocol = EdgeProtocol
    side = "edgebound"


class ServiceFactory(LegFactory):
    """Factory of servicebound."""

    protocol = ServiceProtocol
    side = "servicebound"
