"""The recorded exchanges of a Frontlas, replayed against ours; where ours departs on purpose the table says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from frontier_tx.rpc.observability import observability_factory
from frontier_tx.rpc.status import RpcError
from frontlas_tx.registry.records import ReportKind
from tests.cluster_plane.world import AWAY, CONTRACT, START, World, a_world
from tests.rpc.support import outcome

PAIRS = json.loads((Path(__file__).parents[1] / "vectors" / "control-plane.json").read_text())["pairs"]

#: The state of the cluster that a group was recorded in.
EMPTY = {"frontlas-empty", "gRPC side services", "query decoding", "observability", "health"}
LIVE = {"frontlas-live"}
DOWN = {"frontlas-redis-down"}
#: Recorded while records of what is gone still answer: here the end of a peer is seen at once.
LEFT_OUT = {"frontlas-after-kick", "frontlas-2s-after-node-killed"}

EDGE = 7711464574676418585
VARIES = {"addr", "update_time", "cursor"}


def pairs(kind: str, server: str) -> list[Any]:
    """Recorded exchanges that a compatible server should match."""
    return [
        pytest.param(pair, id=pair["id"])
        for pair in PAIRS
        if (pair["verdict"], pair["kind"], pair["server"]) == ("match", kind, server) and pair["group"] not in LEFT_OUT
    ]


def populate(world: World, group: str) -> None:
    """Bring the cluster into the state of the recording."""
    if group in LIVE:
        claim = world.frontier("frontier-C", "127.0.0.1:31311", "127.0.0.1:31312")
        world.report(claim, ReportKind.EDGE_ONLINE, EDGE, 1, 2, 3, 4)
        world.report(claim, ReportKind.SERVICE_ONLINE, 50, 51, 52, 53, service="billing")
    world.registry.go(away=group in DOWN)


@pytest.fixture
def world() -> Iterator[World]:
    with a_world(web=False) as made:
        yield made


def plain(value: Any) -> Any:
    """A JSON value without what differs from one recording to the next."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in VARIES}
    return [plain(item) for item in value] if isinstance(value, list) else value


def expected(pair: dict[str, Any]) -> tuple[str, str | None]:
    """Code and message of an exchange, with the codes that say what is the matter."""
    code, text = pair["code"], pair.get("message")
    if pair["group"] in DOWN:
        return "UNAVAILABLE", AWAY
    return code, text


def unary(world: World, pair: dict[str, Any], spec: Any, request: Any) -> None:
    """Compare the answer to one request."""
    answer = world.client.unary(spec, request)
    world.settle()
    got = outcome(answer)
    code, text = expected(pair)
    if code != "OK":
        assert isinstance(got, RpcError)
        assert (got.status.name, got.message) == (code, text)
    elif "response" in pair:
        if "cursor" in pair["response"]:
            # How a scan is split into steps differs.
            assert got.HasField("cursor")
        else:
            assert plain(MessageToDict(got, preserving_proto_field_name=True)) == plain(pair["response"])


@pytest.mark.parametrize("pair", pairs("grpc", "frontlas"))
def test_grpc(world: World, pair: dict[str, Any]) -> None:
    populate(world, pair["group"])
    service, _, name = pair["full_method"].removeprefix("/").rpartition("/")
    if "ServerReflection" in service:
        reflection(world, pair, service)
        return
    try:
        spec = CONTRACT.method(service, name)
    except KeyError:
        nothing_there(world, pair)
        return
    if spec.server_streaming:
        watched(world, pair, spec)
    elif "request_hex" in pair:
        unary(world, pair, spec, spec.request.FromString(bytes.fromhex(pair["request_hex"])))
    else:
        unary(world, pair, spec, ParseDict(pair["request"], spec.request()))


def watched(world: World, pair: dict[str, Any], spec: Any) -> None:
    """Compare what a watcher is told at first. The stream stays open here, whoever it asks."""
    stream = world.client.stream(spec, ParseDict(pair["request"], spec.request()))
    first = Deferred.fromCoroutine(stream.__anext__())
    world.settle()
    said = MessageToDict(outcome(first))["status"]
    assert [said] == [each if isinstance(each, str) else each["status"] for each in pair["responses"]]


