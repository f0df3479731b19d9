"""Puts the cluster plane together: the services, their REST form, health, and the factory to listen with."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

import frontier_tx
from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc import openapi
from frontier_tx.rpc.access import Access
from frontier_tx.rpc.context import CallContext, Role
from frontier_tx.rpc.contract import Contract, frontlas_contract
from frontier_tx.rpc.door_metrics import DoorCollector
from frontier_tx.rpc.event_stream import tag
from frontier_tx.rpc.grpc_standard import Serving, add_standard_services
from frontier_tx.rpc.listener import ControlPlaneFactory
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.rest import RestRouter
from frontier_tx.rpc.server_info import ROLES, Host, ServerService
from frontier_tx.web import web_files
from frontlas_tx.cluster_plane.callers import Callers, MakeService
from frontlas_tx.cluster_plane.directory import AskFrontier, ClusterDirectory
from frontlas_tx.cluster_plane.events import ClusterEvents
from frontlas_tx.cluster_plane.links import FrontierLinks
from frontlas_tx.cluster_plane.metrics import ThroughCollector
from frontlas_tx.cluster_plane.queries import ClusterQueries
from frontlas_tx.cluster_plane.through import LONGEST_SECONDS, USUAL_SECONDS, ThroughService
from frontlas_tx.cluster_plane.watch import ClusterWatch
from frontlas_tx.registry.errors import RegistryError
from frontlas_tx.registry.interfaces import IRegistry

CALL_TIMEOUT = 10.0
"""Seconds for one question; the registry gives up on its store sooner."""
DIRECTORY_ROLES: dict[str, Role] = {
    "ListFrontiers": "read",
    "SearchEdges": "read",
    "SearchServices": "read",
    "GetEdgeDetails": "read",
    "KickEdge": "act",
}
SERVING = 1
EXPECTATION_FAILED = 417


class ClusterHealth:
    """``controlplane.Health``: SERVING while the registry's store answers and the server is not stopping."""

    def __init__(self, contract: Contract, serving: Serving) -> None:
        self._response = contract.message("controlplane.HealthCheckResponse")
        self._status = contract.enum("controlplane.HealthCheckResponse.ServingStatus")
        self._serving = serving

    def check(self, request: Any, context: CallContext) -> Any:
        """The state now, whatever service is named."""
        return self._of(self._serving.serving)

    async def watch(self, request: Any, context: CallContext) -> AsyncIterator[Any]:
        """The state now and every change."""
        async for serving in self._serving.follow():
            yield self._of(serving)

    def _of(self, serving: bool) -> Any:
        return self._response(status=self._status["SERVING" if serving else "NOT_SERVING"])


class ClusterPlane:
    """The server behind port 40011.

    Listen with ``factory`` on any endpoint after ``start``; before the end ``drain``, then ``stop``.

    :param frontiers: asks Frontiers what the registry does not know.
    :param make_service: makes services of Frontiers; without it there is no ``frontlas.v1.Through``.
    :param host: the process around it; without one there is no ``frontlas.v1.Server``.
    :param web: serve the web page.
    """

    def __init__(
        self,
        registry: IRegistry,
        clock: IReactorTime,
        *,
        frontiers: AskFrontier | None = None,
        make_service: MakeService | None = None,
        host: Host | None = None,
        limits: ControlPlaneLimits | None = None,
        access: Access | None = None,
        metrics: CollectorRegistry | None = None,
        call_timeout: float = CALL_TIMEOUT,
        web: bool = True,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        contract = frontlas_contract()
        if metrics is None:
            metrics = CollectorRegistry()
        self._registry = registry
        self._draining = False
        self._unwatch: Callable[[], None] | None = None
        self.serving = Serving(False)
        self.table = MethodTable(contract, clock, access=access, registry=metrics, call_timeout=call_timeout)
        self.table.add("controlplane.ClusterService", ClusterQueries(contract, registry), "read")
        self.table.add("controlplane.ClusterWatch", ClusterWatch(contract, registry, clock), "read")
        directory = ClusterDirectory(contract, registry, frontiers or FrontierLinks(lambda _: None), clock)
        self.table.add("frontlas.v1.Directory", directory, DIRECTORY_ROLES)
        #: Connections to Frontiers for calls, and what is under way over them; None where it is not offered.
        self.callers: Callers | None = None
        if make_service is not None:
            self.callers = Callers(make_service, clock)
            self.through = ThroughService(contract, registry, self.callers, clock, wall_clock)
            times = {"usual": USUAL_SECONDS, "longest": LONGEST_SECONDS}
            self.table.add("frontlas.v1.Through", self.through, "call", **times)
            metrics.register(ThroughCollector(self.through, self.callers))
        self.table.add("frontlas.v1.Events", ClusterEvents(contract, registry, clock), "read")
        if host is not None:
            self.table.add("frontlas.v1.Server", ServerService(contract, host, metrics, clock, wall_clock), ROLES)
        self.table.add("controlplane.Health", ClusterHealth(contract, self.serving), "open")
        add_standard_services(self.table, self.serving)
        self.router = RestRouter(
            self.table, {"/controlplane.Health/Check": _health_status}, {"/frontlas.v1.Events/Watch": tag}
        )
        openapi.serve(self.router, "Frontlas", frontier_tx.__version__)
        for file in web_files("frontlas") if web else ():
            self.router.page(file.path, file.serve)
        self.factory = ControlPlaneFactory(self.table, self.router, clock, limits)
        metrics.register(DoorCollector("control_plane", self.factory.door))

    def start(self) -> None:
        """Follow the registry from now on."""
        if self._unwatch is None:
            self._unwatch = self._registry.watch_ready(lambda ready, why: self._update())
        self._update()

    def stop(self) -> Deferred[Any]:
        """Follow it no longer, and leave the Frontiers; fires when that is done."""
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()
        return succeed(None) if self.callers is None else self.callers.stop()

    def drain(self, grace: float) -> Deferred[None]:
        """Stop in order: health turns to NOT_SERVING, calls under way may end within ``grace`` seconds,
        watchers are told to go elsewhere, all connections end. Close the port first."""
        self._draining = True
        self._update()
        return self.factory.drain(grace)

    async def not_ready(self) -> str | None:
        """Why this server cannot do its job, None when it can: for ``/readyz``. Asks the store each time."""
        if self._draining:
            return "draining"
        try:
            await self._registry.check_health()
        except RegistryError as error:
            return str(error)
        return None

    @property
    def draining(self) -> bool:
        """Whether it is leaving."""
        return self._draining

    def _update(self) -> None:
        self.serving.set(bool(self._registry.ready) and not self._draining)


def _health_status(response: Any) -> int:
    return 200 if response.status == SERVING else EXPECTATION_FAILED
