"""Health and metrics over HTTP, through a real request parser."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from frontier_tx.gateway.core import GatewayCore
from frontier_tx.gateway.metrics import GatewayCollector
from frontier_tx.rpc.observability import observability_factory


class Server:
    def __init__(self) -> None:
        self.reason: str | None = None
        self.core = GatewayCore(Clock())
        registry = CollectorRegistry()
        registry.register(GatewayCollector(self.core, Clock()))
        self.site = observability_factory(Clock(), lambda: self.reason, registry)

    def ask(self, line: str) -> tuple[int, dict[str, str], str]:
        protocol: Any = self.site.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = transport.value().decode().partition("\r\n\r\n")
        lines = head.split("\r\n")
        headers = dict(each.lower().split(": ", 1) for each in lines[1:])
        return int(lines[0].split()[1]), headers, body


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE"])
def test_alive_whatever_the_verb(server: Server, verb: str) -> None:
    status, headers, body = server.ask(f"{verb} /healthz")
    assert (status, body) == (200, "ok")
    assert headers["content-type"] == "text/plain; charset=utf-8"


def test_ready_says_why_not(server: Server) -> None:
    assert server.ask("GET /readyz")[::2] == (200, "ready")
    server.reason = "draining"
    assert server.ask("GET /readyz")[::2] == (503, "not ready: draining")


def test_head_has_no_body(server: Server) -> None:
    status, headers, body = server.ask("HEAD /healthz")
    assert (status, headers["content-length"], body) == (200, "2", "")


@pytest.mark.parametrize("path", ["/", "/healthz/", "/debug/pprof/", "/metrics/x"])
def test_nothing_else(server: Server, path: str) -> None:
    assert server.ask(f"GET {path}")[::2] == (404, "404 page not found\n")


def test_metrics_count_what_is_there(server: Server) -> None:
    for _ in range(7):
        server.core.exchange.counters.tallies[True][True].note(0.002)
    status, headers, body = server.ask("GET /metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'frontier_calls_total{direction="edge_to_service",outcome="ok"} 7.0' in body
    assert 'frontier_call_seconds_bucket{direction="edge_to_service",le="0.0025"} 7.0' in body
    assert "frontier_edges 0.0" in body
    assert 'frontier_connections_limit{side="edgebound"} 1e+06' in body
