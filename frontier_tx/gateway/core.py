"""The parts of a gateway, put together: timer, outlet, switch, and the factories of the two listeners.

A program that brings its own transports uses this class alone; ``service`` adds the listeners of a configuration.
"""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface.verify import verifyObject

from frontier_tx.errors import EdgeNotOnline, ServiceNotOnline
from frontier_tx.gateway.factories import EdgeFactory, LegFactory, ServiceFactory
from frontier_tx.gateway.protocols import LegProtocol
from frontier_tx.runtime.lograte import LogRates
from frontier_tx.runtime.logs import Logger
from frontier_tx.switch.choice import IHashPolicy
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.fan_out import FanOut, TopicQueues
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.presence import IIDAllocator, Presence
from frontier_tx.switch.repository import Repository
from frontier_tx.switch.settings import Settings
from frontier_tx.timers import Alarms
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet

#: So many connections are looked at in one turn.
SLICE = 5000
#: Lines of one kind in so many seconds, of what may happen often.
LOG_LINES, LOG_SECONDS = 20, 60.0


class GatewayCore:
    """A gateway without listeners.

    ``edges`` and ``services`` are factories for any stream transport; what they accept meets in ``exchange``.

    :raises zope.interface.Invalid: a policy or an allocator lacks what its interface demands.
    """

    log = Logger(namespace="frontier.gateway")

    def __init__(
        self,
        clock: IReactorTime,
        *,
        settings: Settings | None = None,
        limits: Limits | None = None,
        policy: IHashPolicy | None = None,
        allocator: IIDAllocator | None = None,
        allocate_edge_ids: bool = True,
        own_edge_ids: bool = True,
        renew_edge_ids: bool = True,
        control_seconds: float = 9.0,
        connections: int = 1_000_000,
        per_address: int = 0,
        strangers: int = 20_000,
        wall_clock: Callable[[], float] = time.time,
        queues: TopicQueues | None = None,
        exchange: Callable[..., Exchange] = Exchange,
    ) -> None:
        for interface, part in ((IHashPolicy, policy), (IIDAllocator, allocator)):
            if part is not None:
                verifyObject(interface, part)
        self.outlet = Outlet(clock)
        self.alarms = Alarms(clock, took=self.outlet.handlers.note)
        settings = settings or Settings()
        self.repository = Repository(min(settings.record_bytes, settings.memory_bytes // 8))
        self.exchange = exchange(self.repository, self.alarms, settings, policy, wall_clock, self._part_failed)
        self._lines = LogRates(LOG_LINES, LOG_SECONDS, self.alarms.now)
        if queues is not None:
            self.exchange.forwarding.to_queues = FanOut(self.exchange, queues).takes
        self.exchange.pressure.on_end = self._stream_ended
        self.presence = Presence(
            self.exchange,
            allocator=allocator,
            allocate_edge_ids=allocate_edge_ids,
            own_edge_ids=own_edge_ids,
            renew_edge_ids=renew_edge_ids,
            control_seconds=control_seconds,
            wall_clock=wall_clock,
            on_control_error=self._control_failed,
            on_fault=self._part_failed,
            on_replaced=self._replaced,
            on_renewed=self._renewed,
        )
        self.presence.listeners.append(_Diary())
        self._clock = clock
        self.exchange.budget.on_tight = self._memory_is_short
        shared: dict[str, Any] = {
            "write_stall_seconds": self.exchange.settings.write_stall_seconds,
            "most": connections,
            "per_address": per_address,
            "strangers": strangers,
            "wall_clock": wall_clock,
        }
        self.edges: LegFactory = EdgeFactory(self.presence, self.alarms, self.outlet, limits, **shared)
        self.services: LegFactory = ServiceFactory(self.presence, self.alarms, self.outlet, limits, **shared)

    def _control_failed(self, method: str, leg: Leg, error: str) -> None:
        self.log.warn("{method} for {leg} failed: {error}", method=method, leg=leg, error=error)

    def _stream_ended(self, leg: Leg) -> None:
        if (more := self._lines.due("stream")) is not None:
            self.log.warn(
                "a stream of {leg} was ended: it does not take what comes for it, and others wait{more}",
                leg=leg,
                more=more,
            )

    def _part_failed(self, what: str) -> None:
        """Log what a part that was plugged in raised: it may do so for each frame."""
        if (more := self._lines.due("fault")) is not None:
            self.log.failure("{what}{more}", what=what, more=more)

    def _memory_is_short(self) -> None:
        if (more := self._lines.due("memory")) is not None:
            self.log.warn(
                "memory is short: {used} bytes are kept of what peers send and do not take. Who has most of it is "
                "refused first. Raise limits.memory_bytes if the host has more{more}",
                used=self.exchange.budget.used,
                more=more,
            )
        self._read_little(iter(self.connections()))

    def _read_little(self, connections: Iterator[LegProtocol]) -> None:
        """Let everybody read little at once; there may be too many of them for one turn."""
        some = list(islice(connections, SLICE))
        for connection in some:
            connection.read_little()
        if len(some) == SLICE:
            self._clock.callLater(0, self._read_little, connections)

    def _replaced(self, old: Leg, new: Leg) -> None:
        if (more := self._lines.due("replaced")) is not None:
            self.log.warn(
                "{old} is replaced: a connection from {address} has the same id. Where this goes on, two peers have "
                "one identity{more}",
                old=old,
                address=new.address,
                more=more,
            )

    def _renewed(self, count: int) -> None:
        self.log.info(
            "{count} edges had ids of the gateway's choice and were asked to connect again, now that a service hands "
            "out ids",
            count=count,
        )

    def connections(self) -> list[LegProtocol]:
        """All connections, those that are still shaking hands included."""
        return [*self.edges.connections, *self.services.connections]

    def kick_edge(self, edge_id: int) -> Leg:
        """Close the connection of an edge in order; it may come back at once.

        :raises EdgeNotOnline: there is none with this id.
        """
        leg = self.repository.edges.get(edge_id)
        if leg is None:
            raise EdgeNotOnline
        leg.transport.close()
        return leg

    def kick_service(self, service_id: int) -> Leg:
        """Close the connection of a service in order; it may come back at once.

        :raises ServiceNotOnline: there is none with this id.
        """
        leg = self.repository.services.get(service_id)
        if leg is None:
            raise ServiceNotOnline
        leg.transport.close()
        return leg


class _Diary:
    """Logs who comes and goes."""

    log = Logger(namespace="frontier.gateway")

    def online(self, leg: Leg) -> None:
        self.log.info("{leg} online", leg=leg)

    def offline(self, leg: Leg) -> None:
        self.log.info("{leg} offline", leg=leg)

    def heartbeat(self, leg: Leg) -> None:
        self.log.debug("{leg} heartbeat", leg=leg)
