"""Puts the control plane together: the services, their REST form, health, and the factory to listen with."""

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from frontier_tx.control_plane.contract import ContractService
from frontier_tx.control_plane.kicks import Kicks
from frontier_tx.control_plane.scans import Scans
from frontier_tx.rpc.context import Role
from frontier_tx.rpc.contract import frontier_contract
from frontier_tx.rpc.door_metrics import DoorCollector
from frontier_tx.rpc.grpc_standard import Serving, add_standard_services
from frontier_tx.rpc.listener import ControlPlaneFactory, ListenerLimits
from frontier_tx.rpc.methods import MethodTable, Rules
from frontier_tx.rpc.rest import RestRouter
from frontier_tx.switch.presence import Presence

#: What callers of the contract need.
ROLES: dict[str, Role] = {
    "ListEdges": "read",
    "GetEdge": "read",
    "KickEdge": "act",
    "ListEdgeRPCs": "read",
    "ListServices": "read",
    "GetService": "read",
    "KickService": "act",
    "ListServiceRPCs": "read",
    "ListServiceTopics": "read",
}


class ControlPlane:
    """The server behind port 30010. Listen with ``factory`` on any endpoint."""

    def __init__(
        self,
        presence: Presence,
        clock: IReactorTime,
        *,
        limits: ListenerLimits | None = None,
        access: Rules | None = None,
        metrics: CollectorRegistry | None = None,
    ) -> None:
        contract = frontier_contract()
        self.serving = Serving()
        self.table = MethodTable(contract, clock, access=access, registry=metrics)
        kicks, scans = Kicks(presence, clock), Scans()
        self.table.add("controlplane.ControlPlane", ContractService(contract, presence, kicks, scans), ROLES)
        add_standard_services(self.table, self.serving)
        self.router = RestRouter(self.table)
        self.factory = ControlPlaneFactory(self.table, self.router, clock, limits)
        if metrics is not None:
            metrics.register(DoorCollector("control_plane", self.factory.door))

    def draining(self) -> None:
        """The gateway begins to leave: health turns to NOT_SERVING, and everything else is answered as before."""
        self.serving.set(False)

    def drain(self, grace: float) -> Deferred[None]:
        """End: calls under way may end within ``grace`` seconds, then all connections are closed. Close the port
        first."""
        self.draining()
        return self.factory.drain(grace)
