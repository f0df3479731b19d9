"""The usual gRPC library for Python against our server, and our client against its server."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate, optionsForClientTLS
from twisted.internet.task import deferLater

from frontier_tx.rpc.grpc_client import NotSentError, connect
from frontier_tx.rpc.status import RpcError, Status
from tests.launch.certificates import Authority
from tests.rpc.live import Live, in_thread, reactor
from tests.rpc.support import CLUSTER, CONTRACT, WATCH, message, method

grpc = pytest.importorskip("grpc", reason="needs grpcio")


@pytest_twisted.async_yield_fixture
async def live() -> AsyncIterator[Live]:
    server = await Live().open()
    yield server
    await server.close()


def serialize(item: Any) -> bytes:
    """The bytes of a message."""
    return bytes(item.SerializeToString())


def call(channel: Any, spec: Any, request: Any, **options: Any) -> Any:
    """One unary call."""
    options.setdefault("timeout", 10)
    stub = channel.unary_unary(spec.path, serialize, spec.response.FromString)
    return stub(request, **options)


def stream(channel: Any, spec: Any, request: Any, **options: Any) -> Any:
    """One server stream."""
    options.setdefault("timeout", 10)
    stub = channel.unary_stream(spec.path, serialize, spec.response.FromString)
    return stub(request, **options)


def refused(make: Callable[[], Any]) -> tuple[str, str]:
    """Code and text of the error that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        make()
    error: Any = caught.value
    return error.code().name, error.details()


async def run(server: Live, work: Callable[[Any], Any], **options: Any) -> Any:
    """Work with a channel to the server, in a thread."""

    def inside() -> Any:
        with grpc.insecure_channel(server.address, **options) as channel:
            return work(channel)

    return await in_thread(inside)


@pytest_twisted.ensureDeferred
async def test_calls(live: Live) -> None:
    def work(channel: Any) -> None:
        for number in (1, 2**64 - 1):
            response = call(channel, method("GetFrontierByEdge"), message("GetFrontierByEdgeIDRequest", edge_id=number))
            assert response.fontier.frontier_id == f"f{number}"
        many = call(channel, method("ListFrontiers"), message("ListFrontiersRequest", count=3500))
        assert len(many.frontiers) == 3500
        ids = message("ListServicesRequest", service_ids=range(300_000))
        assert call(channel, method("ListServices"), ids).cursor == 300_000

    await run(live, work)
    assert live.handlers.contexts[0].peer.startswith("127.0.0.1:")


@pytest_twisted.ensureDeferred
async def test_errors(live: Live) -> None:
    def raw(channel: Any, path: str, data: bytes, **options: Any) -> Any:
        return channel.unary_unary(path)(data, timeout=10, **options)

    def work(channel: Any) -> None:
        spec = method("GetEdgeByID")
        assert refused(lambda: call(channel, spec, spec.request())) == ("NOT_FOUND", "redis: nil")
        spec = method("GetServiceByID")
        assert refused(lambda: call(channel, spec, spec.request())) == ("FAILED_PRECONDITION", "100 % näh\n")
        spec = method("ListEdges")
        assert refused(lambda: call(channel, spec, spec.request(), timeout=0.1))[0] == "DEADLINE_EXCEEDED"
        text = f"unknown method Nope for service {CLUSTER}"
        assert refused(lambda: raw(channel, f"/{CLUSTER}/Nope", b"")) == ("UNIMPLEMENTED", text)
        assert refused(lambda: raw(channel, "/nope.Nope/X", b"")) == ("UNIMPLEMENTED", "unknown service nope.Nope")
        text = 'malformed method name: "/nosvc"'
        assert refused(lambda: raw(channel, "/nosvc", b"")) == ("UNIMPLEMENTED", text)
        text = "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"
        assert refused(lambda: raw(channel, f"/{CLUSTER}/GetEdgeByID", b"\xff\xff")) == ("INTERNAL", text)
        text = "grpc: error unmarshalling request: string field contains invalid UTF-8"
        assert refused(lambda: raw(channel, f"/{CLUSTER}/ListFrontiers", b"\x22\x01\xff")) == ("INTERNAL", text)
        compressed = {"compression": grpc.Compression.Gzip}
        code, text = refused(lambda: raw(channel, f"/{CLUSTER}/GetEdgeByID", b"\x08\x01" * 500, **compressed))
        assert code == "UNIMPLEMENTED"
        assert "gzip" in text

    await run(live, work)
    assert live.table.calls == 0


