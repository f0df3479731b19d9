"""Puts the control plane together: the services, their REST form, health, and the factory to listen with."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

import frontier_tx
from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.control_plane.contract import ContractService
from frontier_tx.control_plane.events import EventFeed, EventsService
from frontier_tx.control_plane.kicks import Kicks
from frontier_tx.control_plane.metrics import ControlCollector
from frontier_tx.control_plane.peers import PeersService
from frontier_tx.control_plane.scans import Scans
from frontier_tx.control_plane.through import ThroughService
from frontier_tx.rpc import openapi
from frontier_tx.rpc.context import Role
from frontier_tx.rpc.contract import frontier_contract
from frontier_tx.rpc.door_metrics import DoorCollector
from frontier_tx.rpc.event_stream import tag
from frontier_tx.rpc.grpc_standard import Serving, add_standard_services
from frontier_tx.rpc.listener import ControlPlaneFactory
from frontier_tx.rpc.methods import MethodTable, Rules
from frontier_tx.rpc.rest import RestRouter
from frontier_tx.rpc.server_info import ROLES, Host, ServerService
from frontier_tx.switch.local import LocalCaller
from frontier_tx.switch.presence import Presence
from frontier_tx.web import web_files

TURN = 0.001
"""Seconds that work for operators takes in one turn of the reactor: calls of edges and services go between."""
#: What callers of the contract need.
CONTRACT_ROLES: dict[str, Role] = {
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
    """The server behind port 30010. Listen with ``factory`` on any endpoint.

    :param host: the process around it; without one there is no ``frontier.v1.Server``.
    :param web: serve the web page.
    :param metrics: the figures of the whole process, to which it adds its own.
    """

    def __init__(
        self,
        presence: Presence,
        clock: IReactorTime,
        *,
        host: Host | None = None,
        limits: ControlPlaneLimits | None = None,
        access: Rules | None = None,
        metrics: CollectorRegistry | None = None,
        web: bool = True,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        contract = frontier_contract()
        exchange = presence.exchange
        registry = CollectorRegistry() if metrics is None else metrics
        self.serving = Serving()
        self.table = table = MethodTable(contract, clock, access=access, registry=registry)
        self.scans, self.feed = Scans(), EventFeed(contract, presence, wall_clock)
        self.through = ThroughService(contract, presence.repository, LocalCaller(exchange, wall_clock), clock)
        contracted = ContractService(contract, presence, Kicks(presence, clock), self.scans)
        table.add("controlplane.ControlPlane", contracted, CONTRACT_ROLES)
        table.add("frontier.v1.Peers", PeersService(contract, exchange, wall_clock), "read")
        table.add("frontier.v1.Events", EventsService(self.feed, presence), "read")
        longest = exchange.settings.call_seconds
        table.add("frontier.v1.Through", self.through, "call", longest=longest)
        if host is not None:
            server = ServerService(contract, host, registry, clock, wall_clock)
            table.add("frontier.v1.Server", server, ROLES)
        add_standard_services(table, self.serving)
        # What the contract lists follows from the repository alone.
        listed = {f"/controlplane.ControlPlane/{name}" for name, role in CONTRACT_ROLES.items() if role == "read"}
        self.router = RestRouter(
            table,
            tags={"/frontier.v1.Events/Watch": tag},
            versions=dict.fromkeys(listed, lambda: presence.repository.version),
        )
        openapi.serve(self.router, "Frontier", frontier_tx.__version__)
        for file in web_files("frontier") if web else ():
            self.router.page(file.path, file.serve)
        self.factory = ControlPlaneFactory(table, self.router, clock, limits, turn=TURN)
        registry.register(DoorCollector("control_plane", self.factory.door))
        registry.register(ControlCollector(self.scans, self.feed, self.through))

    def draining(self) -> None:
        """The gateway begins to leave: health turns to NOT_SERVING, and everything else is answered as before."""
        if self.serving.serving:
            self.serving.set(False)
            self.feed.tell("draining")

    def drain(self, grace: float) -> Deferred[None]:
        """End: calls under way may end within ``grace`` seconds, then all connections are closed. Close the port
        first."""
        self.draining()
        return self.factory.drain(grace)
