"""Frontlas as a Twisted service, made from a configuration: registry, frontier plane, cluster plane, health."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.atlas.protocols import AtlasServerFactory
from frontier_tx.clients import Service as FrontierService
from frontier_tx.config.common import Listen
from frontier_tx.config.render import to_mapping
from frontier_tx.config.schema import taken
from frontier_tx.rpc.access import Access
from frontier_tx.rpc.listener import ALPN
from frontier_tx.rpc.observability import observability_factory
from frontier_tx.runtime.launch import Ports, raise_open_files
from frontier_tx.runtime.logstream import part
from frontier_tx.runtime.memory import settle_memory
from frontier_tx.runtime.process_metrics import ProcessFigures
from frontier_tx.runtime.program import log_of_application
from frontier_tx.runtime.tls import client_context
from frontier_tx.timers import Alarms
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet
from frontlas_tx.cluster_plane.answers import registry_errors
from frontlas_tx.cluster_plane.callers import NAME
from frontlas_tx.cluster_plane.links import FrontierLinks
from frontlas_tx.cluster_plane.server import ClusterPlane
from frontlas_tx.config import CALLS_TLS, FrontlasConfig
from frontlas_tx.frontier_plane import FrontierPlane
from frontlas_tx.metrics import FrontlasCollector
from frontlas_tx.registry.errors import RegistryUnavailableError
from frontlas_tx.registry.memory import MemoryRegistry

DRAIN_SECONDS = 5.0


def registry_of(config: FrontlasConfig, reactor: Any) -> Any:
    """The registry that a configuration asks for, not started yet."""
    if config.registry == "memory":
        return MemoryRegistry(reactor, peers_bytes=config.frontier_plane.peers_bytes)
    from frontier_tx.redis.connect import make_redis
    from frontlas_tx.registry.redis.registry import RedisRegistry
    from frontlas_tx.registry.redis.scripts import ALL

    return RedisRegistry(
        reactor,
        make_redis(reactor, config.redis, ALL),
        life=config.frontier_plane.expiration,
        peers_bytes=config.frontier_plane.peers_bytes,
        shared_with_go=config.redis.shared_with_go and config.redis.mode != "cluster",
    )


class Frontlas(Service):
    """The cluster's registry: two ports around it."""

    log = Logger(namespace="frontlas")

    def __init__(self, config: FrontlasConfig, ports: Ports, reactor: Any) -> None:
        self.config = config
        self.registry = registry_of(config, reactor)
        self.plane = FrontierPlane(self.registry, reactor)
        limits = config.limits
        outlet = Outlet(reactor)
        self._alarms = Alarms(reactor, took=outlet.handlers.note)
        self.frontiers = AtlasServerFactory(
            self.plane,
            self._alarms,
            outlet,
            replace(taken(Limits, limits), sessions_per_connection=1),
            limits.connections,
        )
        self.metrics = CollectorRegistry()
        ProcessCollector(registry=self.metrics)
        self.metrics.register(ProcessFigures("frontlas", {"links": outlet.handlers}))
        self.metrics.register(FrontlasCollector(self.registry, self.plane))
        plane = config.control_plane
        self.access = Access(plane.access, plane.listen, "control_plane.access", reactor.seconds)
        self.cluster = ClusterPlane(
            self.registry,
            reactor,
            frontiers=FrontierLinks(self.plane.link_of),
            make_service=self._service_at if plane.calls.enable else None,
            host=self,
            limits=plane.limits,
            access=self.access,
            metrics=self.metrics,
            web=plane.web,
        )
        self._ports = ports
        #: Health and metrics, which can be asked until the end.
        self._status_ports = Ports(reactor, "frontlas")
        self._reactor = reactor
        self._was_ready = False
        #: Whether it is leaving.
        self.draining = False

    def _service_at(self, host: str, port: int) -> FrontierService:
        """A service of the Frontier at an address, for calls of operators."""
        tls = self.config.control_plane.calls.tls
        context = client_context(tls, CALLS_TLS, host) if tls.enable else None
        made = FrontierService(host, port, name=NAME, tls=context, reactor=self._reactor, reconnect=None)
        # Edges see a service like any other, and get nothing from it.
        made.on_stream(lambda stream: stream.close())
        return made

    def setServiceParent(self, parent: Any) -> None:
        """A part of an application in a file for ``twistd -y``: it logs as the configuration says."""
        log_of_application(parent, self.config.log, "frontlas")
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Begin to reach the store, and open the ports."""
        super().startService()  # type: ignore[no-untyped-call]
        raise_open_files(self.config.daemon.rlimit)
        settle_memory()
        if self.config.registry == "memory":
            self.log.warn("the registry is in memory: for one machine, and forgotten when this process ends")
        self.registry.watch_ready(self._ready_changed)
        starting: Deferred[None] = self.registry.start()
        starting.addErrback(_stopped_before)
        self.cluster.start()
        config = self.config
        self._ports.listen("frontier_plane.listen", config.frontier_plane.listen, self.frontiers)
        self._ports.listen("control_plane.listen", config.control_plane.listen, self.cluster.factory, ALPN)
        self.access.begin(self._ports)
        if config.observability.enable:
            site = observability_factory(self._reactor, self._checked, self.metrics)
            self._status_ports.listen("observability", Listen(addr=config.observability.addr), site)

    def _checked(self) -> str | Awaitable[str | None]:
        """Why this Frontlas cannot do its work, or None; asks the store each time."""
        return "draining" if self.draining else self.cluster.not_ready()

    def _ready_changed(self, ready: bool, why: str) -> None:
        if ready:
            self._was_ready = True
            self.log.info("the registry is ready")
        elif why and self.config.redis.exit_when_unreachable and not self._was_ready:
            part()
            sys.stderr.flush()
            os._exit(1)

    def stopService(self) -> Deferred[None]:
        """Close the ports, let calls under way end, and leave; leases of Frontiers run on for whoever comes next."""
        super().stopService()  # type: ignore[no-untyped-call]
        self.draining = True
        leaving = self._ports.close()
        leaving.addCallback(lambda _: self.cluster.drain(DRAIN_SECONDS))
        leaving.addCallback(lambda _: self.cluster.stop())
        leaving.addCallback(lambda _: self._dismiss())
        leaving.addCallback(lambda _: self.registry.stop())
        leaving.addCallback(lambda _: self._status_ports.close())
        return leaving

    # -- for operators (``rpc.server_info.Host``) ------------------------------------------------------------

    #: Frontlas has no name in the cluster.
    frontier_id = ""

    def not_ready(self) -> str | None:
        """Why it cannot do its work, or None."""
        return "draining" if self.draining else self.registry.why_not_ready or None

    async def counts(self) -> tuple[int, int]:
        """How many edges and services are online in the cluster."""
        with registry_errors():
            counts = await self.registry.counts()
        return counts.edges, counts.services

    def addresses(self) -> dict[str, list[str]]:
        """Edges and services connect to Frontiers, not here."""
        return {}

    def configuration(self) -> dict[str, Any]:
        """The effective configuration without its secrets."""
        return to_mapping(self.config)

    def leave(self) -> None:
        """Begin to leave; the process ends then."""
        stop = getattr(self._reactor, "stop", self.stopService)
        stop()

    def _dismiss(self) -> None:
        self.plane.stop()
        for link in list(self.frontiers.connections):
            link.abort("this Frontlas stops")
        self._alarms.stop()


def _stopped_before(failure: Failure) -> None:
    # The store was not reached until then, which was said.
    failure.trap(RegistryUnavailableError)  # type: ignore[no-untyped-call]


def make_service(config: FrontlasConfig) -> Frontlas:
    """The Frontlas of a configuration, on the process's reactor; twistd starts it."""
    from twisted.internet import reactor

    listens: Any = reactor
    return Frontlas(config, Ports(listens, "frontlas"), listens)