def nothing_there(world: World, pair: dict[str, Any]) -> None:
    """Compare the refusal of a method that is not in the contract."""
    with pytest.raises(RpcError) as caught:
        world.plane.table.find(pair["full_method"])
    assert (caught.value.status.name, caught.value.message) == (pair["code"], pair["message"])


def reflection(world: World, pair: dict[str, Any], service: str) -> None:
    """Compare an answer about the contract."""
    spec = CONTRACT.method(service, "ServerReflectionInfo")
    (answer,) = list(_answers(world, service, ParseDict(pair["request"], spec.request())))
    want = pair["response"]
    if "services" in want:
        names = [each.name for each in answer.list_services_response.service]
        ours = {*want["services"], "controlplane.ClusterWatch"} - {"grpc.channelz.v1.Channelz"}
        assert [name for name in names if not name.startswith("frontlas.v1.")] == sorted(ours)
    elif "files" in want:
        files = [
            CONTRACT.files["cluster.proto"].FromString(raw)
            for raw in answer.file_descriptor_response.file_descriptor_proto
        ]
        got = [{"name": each.name, "package": each.package, "deps": list(each.dependency)} for each in files]
        assert got == want["files"]
    else:
        assert MessageToDict(answer, preserving_proto_field_name=True)["error_response"] == want["error_response"]


def _answers(world: World, service: str, request: Any) -> Iterator[Any]:
    handlers: Any = world.plane.table._methods[f"/{service}/ServerReflectionInfo"].handler

    async def one() -> Any:
        async def requests() -> Any:
            yield request

        return [answer async for answer in handlers(requests(), None)]

    yield from outcome(Deferred.fromCoroutine(one()))


@pytest.mark.parametrize("pair", pairs("rest", "frontlas"))
def test_rest(world: World, pair: dict[str, Any]) -> None:
    populate(world, pair["group"])
    target = pair["path"] + ("?" + pair["query"] if pair.get("query") else "")
    answer = world.rest(target, pair["method"])
    if pair["path"] == "/cluster/v1/health":
        assert answer.status == pair["status"]
        return
    body = pair.get("body_json")
    if body and pair["group"] in DOWN:
        body = {**body, "code": 503, "reason": "UNAVAILABLE", "message": AWAY}
    assert answer.status == (body["code"] if body else pair["status"])
    for name in ("content-type", "location", "x-content-type-options"):
        assert answer.headers.get(name) == pair["headers"].get(name)
    if body:
        assert answer.json == body
    elif pair["method"] != "HEAD":
        assert answer.body.decode() == pair["body_text"]


@pytest.mark.parametrize("pair", pairs("rest", "frontlas-obs"))
def test_observability(world: World, pair: dict[str, Any]) -> None:
    populate(world, pair["group"])
    site = observability_factory(world.clock, world.plane.not_ready, CollectorRegistry())
    transport = StringTransport()
    channel: Any = site.buildProtocol(None)
    channel.makeConnection(transport)
    channel.dataReceived(f"{pair['method']} {pair['path']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = transport.value().decode().partition("\r\n\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
    assert int(head.split()[1]) == pair["status"]
    for name in ("content-type", "x-content-type-options"):
        assert headers.get(name) == pair["headers"].get(name)
    if pair["group"] in DOWN and pair["status"] == 503:
        assert body == f"not ready: {AWAY}"
    elif "body_text" in pair and "metric_names" not in pair:
        assert body == pair["body_text"]


def test_what_is_left_out_is_what_is_gone() -> None:
    with a_world(web=False) as world:
        claim = world.frontier("frontier-C")
        world.report(claim, ReportKind.EDGE_ONLINE, EDGE, 5)
        world.report(claim, ReportKind.EDGE_OFFLINE, EDGE)
        assert isinstance(world.ask("GetEdgeByID", edge_id=EDGE), RpcError)
        world.registry.release(claim)
        assert isinstance(world.ask("GetFrontierByEdge", edge_id=5), RpcError)
        assert world.clock.seconds() == START
