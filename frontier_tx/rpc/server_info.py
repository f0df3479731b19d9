"""``frontier.v1.Server``, ``frontlas.v1.Server``: the server itself, its figures, configuration, log, and its end."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from twisted.internet.interfaces import IReactorTime

import frontier_tx
from frontier_tx.rpc.context import CallContext, Role
from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.stats import Statistics
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.runtime.logs import Logger, level, set_level

LEVELS = ("debug", "info", "warn", "error")
#: What callers need.
ROLES: dict[str, Role] = {
    "GetServer": "read",
    "GetStats": "read",
    "GetConfig": "read",
    "GetLogLevel": "read",
    "SetLogLevel": "act",
    "Drain": "act",
}


class Host(Protocol):
    """The process around a control plane."""

    frontier_id: str

    @property
    def draining(self) -> bool:
        """Whether it is leaving."""

    def not_ready(self) -> str | None:
        """Why it cannot do its work, or None."""

    def counts(self) -> Awaitable[tuple[int, int]]:
        """How many edges and services are online; raises ``RpcError`` when that is not known."""

    def addresses(self) -> Mapping[str, list[str]]:
        """Where ``edges`` and ``services`` connect."""

    def configuration(self) -> dict[str, Any]:
        """The effective configuration without its secrets."""

    def leave(self) -> None:
        """Begin to leave; the process ends when everybody is gone."""


class ServerService:
    """Answers for one process.

    :param wall_clock: Unix seconds.
    """

    log = Logger(namespace="frontier.control")

    def __init__(
        self,
        contract: Contract,
        host: Host,
        registry: CollectorRegistry,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
    ) -> None:
        self._message = contract.message
        self._host = host
        self._clock = clock
        self._wall_clock = wall_clock
        self._started, self._started_at = wall_clock(), clock.seconds()
        self._asked = False
        self._statistics = Statistics(registry, clock.seconds)

    async def get_server(self, request: Any, context: CallContext) -> Any:
        """What it is and how it does."""
        host = self._host
        edges, services = await host.counts()
        roles = context.caller.roles if context.caller is not None else frozenset()
        return self._message("frontier.v1.ServerInfo")(
            version=frontier_tx.__version__,
            frontier_id=host.frontier_id,
            started=int(self._started),
            uptime_seconds=int(self._clock.seconds() - self._started_at),
            draining=host.draining,
            edges=edges,
            services=services,
            log_level=level(),
            addresses=self._message("frontier.v1.Addresses")(**host.addresses()),
            roles=[role for role in ("read", "act", "call") if role in roles],
            not_ready=host.not_ready() or "",
        )

    def get_stats(self, request: Any, context: CallContext) -> Any:
        """The figures of /metrics."""
        figures = self._statistics.read()
        return self._message("frontier.v1.Stats")(
            time=self._wall_clock(),
            counters=figures.counters,
            gauges=figures.gauges,
            quantiles=figures.quantiles,
        )

    def get_config(self, request: Any, context: CallContext) -> Any:
        """The effective configuration."""
        shown = context.method.response()
        shown.update(self._host.configuration())
        return shown

    def get_log_level(self, request: Any, context: CallContext) -> Any:
        """The least level that is logged."""
        return self._message("frontier.v1.LogLevel")(level=level())

    def set_log_level(self, request: Any, context: CallContext) -> Any:
        """Log from another level on, until the process ends."""
        if request.level not in LEVELS:
            raise RpcError(Status.INVALID_ARGUMENT, f"level must be one of {', '.join(LEVELS)}")
        set_level(request.level)
        return self.get_log_level(request, context)

    def drain(self, request: Any, context: CallContext) -> Any:
        """Begin to leave. Answered at once; to ask again changes nothing."""
        if not (self._asked or self._host.draining):
            self._asked = True
            self.log.warn("{peer} asks for the end: draining", peer=context.peer)
            self._clock.callLater(0, self._host.leave)
        return self._message("frontier.v1.DrainResponse")()