@pytest_twisted.ensureDeferred
async def test_messages_over_the_limit(live: Live) -> None:
    def work(channel: Any) -> None:
        spec = method("ListServices")
        request = spec.request(service_ids=[2**63] * 450_000)
        code, text = refused(lambda: call(channel, spec, request))
        assert code == "RESOURCE_EXHAUSTED"
        assert "larger than max" in text
        assert call(channel, spec, spec.request()).cursor == 0

    await run(live, work)


@pytest_twisted.ensureDeferred
async def test_many_calls_at_once(live: Live) -> None:
    def work(channel: Any) -> None:
        spec = method("GetFrontierByEdge")
        stub = channel.unary_unary(spec.path, serialize, spec.response.FromString)
        futures = [stub.future(spec.request(edge_id=number), timeout=20) for number in range(1000)]
        assert [future.result().fontier.frontier_id for future in futures] == [f"f{n}" for n in range(1000)]

    await run(live, work)


@pytest_twisted.ensureDeferred
async def test_streams(live: Live) -> None:
    spec = method("Watch", WATCH)

    def work(channel: Any) -> None:
        events = stream(channel, spec, spec.request(services=True))
        assert [next(events).edge_id for _ in range(3)] == [0, 1, 2]
        assert refused(lambda: next(events)) == ("ABORTED", "enough")
        events = stream(channel, spec, spec.request())
        assert next(events).edge_id == 0
        events.cancel()

    await run(live, work)
    for _ in range(100):
        if live.handlers.stopped == 2:
            break
        await deferLater(reactor, 0.02)
    assert (live.handlers.stopped, live.table.streams) == (2, 0)


@pytest_twisted.ensureDeferred
async def test_standard_services(live: Live) -> None:
    check = CONTRACT.method("grpc.health.v1.Health", "Check")
    listed = CONTRACT.method("kratos.api.Metadata", "ListServices")
    described = CONTRACT.method("kratos.api.Metadata", "GetServiceDesc")

    def work(channel: Any) -> None:
        assert call(channel, check, check.request()).status == 1
        assert refused(lambda: call(channel, check, check.request(service="x"))) == ("NOT_FOUND", "unknown service")
        names = call(channel, listed, listed.request())
        assert CLUSTER in names.services
        assert f"/{CLUSTER}/GetFrontierByEdge" in names.methods
        files = call(channel, described, described.request(name=CLUSTER)).file_desc_set.file
        assert [file.name for file in files][:2] == ["cluster.proto", "google/api/annotations.proto"]
        text = "service nope not found"
        assert refused(lambda: call(channel, described, described.request(name="nope"))) == ("NOT_FOUND", text)

    await run(live, work)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest_twisted.ensureDeferred
