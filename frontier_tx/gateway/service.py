"""A gateway as a Twisted service, made from a configuration."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.internet.threads import deferToThread

from frontier_tx.atlas.reporter import Reporter
from frontier_tx.config.common import Listen
from frontier_tx.config.frontier import FrontierConfig
from frontier_tx.config.render import to_mapping
from frontier_tx.config.schema import taken
from frontier_tx.control_plane.server import ControlPlane
from frontier_tx.gateway.bypass import BypassFactory
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.gateway.drain import Drain, on_signal
from frontier_tx.gateway.membership import ReporterCollector, endpoints, meta_of, reporter_of
from frontier_tx.gateway.metrics import GatewayCollector
from frontier_tx.queues.build import queues_of
from frontier_tx.queues.metrics import QueueCollector
from frontier_tx.rpc.access import Access
from frontier_tx.rpc.listener import ALPN
from frontier_tx.rpc.observability import observability_factory
from frontier_tx.runtime.launch import Ports, listening_at, open_files, port_number, raise_open_files
from frontier_tx.runtime.logs import Logger
from frontier_tx.runtime.memory import settle_memory
from frontier_tx.runtime.process_metrics import ProcessFigures
from frontier_tx.runtime.program import log_of_application
from frontier_tx.switch.choice import POLICIES
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.settings import Settings
from frontier_tx.tracing.gateway import traced
from frontier_tx.wire.limits import Limits

if TYPE_CHECKING:
    from frontier_tx.tracing.otel import Traces

#: Calls of operators have so long to end when everything else has.
CONTROL_SECONDS = 1.0
#: Where so few files may be open, none are kept for others.
FEW_FILES = 512


class Gateway(Service):
    """Listeners of a configuration around a ``GatewayCore``.

    :param ports: opens and closes the ports of edges and services.
    :param status_ports: the same for health, metrics and operators, who can ask until the last connection is gone.
    """

    log = Logger(namespace="frontier.gateway")

    def __init__(self, config: FrontierConfig, ports: Ports, status_ports: Ports, clock: IReactorTime) -> None:
        limits = config.limits
        self.config = config
        #: Where messages of edges go beside services.
        self.queues = queues_of(config.mqm, clock, config.daemon.frontier_id)
        self.metrics = CollectorRegistry()
        #: Makes spans; None where that is off.
        self.traces: "Traces | None" = None
        exchange: Callable[..., Exchange] = Exchange
        if config.tracing.enable:
            exchange, self.traces = traced(config.tracing, config.daemon.frontier_id, clock, self.metrics)
        self.core = GatewayCore(
            clock,
            exchange=exchange,
            settings=taken(Settings, limits, config.exchange),
            limits=taken(Limits, limits),
            policy=POLICIES[config.exchange.hashby](),
            allocate_edge_ids=config.edgebound.edgeid_alloc_when_no_idservice_on,
            own_edge_ids=config.edgebound.edgeid_own_allowed,
            renew_edge_ids=config.edgebound.edgeid_renew_when_idservice_comes,
            control_seconds=limits.control_seconds,
            connections=limits.connections,
            queues=self.queues if self.queues else None,
            per_address=limits.connections_per_address,
            strangers=limits.handshakes,
        )
        #: Tells Frontlas who is here; None outside a cluster.
        self.reporter: Reporter | None = None
        if config.frontlas.enable:
            self.reporter = reporter_of(config, self.core, clock)
        #: What operators ask; None where it is off.
        self.control: ControlPlane | None = None
        self.access: Access | None = None
        plane = config.controlplane
        if plane.enable:
            self.access = Access(plane.access, plane.listen, "controlplane.access", clock.seconds)
            bounds = plane.limits
            self.control = ControlPlane(
                self.core.presence,
                clock,
                host=self,
                limits=bounds,
                access=self.access,
                metrics=self.metrics,
                web=plane.web,
            )
        self._ports = ports
        self._status_ports = status_ports
        self._clock = clock
        self._drain: Drain | None = None
        self._bypass: BypassFactory | None = None
        #: Name in the cluster, and where edges and services connect; known from the start on.
        self.frontier_id = config.daemon.frontier_id
        self._addresses: dict[str, list[str]] = {}

    def setServiceParent(self, parent: Any) -> None:
        """A part of an application in a file for ``twistd -y``: it logs as the configuration says."""
        log_of_application(parent, self.config.log, "frontier")
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Open the ports; a port that cannot be opened ends the process with one line."""
        super().startService()  # type: ignore[no-untyped-call]
        raise_open_files(self.config.daemon.rlimit)
        self._leave_files_for_others()
        settle_memory()
        config = self.config
        self.queues.start()
        if self.traces is not None:
            self.traces.start()
        service_port = self._ports.listen("servicebound.listen", config.servicebound.listen, self.core.services)
        edges: IProtocolFactory = self.core.edges
        if config.edgebound.bypass_enable:
            others = endpoints(config.edgebound.bypass, "edgebound.bypass", self._clock)
            edges = self._bypass = BypassFactory(
                self.core.edges,
                others,
                self._clock,
                held_bytes=config.limits.bypass_bytes,
                stall_seconds=config.limits.write_stall_seconds,
            )
        edge_port = self._ports.listen("edgebound.listen", config.edgebound.listen, edges)
        meta = meta_of(config, port_number(service_port), port_number(edge_port))
        self.frontier_id = meta.frontier_id
        self._addresses = {"edges": [listening_at(edge_port)], "services": [listening_at(service_port)]}
        self._fill_metrics()
        if config.observability.enable:
            site = observability_factory(self._clock, self.not_ready, self.metrics, notes=self.queues.notes)
            self._status_ports.listen("observability", Listen(addr=config.observability.addr), site)
        if config.daemon.pprof.enable:
            self.log.warn("daemon.pprof.enable: this version has no diagnostics listener; its port stays closed")
        if self.control is not None:
            self._status_ports.listen("controlplane.listen", config.controlplane.listen, self.control.factory, ALPN)
        if self.access is not None:
            self.access.begin(self._status_ports)
        if self.reporter is not None:
            self.reporter.meta = meta
            self.log.info("member of the cluster as {id}", id=self.reporter.meta.frontier_id)
            self.reporter.start()

    def _leave_files_for_others(self) -> None:
        """Edges may not take the last open files: services, health and the links to others need some."""
        files = open_files()
        if files is not None and files >= FEW_FILES:
            spare = max(64, files // 16)
            for factory, most in ((self.core.edges, files - spare), (self.core.services, files - spare // 2)):
                factory.most = min(factory.most, most)

    def _fill_metrics(self) -> None:
        registry = self.metrics
        ProcessCollector(registry=registry)
        registry.register(ProcessFigures("frontier", {"connections": self.core.outlet.handlers}))
        registry.register(GatewayCollector(self.core, self._clock, self._bypass))
        if self.queues:
            registry.register(QueueCollector(self.queues))
        if self.reporter is not None:
            registry.register(ReporterCollector(self.reporter))

    def not_ready(self) -> str | None:
        """Why the gateway cannot do its work, or None."""
        if self.draining:
            return "draining"
        if self.reporter is not None and self.reporter.trouble:
            return f"Frontlas: {self.reporter.trouble}"
        if self.config.mqm.unready and self.queues.trouble():
            return self.queues.notes()
        return None

    def stopService(self) -> "Deferred[None]":
        """Close the ports, let what is under way finish, say goodbye to everybody."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._drain is not None:
            return self._drain.done
        drain = self._drain = Drain(self.core, self._clock, self.config.limits.drain_seconds)
        on_signal(self._clock, self.hurry)
        leaving = self._ports.close().addCallback(lambda _: drain.start())
        leaving.addCallback(lambda _: self.queues.stop())
        if self.traces is not None:
            traces = self.traces
            leaving.addCallback(lambda _: deferToThread(traces.stop))
        if self.reporter is not None:
            reporter = self.reporter
            leaving.addCallback(lambda _: reporter.stop())
        if self.control is not None:
            control = self.control
            control.draining()
            leaving.addCallback(lambda _: self._status_ports.close())
            return leaving.addCallback(lambda _: control.drain(CONTROL_SECONDS))
        return leaving.addCallback(lambda _: self._status_ports.close())

    @property
    def draining(self) -> bool:
        """Whether the gateway is leaving."""
        return self._drain is not None

    def hurry(self) -> None:
        """Asked a second time to stop: end everything now."""
        if self._drain is not None:
            self._drain.hurry()

    # -- for operators (``rpc.server_info.Host``) -------------------------------------------------------------

    async def counts(self) -> tuple[int, int]:
        """How many edges and services are online."""
        repository = self.core.repository
        return len(repository.edges), len(repository.services)

    def addresses(self) -> dict[str, list[str]]:
        """Where edges and services connect."""
        return self._addresses

    def configuration(self) -> dict[str, Any]:
        """The effective configuration without its secrets."""
        return to_mapping(self.config)

    def leave(self) -> None:
        """Begin to leave; the process ends when everybody is gone."""
        stop = getattr(self._clock, "stop", self.stopService)
        stop()


def make_service(config: FrontierConfig) -> Gateway:
    """The gateway of a configuration, on the process's reactor; twistd starts it."""
    from twisted.internet import reactor

    listens: Any = reactor
    return Gateway(config, Ports(listens, "frontier"), Ports(listens, "frontier"), listens)
