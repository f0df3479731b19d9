"""Puts the cluster plane together: the services, their REST form, health, and the factory to listen with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.access import Access
from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract, frontlas_contract
from frontier_tx.rpc.door_metrics import DoorCollector
from frontier_tx.rpc.grpc_standard import Serving, add_standard_services
from frontier_tx.rpc.listener import ControlPlaneFactory
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.rest import RestRouter
from frontlas_tx.cluster_plane.queries import ClusterQueries
from frontlas_tx.cluster_plane.watch import ClusterWatch
from frontlas_tx.registry.errors import RegistryError
from frontlas_tx.registry.interfaces import IRegistry

CALL_TIMEOUT = 10.0
"""Seconds for one question; the registry gives up on its store sooner."""
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
    """

    def __init__(
        self,
        registry: IRegistry,
        clock: IReactorTime,
        *,
        limits: ControlPlaneLimits | None = None,
        access: Access | None = None,
        metrics: CollectorRegistry | None = None,
        call_timeout: float = CALL_TIMEOUT,
    ) -> None:
        contract = frontlas_contract()
        self._registry = registry
        self._draining = False
        self._unwatch: Callable[[], None] | None = None
        self.serving = Serving(False)
        self.table = MethodTable(contract, clock, access=access, registry=metrics, call_timeout=call_timeout)
        self.table.add("controlplane.ClusterService", ClusterQueries(contract, registry), "read")
        self.table.add("controlplane.ClusterWatch", ClusterWatch(contract, registry, clock), "read")
        self.table.add("controlplane.Health", ClusterHealth(contract, self.serving), "open")
        add_standard_services(self.table, self.serving)
        router = RestRouter(self.table, {"/controlplane.Health/Check": _health_status})
        self.factory = ControlPlaneFactory(self.table, router, clock, limits)
        if metrics is not None:
            metrics.register(DoorCollector("control_plane", self.factory.door))

    def start(self) -> None:
        """Follow the registry from now on."""
        if self._unwatch is None:
            self._unwatch = self._registry.watch_ready(lambda ready, why: self._update())
        self._update()

    def stop(self) -> None:
        """Follow it no longer."""
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()

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

    def _update(self) -> None:
        self.serving.set(bool(self._registry.ready) and not self._draining)


def _health_status(response: Any) -> int:
    return 200 if response.status == SERVING else EXPECTATION_FAILED