async def test_reflection(live: Live, version: str) -> None:
    spec = CONTRACT.method(f"grpc.reflection.{version}.ServerReflection", "ServerReflectionInfo")

    def work(channel: Any) -> list[Any]:
        stub = channel.stream_stream(spec.path, serialize, spec.response.FromString)
        questions = [
            spec.request(list_services=""),
            spec.request(file_containing_symbol=f"{CLUSTER}.ListEdges"),
            spec.request(file_by_filename="health.proto"),
            spec.request(file_containing_symbol="nope.Nope"),
            spec.request(all_extension_numbers_of_type="google.protobuf.MethodOptions"),
            spec.request(),
        ]
        questions[4:4] = [spec.request()]
        extension = questions[4].file_containing_extension
        extension.containing_type, extension.extension_number = "google.protobuf.MethodOptions", 72295728
        return list(stub(iter(questions), timeout=10))

    listed, symbol, file, missing, extension, numbers, nothing = await run(live, work)
    names = [item.name for item in listed.list_services_response.service]
    assert names == sorted(names)
    assert {CLUSTER, "grpc.health.v1.Health", "kratos.api.Metadata"} < set(names)
    described = CONTRACT.files["cluster.proto"].FromString(symbol.file_descriptor_response.file_descriptor_proto[0])
    assert described == CONTRACT.files["cluster.proto"]
    assert len(symbol.file_descriptor_response.file_descriptor_proto) == 4
    assert len(file.file_descriptor_response.file_descriptor_proto) == 4
    assert (missing.error_response.error_code, missing.error_response.error_message) == (5, "proto:\u00a0not found")
    assert len(extension.file_descriptor_response.file_descriptor_proto) == 3
    assert list(numbers.all_extension_numbers_response.extension_number) == [72295728]
    assert nothing.error_response.error_code == Status.INVALID_ARGUMENT


@pytest_twisted.ensureDeferred
async def test_draining_is_seen_by_a_waiting_client(live: Live) -> None:
    check = CONTRACT.method("grpc.health.v1.Health", "Watch")
    seen: list[Any] = []

    def work(channel: Any) -> tuple[str, str]:
        states = stream(channel, check, check.request())

        def read() -> None:
            for state in states:
                seen.append(state.status)

        return refused(read)

    watching = ensureDeferred(run(live, work))
    while not seen:
        await deferLater(reactor, 0.01)
    live.serving.set(False)
    while len(seen) < 2:
        await deferLater(reactor, 0.01)
    await live.factory.drain(0.2)
    code, _ = await watching
    assert (seen, code) == ([1, 2], "UNAVAILABLE")
    assert live.factory.connections == 0


def tls_options(folder: Path) -> tuple[Any, bytes]:
    """Server options for localhost, and the certificate of the authority."""
    authority = Authority(folder)
    cert, key = authority.issue("server", "localhost")
    pair = PrivateCertificate.loadPEM(Path(key).read_bytes() + Path(cert).read_bytes())  # type: ignore[no-untyped-call]
    options = CertificateOptions(privateKey=pair.privateKey.original, certificate=pair.original)
    return options, Path(authority.file).read_bytes()


@pytest_twisted.ensureDeferred
async def test_tls(tmp_path: Path) -> None:
    options, authority = tls_options(tmp_path)
    live = await Live().open(options)
    spec = method("GetFrontierByEdge")

    def work() -> str:
        credentials = grpc.ssl_channel_credentials(authority)
        with grpc.secure_channel(f"localhost:{live.port}", credentials) as channel:
            answer: str = call(channel, spec, spec.request(edge_id=9)).fontier.frontier_id
            return answer

    assert await in_thread(work) == "f9"
    root = Certificate.loadPEM(authority)  # type: ignore[no-untyped-call]
    tls = optionsForClientTLS("localhost", root, acceptableProtocols=[b"h2"])
    client = await connect(reactor, TCP4ClientEndpoint(reactor, "127.0.0.1", live.port), live.address, tls=tls)
    assert (await client.unary(spec, spec.request(edge_id=8), 5)).fontier.frontier_id == "f8"
    client.close()
    await client.closed
    await live.close()


