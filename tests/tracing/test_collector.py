"""Traces end to end: clients with OpenTelemetry, a gateway as a process, and a collector on the loopback."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from frontier_tx.aio import Edge, Message, NoSuchRPC, Request, Service
from frontier_tx.tracing.spans import context_of, traceparent
from tests.launch.test_twistd import Running, configured
from tests.redis.servers import free_ports, wait_until

pytestmark = pytest.mark.timeout(60)

PARENT = f"00-{'a' * 32}-{'b' * 16}"


class Collector:
    """Takes OTLP over HTTP and keeps the spans."""

    def __init__(self, port: int) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def names(self) -> set[str]:
        return {span.name for span in self.spans}


class Place:
    """A gateway with traces, and where its ends are."""

    def __init__(self, folder: Path, **tracing: object) -> None:
        self.edges, self.services, self.collector = free_ports(3)
        endpoint = f"http://127.0.0.1:{self.collector}/v1/traces"
        path = configured(
            folder,
            edgebound={"listen": {"addr": f"127.0.0.1:{self.edges}"}},
            servicebound={"listen": {"addr": f"127.0.0.1:{self.services}"}},
            tracing={"enable": True, "endpoint": endpoint, **tracing},
        )
        self.gateway = Running(folder, "frontier", "-c", path)
        self.gateway.wait_for("edgebound listens")


@pytest.fixture
def own() -> Iterator[tuple[Any, InMemorySpanExporter]]:
    """A tracer of the clients, and its spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test"), exporter
    provider.shutdown()


async def round_trip(place: Place, tracer: Any) -> None:
    """An edge calls a service, which calls the edge and publishes to it."""

    async def measure(request: Request) -> bytes:
        with tracer.start_as_current_span("measure", context_of(request)):
            return b"12"

    async with (
        Service(f"127.0.0.1:{place.services}", name="s", traceparent=traceparent) as service,
        Edge(f"127.0.0.1:{place.edges}", traceparent=traceparent) as edge,
    ):

        async def forecast(request: Request) -> bytes:
            with tracer.start_as_current_span("forecast", context_of(request)):
                await service.publish(request.edge_id, b"soon")
                return await service.call(request.edge_id, "measure")

        await service.register("forecast", forecast)
        await edge.register("measure", measure)

        async def take() -> Message:
            message = await edge.receive()
            with tracer.start_as_current_span("told", context_of(message)):
                message.ack()
            return message

        taking = asyncio.create_task(take())
        with tracer.start_as_current_span("ask"):
            assert await edge.call("forecast") == b"12"
        assert (await taking).custom == b""
        with pytest.raises(NoSuchRPC):
            await service.call(edge.edge_id or 0, "unknown")


def test_one_trace_through_everything(tmp_path: Path, own: tuple[Any, InMemorySpanExporter]) -> None:
    tracer, exporter = own
    place = Place(tmp_path)
    collector = Collector(place.collector)
    try:
        asyncio.run(round_trip(place, tracer))
        wanted = {"call forecast", "call measure", "publish", "call unknown"}
        wait_until(lambda: wanted <= collector.names(), "the gateway's spans")
    finally:
        collector.close()
    mine: dict[str, ReadableSpan] = {span.name: span for span in exporter.get_finished_spans()}
    its = {span.name: span for span in collector.spans}
    spans = {name: (span.context.trace_id, span.context.span_id) for name, span in mine.items() if span.context}
    spans |= {name: (int.from_bytes(span.trace_id), int.from_bytes(span.span_id)) for name, span in its.items()}
    parents = {name: span.parent.span_id if span.parent else 0 for name, span in mine.items()}
    parents |= {name: int.from_bytes(span.parent_span_id) for name, span in its.items()}
    chain = (
        ("ask", "call forecast"), ("call forecast", "forecast"), ("forecast", "call measure"),
        ("call measure", "measure"), ("forecast", "publish"), ("publish", "told"),
    )  # fmt: skip
    for parent, child in chain:
        assert parents[child] == spans[parent][1], child
        assert spans[child][0] == spans["ask"][0]
    assert parents["call unknown"] == 0
    attributes = {each.key: each.value.string_value for each in its["call forecast"].attributes}
    assert attributes["rpc.method"] == "forecast"
    assert (attributes["frontier.from"], attributes["frontier.to"]) == ("edge", "service")
    assert its["call unknown"].status.message == "no such rpc: unknown"
    assert place.gateway.stop() in (0, -15)


def test_a_sender_that_is_not_sampled_is_followed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    collector = Collector(place.collector)

    async def calls() -> list[str]:
        seen: list[str] = []

        async def handler(request: Request) -> bytes:
            seen.append(request.traceparent)
            return b""

        async with Service(f"127.0.0.1:{place.services}", name="s", traceparent=lambda: "") as service:
            await service.register("m", handler)
            for context in (f"{PARENT}-00", f"{PARENT}-01"):
                async with Edge(f"127.0.0.1:{place.edges}", traceparent=partial(str, context)) as edge:
                    await edge.call("m")
        return seen

    try:
        unsampled, sampled = asyncio.run(calls())
        assert place.gateway.stop() in (0, -15)
    finally:
        collector.close()
    assert unsampled.startswith(PARENT[:36]) and unsampled.endswith("-00")
    assert sampled.startswith(PARENT[:36]) and sampled.endswith("-01")
    # What was left was sent at the stop.
    assert [int.from_bytes(span.parent_span_id) for span in collector.spans] == [int("b" * 16, 16)]


def test_a_collector_that_is_away_is_named_once(tmp_path: Path, own: tuple[Any, InMemorySpanExporter]) -> None:
    place = Place(tmp_path, queue=10)
    for _ in range(3):
        asyncio.run(round_trip(place, own[0]))
    place.gateway.wait_for("takes no spans")
    asyncio.run(round_trip(place, own[0]))
    assert place.gateway.stop() in (0, -15)
    text = place.gateway.out.read_text()
    assert text.count("takes no spans") == 1
    assert "Traceback" not in text
