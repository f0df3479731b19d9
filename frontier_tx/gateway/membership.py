"""Membership of a gateway in a cluster: the reporter of a configuration, and what it says of itself."""

import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from frontier_tx import __version__
from frontier_tx.atlas.messages import FrontierMeta
from frontier_tx.atlas.reporter import LinkState, Reporter
from frontier_tx.config.address import is_unspecified, join_host_port, split_host_port
from frontier_tx.config.common import Dial, Listen
from frontier_tx.config.frontier import FrontierConfig
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.gateway.errands import Errands
from frontier_tx.runtime.logs import Logger
from frontier_tx.runtime.tls import client_context

#: An address of a network that exists in documents only: asking for the way to it sends nothing.
_ELSEWHERE = ("192.0.2.1", 9)


def own_address() -> str:
    """The address of this host that packets to the world would carry; empty where there is no way there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def advertised(listen: Listen, port: int) -> str:
    """The ``host:port`` that others are told for a port; without a host where the port listens on every address and
    there is no way to the world: then it is the address of the link to Frontlas (``FrontierMeta.reached_at``).

    :param port: the one that is open.
    """
    if listen.advertised_addr:
        return listen.advertised_addr
    host = listen.host
    return join_host_port(own_address() if is_unspecified(host) else host, port)


def meta_of(config: FrontierConfig, service_port: int, edge_port: int) -> FrontierMeta:
    """Who the gateway is in its cluster; without a configured id, its host name and service port."""
    return FrontierMeta(
        config.daemon.frontier_id or f"{socket.gethostname()}-{service_port}",
        advertised(config.servicebound.listen, service_port),
        advertised(config.edgebound.listen, edge_port),
        secrets.token_hex(8),
        __version__,
        int(time.time()),
    )


def endpoints(dial: Dial, path: str, reactor: Any) -> list[IStreamClientEndpoint]:
    """Where the servers of a section listen.

    :param path: the section's dotted key.
    :raises ConfigError: a TLS file that cannot be used.
    """
    made: list[IStreamClientEndpoint] = []
    for address in dial.addrs:
        host, port = split_host_port(address)
        endpoint: IStreamClientEndpoint = HostnameEndpoint(reactor, host, port)
        if dial.tls.enable:
            endpoint = wrapClientTLS(client_context(dial.tls, f"{path}.tls", host), endpoint)
        made.append(endpoint)
    return made


def reporter_of(config: FrontierConfig, core: GatewayCore, reactor: Any) -> Reporter:
    """The reporter that a configuration asks for.

    The caller starts it when the ports are open, and corrects its ``meta`` first where the system chose them.

    :raises ConfigError: see ``endpoints``.
    """
    meta = meta_of(config, config.servicebound.listen.port, config.edgebound.listen.port)
    metrics = config.frontlas.metrics
    reporter = Reporter(
        core.repository,
        endpoints(config.frontlas.dial, "frontlas.dial", reactor),
        meta,
        reactor,
        core.alarms,
        core.outlet,
        addresses=config.frontlas.dial.addrs,
        stats_every=metrics.interval if metrics.enable else None,
        serve=Errands(core.presence, reactor, time.time).serve,
        id_taken=_leave if config.frontlas.exit_when_id_taken else None,
    )
    core.presence.listeners.append(reporter)
    return reporter


def _leave() -> None:
    Logger(namespace="frontier.gateway").critical("frontlas.exit_when_id_taken: the id is in use, so this process ends")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


class ReporterCollector(Collector):
    """Figures of the link to Frontlas."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        reporter = self._reporter
        up = float(reporter.state is LinkState.UP)
        yield GaugeMetricFamily("frontier_frontlas_up", "Whether the link to Frontlas is up.", value=up)
        yield GaugeMetricFamily("frontier_frontlas_waiting", "Events to be reported.", value=reporter.waiting)
        yield GaugeMetricFamily(
            "frontier_frontlas_last_report_timestamp_seconds",
            "When Frontlas took the last event, in Unix seconds; 0 before the first.",
            value=reporter.reported_at,
        )
        yield CounterMetricFamily("frontier_frontlas_reported", "Events that Frontlas took.", value=reporter.reported)
        yield CounterMetricFamily("frontier_frontlas_failed", "Reports that it did not take.", value=reporter.failed)