class Theirs:
    """A server of the usual library."""

    def __init__(self) -> None:
        self.server = grpc.server(ThreadPoolExecutor(4))
        handlers = {
            "GetFrontierByEdge": grpc.unary_unary_rpc_method_handler(
                self.find, method("GetFrontierByEdge").request.FromString, serialize
            ),
            "ListFrontiers": grpc.unary_unary_rpc_method_handler(
                self.many, method("ListFrontiers").request.FromString, serialize
            ),
        }
        watch = grpc.unary_stream_rpc_method_handler(self.watch, method("Watch", WATCH).request.FromString, serialize)
        self.server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(CLUSTER, handlers),
                grpc.method_handlers_generic_handler(WATCH, {"Watch": watch}),
            )
        )
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def find(self, request: Any, context: Any) -> Any:
        if not request.edge_id:
            context.abort(grpc.StatusCode.NOT_FOUND, "nothing at 100 % ü")
        left = context.time_remaining()
        seen = f"{left:.0f}" if left and left < 1e9 else "0"
        return message("GetFrontierByEdgeIDResponse", fontier=message("Frontier", frontier_id=seen))

    def many(self, request: Any, context: Any) -> Any:
        frontiers = [message("Frontier", advertised_sb_addr="x" * 1000) for _ in range(request.count)]
        return message("ListFrontiersResponse", frontiers=frontiers)

    def watch(self, request: Any, context: Any) -> Any:
        for number in range(5000):
            yield message("WatchEvent", edge_id=number, addr="x" * 100)


@pytest.fixture
def theirs() -> Any:
    server = Theirs()
    yield server
    server.server.stop(None)


@pytest_twisted.ensureDeferred
async def test_our_client_at_their_server(theirs: Theirs) -> None:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", theirs.port)
    client = await connect(reactor, endpoint, f"127.0.0.1:{theirs.port}")
    find, many, watch = method("GetFrontierByEdge"), method("ListFrontiers"), method("Watch", WATCH)
    assert (await client.unary(find, find.request(edge_id=1))).fontier.frontier_id == "0"
    assert (await client.unary(find, find.request(edge_id=1), timeout=30)).fontier.frontier_id == "30"
    with pytest.raises(RpcError, match=r"^nothing at 100 % ü$") as caught:
        await client.unary(find, find.request())
    assert caught.value.status is Status.NOT_FOUND
    nope = method("GetEdgesCount")
    with pytest.raises(RpcError) as caught:
        await client.unary(nope, nope.request())
    assert caught.value.status is Status.UNIMPLEMENTED
    assert len((await client.unary(many, many.request(count=3000))).frontiers) == 3000
    with pytest.raises(RpcError) as caught:
        await client.unary(many, many.request(count=5000))
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
    answers = await gatherResults([client.unary(find, find.request(edge_id=1)) for _ in range(90)])
    assert len(answers) == 90
    numbers = [event.edge_id async for event in client.stream(watch, watch.request(), timeout=30)]
    assert numbers == list(range(5000))
    theirs.server.stop(None)
    await client.closed
    assert not client.usable


@pytest_twisted.ensureDeferred
async def test_their_server_going_away_lets_calls_finish(theirs: Theirs) -> None:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", theirs.port)
    client = await connect(reactor, endpoint, "x")
    watch = method("Watch", WATCH)
    events = client.stream(watch, watch.request())
    first = await events.__anext__()
    theirs.server.stop(20)
    while client.usable:
        await deferLater(reactor, 0.01)
    rest = [event.edge_id async for event in events]
    assert (first.edge_id, rest[-1], len(rest)) == (0, 4999, 4999)
    with pytest.raises(NotSentError):
        await client.unary(method("GetFrontierByEdge"), message("GetFrontierByEdgeIDRequest"))
    await client.closed


@pytest_twisted.ensureDeferred
async def test_nothing_to_connect_to(free_port: int) -> None:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", free_port)
    with pytest.raises(NotSentError, match=rf"cannot connect to 127.0.0.1:{free_port}: Connection was refused"):
        await connect(reactor, endpoint, f"127.0.0.1:{free_port}")


class Page(Protocol):
    """Speaks HTTP/1.1 whatever it hears."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_something_that_says_nothing_or_not_http2() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    try:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", silent.getsockname()[1])
        with pytest.raises(NotSentError, match=r"no gRPC connection to it within 0.2 s"):
            await connect(reactor, endpoint, "it", timeout=0.2)
    finally:
        silent.close()
    port = reactor.listenTCP(0, Factory.forProtocol(Page), interface="127.0.0.1")
    with pytest.raises(NotSentError, match="is it gRPC"):
        await connect(reactor, TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), "it")
    await port.stopListening()
