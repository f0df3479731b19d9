"""REST without a transport: paths, queries, answers, errors, events."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from frontier_tx.config.access import AccessControl, Token
from frontier_tx.config.common import Listen
from frontier_tx.rpc import rest
from frontier_tx.rpc.access import Access
from frontier_tx.rpc.contract import frontier_contract
from frontier_tx.rpc.event_stream import EVENT_BEAT
from frontier_tx.rpc.exchange import RestRequest
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.query import QueryError, fill, parse_query, quote
from frontier_tx.rpc.rest import RestRouter, clean_path
from frontier_tx.rpc.status import RpcError, Status
from tests.rpc.recorder import Recorder, ask
from tests.rpc.support import CLUSTER, Memory, make_table, message, method

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "control-plane.json").read_text())["pairs"]
NODE = frontier_contract()


class Node:
    """Made-up handlers of a Frontier's control plane: they answer with what was asked, where that shows anything."""

    requests: list[Any]

    def __init__(self) -> None:
        self.requests = []

    def __getattr__(self, name: str) -> Any:
        response = {spec.handler_name: spec.response for spec in NODE.methods("controlplane.ControlPlane")}.get(name)
        if response is None:
            raise AttributeError(name)

        def handler(request: Any, context: Any) -> Any:
            self.requests.append(request)
            if name.startswith("kick"):
                raise RpcError(Status.UNKNOWN, "edge not online", "")
            if name.startswith("get") and getattr(request, name.removeprefix("get_") + "_id") in (0, 12345):
                raise RpcError(Status.UNKNOWN, "not found", "")
            return response()

        return handler


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def node_router(node: Node) -> RestRouter:
    table = MethodTable(NODE, Clock())
    table.add("controlplane.ControlPlane", node)
    return RestRouter(table)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def router(memory: Memory) -> RestRouter:
    return RestRouter(memory.table)


def rules() -> list[Any]:
    """Recorded exchanges that show rules of the interface and not what a node happens to hold."""
    groups = {"paths", "methods", "cors", "query decoding"}
    return [
        pytest.param(pair, id=pair["id"])
        for pair in VECTORS
        if pair["verdict"] == "match"
        and pair["kind"] == "rest"
        and pair["server"] == "frontier-buntdb"
        and (pair["group"] in groups or pair["status"] == 400)
    ]


@pytest.mark.parametrize("pair", rules())
def test_recorded_exchanges(pair: dict[str, Any], node_router: RestRouter) -> None:
    target = pair["path"] + ("?" + pair["query"] if pair.get("query") else "")
    headers = {name.lower(): value for name, value in (pair.get("request_headers") or {}).items()}
    answer = ask(node_router, pair["method"], target, headers)
    assert answer.status == pair["status"]
    for name in ("content-type", "location", "x-content-type-options"):
        assert answer.headers.get(name) == pair["headers"].get(name)
    if pair["status"] == 200:
        return
    if "body_json" in pair:
        assert answer.json == pair["body_json"]
    elif pair["method"] != "HEAD":
        assert answer.body.decode() == pair["body_text"]


def test_an_error_as_protobuf(node_router: RestRouter) -> None:
    (pair,) = [pair for pair in VECTORS if pair["id"] == "cp-129"]
    answer = ask(node_router, "GET", pair["path"], {"accept": "application/proto"})
    assert (answer.status, answer.headers["content-type"]) == (500, "application/proto")
    assert answer.body == base64.b64decode(pair["body_base64"])


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json, text/plain", "application/json"),
        ("application/xml", "application/json"),
        ("application/yaml", "application/json"),
        ("application/proto", "application/proto"),
        ("application/proto;q=1", "application/proto"),
        ("application/proto, text/plain", "application/json"),
    ],
)
def test_what_is_accepted(router: RestRouter, accept: str, media: str) -> None:
    answer = ask(router, "GET", "/cluster/v1/frontier?edge_id=5", {"accept": accept})
    assert answer.headers["content-type"] == media
    if media == "application/proto":
        assert message("GetFrontierByEdgeIDResponse").FromString(answer.body).fontier.frontier_id == "f5"
    else:
        assert answer.json["fontier"]["frontierId"] == "f5"


def test_literal_paths_before_variables(node: Node, node_router: RestRouter) -> None:
    answer = ask(node_router, "GET", "/v1/edges/rpcs?edge_id=7&page=2&pageSize=3")
    assert answer.json == {"rpcs": [], "count": 0}
    (request,) = node.requests
    assert (request.edge_id, request.page, request.page_size) == (7, 2, 3)


def test_the_path_wins_over_the_query(node: Node, node_router: RestRouter) -> None:
    ask(node_router, "GET", "/v1/edges/77?edge_id=1")
    assert node.requests[0].edge_id == 77


def test_unset_fields_are_written_and_unset_optional_ones_are_not(router: RestRouter) -> None:
    answer = ask(router, "GET", "/cluster/v1/frontiers?count=1")
    assert answer.json["frontiers"][0]["advertisedEbAddr"] == ""
    empty = ask(router, "GET", "/cluster/v1/services?service_ids=18446744073709551615")
    assert empty.json == {"cursor": 1, "services": []}


def test_numbers_of_64_bits_are_text(node_router: RestRouter) -> None:
    answer = ask(node_router, "GET", "/v1/edges/18446744073709551614")
    assert answer.json == {"edge_id": "0", "meta": "", "addr": "", "create_time": "0"}


@pytest.mark.parametrize(
    ("target", "status", "reason", "text"),
    [
        ("/cluster/v1/edge?edge_id=1", 404, "NOT_FOUND", "redis: nil"),
        ("/cluster/v1/service?service_id=1", 400, "FAILED_PRECONDITION", "100 % näh\n"),
        ("/cluster/v1/edges/count", 500, "UNKNOWN", "unknown request error"),
        ("/cluster/v1/services/count", 500, "UNKNOWN", "unknown request error"),
        (f"/cluster/v1/edge?edge_id={'9' * 6000}", 400, "CODEC", None),
    ],
)
def test_errors(router: RestRouter, target: str, status: int, reason: str, text: str | None) -> None:
    answer = ask(router, "GET", target)
    assert answer.status == status
    assert (answer.json["code"], answer.json["reason"], answer.json["metadata"]) == (status, reason, {})
    assert answer.json["message"] == text or text is None


def test_targets_that_are_no_paths(router: RestRouter) -> None:
    assert ask(router, "GET", "/cluster/v1/edges%zz").status == 400
    assert ask(router, "GET", "*").status == 404
    assert ask(router, "GET", "http://any.example/cluster/v1/frontier?edge_id=3").json["fontier"]["frontierId"] == "f3"
    assert ask(router, "GET", "/cluster/v1/%66rontier?edge_id=3").status == 200
    assert ask(router, "GET", "//other.example/..").headers["location"] == "/"


def test_redirects_keep_the_query_and_do_not_leave_the_server(router: RestRouter) -> None:
    assert ask(router, "GET", "/cluster/v1/edges/?cursor=0&a=<b>").headers["location"] == (
        "/cluster/v1/edges?cursor=0&a=%3Cb%3E"
    )
    assert ask(router, "GET", "//evil.example//x").headers["location"] == "/evil.example/x"
    answer = ask(router, "GET", "/a%0d%0aSet-Cookie:x//b")
    assert answer.headers["location"] == "/a%0D%0ASet-Cookie:x/b"


@given(st.text(alphabet="/.ab", max_size=12))
def test_cleaned_paths_are_clean(path: str) -> None:
    cleaned = clean_path("/" + path)
    assert cleaned.startswith("/")
    assert clean_path(cleaned) == cleaned
    assert "//" not in cleaned
    assert not {".", ".."} & set(cleaned.split("/"))


def test_queries_are_cut_like_go_cuts_them() -> None:
    assert parse_query(b"a=1&b=%zz&c;d=1&&a=x+y%2B&=n&e") == {"a": ["1", "x y+"], "": ["n"], "e": [""]}
    assert parse_query(b"a=%ff") == {"a": ["\ufffd"]}


def test_fields_of_other_kinds() -> None:
    request = message("WatchRequest")
    fill(request, parse_query(b"snapshot=true&edges=1&services=F").items())
    assert (request.snapshot, request.edges, request.services) == (True, True, False)
    with pytest.raises(QueryError, match=r'^parsing field "edges": strconv.ParseBool: parsing "yes": invalid syntax$'):
        fill(request, parse_query(b"edges=yes").items())
    event = message("WatchEvent")
    fill(event, parse_query(b"kind=LAGGED").items())
    assert event.kind == 9
    fill(event, parse_query(b"kind=3").items())
    assert event.kind == 3
    with pytest.raises(QueryError):
        fill(event, parse_query(b"kind=77").items())


def test_quoting() -> None:
    assert quote('a"\\\n\x01\xa0é\u200b\U000e0001') == '"a\\"\\\\\\n\\x01\\u00a0é\\u200b\\U000e0001"'


@given(st.binary(max_size=60))
def test_any_query_is_taken_or_refused(query: bytes) -> None:
    request = message("ListFrontiersRequest")
    try:
        fill(request, parse_query(query).items())
    except QueryError:
        return
    request.SerializeToString()


def test_a_client_that_leaves_ends_its_call(memory: Memory, router: RestRouter) -> None:
    answer = ask(router, "GET", "/cluster/v1/edges?edge_ids=1")
    assert (answer.status, memory.table.calls) == (0, 1)
    assert answer.on_gone is not None
    answer.on_gone()
    assert (memory.handlers.cancelled, memory.table.calls) == (1, 0)


def test_a_slow_call_is_ended(memory: Memory, router: RestRouter) -> None:
    answer = ask(router, "GET", "/cluster/v1/edges?edge_ids=1")
    memory.clock.advance(memory.table.call_timeout)
    assert (answer.status, answer.json["reason"]) == (504, "DEADLINE_EXCEEDED")
    assert memory.handlers.cancelled == 1


def events(answer: Recorder) -> list[Any]:
    """The data of the events of a stream."""
    return [json.loads(block.partition(b"data: ")[2]) for block in answer.body.split(b"\n\n") if b"data: " in block]


def test_event_streams(memory: Memory, router: RestRouter) -> None:
    answer = ask(router, "GET", "/cluster/v1/watch?edges=true")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert [event["edgeId"] for event in events(answer)] == ["0", "1", "2"]
    memory.clock.advance(EVENT_BEAT)
    assert answer.body.endswith(b"\n\n:\n\n")
    assert answer.on_gone is not None
    answer.on_gone()
    assert memory.handlers.stopped == 1
    assert not memory.clock.getDelayedCalls()


def test_an_event_stream_waits_for_its_reader(memory: Memory, router: RestRouter) -> None:
    answer = Recorder()
    answer.full = Deferred()

    router.serve(RestRequest("GET", b"/cluster/v1/watch", {}, "p"), answer)
    assert memory.handlers.sent == 1
    full, answer.full = answer.full, None
    full.callback(None)
    assert memory.handlers.sent == 3


def test_an_event_stream_that_fails_says_so(router: RestRouter) -> None:
    answer = ask(router, "GET", "/cluster/v1/watch?services=true")
    assert answer.finished
    assert answer.body.rpartition(b"event: error\n")[1]
    assert events(answer)[-1] == {"code": 409, "reason": "ABORTED", "message": "enough", "metadata": {}}


def test_a_refused_event_stream_has_a_status_of_its_own() -> None:
    table, _ = make_table(Clock(), max_streams=0)
    answer = ask(RestRouter(table), "GET", "/cluster/v1/watch")
    assert (answer.status, answer.json["reason"]) == (429, "RESOURCE_EXHAUSTED")


def test_only_whom_the_check_lets_in() -> None:
    tokens = (Token(name="reader", token="secret", roles=("read",)),)
    access = Access(AccessControl(tokens=tokens), Listen(addr="127.0.0.1:1"), "control_plane.access")
    table, _ = make_table(Clock(), access=access)
    router = RestRouter(table)
    assert ask(router, "GET", "/cluster/v1/frontier?edge_id=1").status == 401
    assert ask(router, "GET", "/cluster/v1/watch").status == 401
    assert ask(router, "GET", "/cluster/v1/frontier?edge_id=1", {"authorization": "Bearer secret"}).status == 200


def test_statuses_of_single_methods(memory: Memory) -> None:
    router = RestRouter(memory.table, {f"/{CLUSTER}/ListFrontiers": lambda response: 200 + len(response.frontiers)})
    assert ask(router, "GET", "/cluster/v1/frontiers?count=17").status == 217


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("a=http://h:1/x", {"a": ["http://h:1/x"]}),
        ("a=x://y&b=https://z?q=1://2", {"a": ["x://y"], "b": ["https://z?q=1://2"]}),
        ("http://a=b", {"http://a": ["b"]}),
        ("a=http%3A%2F%2Fh%2F", {"a": ["http://h/"]}),
        ("a=1+2%2B3", {"a": ["1 2+3"]}),
        ("a=1&a=&a=2", {"a": ["1", "", "2"]}),
        ("a&=b&=&&", {"a": [""], "": ["b", ""]}),
        ("a=%ff%fe", {"a": ["\ufffd\ufffd"]}),
        ("a=b=c?d", {"a": ["b=c?d"]}),
        ("a=//x/../y/./z", {"a": ["//x/../y/./z"]}),
        ("a=%00%0d%0a", {"a": ["\0\r\n"]}),
    ],
)
def test_odd_queries_reach_the_method_as_they_are(query: str, texts: dict[str, list[str]]) -> None:
    for prefix in ("", "http://host:80", "HTTPS://host", "http://[::1]:80", "http://u:p@h"):
        target = f"{prefix}/cluster/v1/services?{query}".encode()
        raw = router_query(target)
        assert raw == texts


def router_query(target: bytes) -> dict[str, list[str]]:
    """What the router makes of the query of a target."""
    seen: list[bytes] = []
    memory = Memory()
    router = RestRouter(memory.table)
    original = rest.parse_query

    def note(query: bytes) -> dict[str, list[str]]:
        seen.append(query)
        return original(query)

    rest.parse_query = note
    try:
        router.serve(rest.RestRequest("GET", target, {}, "p"), Recorder())
    finally:
        rest.parse_query = original
    (query,) = seen
    return original(query)


@pytest.mark.parametrize(
    "name", ["a://b", "http://x:1/y?z", "x&y=z", "a+b %", "é\u2028", "+", "://", "https://", "..//..", "a;b#c"]
)
def test_names_with_anything_in_them_are_found(name: str) -> None:
    memory = Memory()
    router = RestRouter(memory.table)
    seen: list[str] = []
    path = method("ListFrontiers").path
    memory.table._methods[path] = replace(
        memory.table._methods[path],
        handler=lambda request, context: seen.extend(request.frontier_ids) or message("ListFrontiersResponse"),
    )
    plain = ask(router, "GET", f"/cluster/v1/frontiers?frontier_ids={quote_plus(name)}&frontierIds[]=x")
    absolute = ask(router, "GET", f"http://10.0.0.1:40011/cluster/v1/frontiers?frontier_ids={quote_plus(name)}")
    assert (plain.status, absolute.status) == (200, 200)
    assert [each for each in seen if each != "x"] == [name, name]


def test_targets_that_name_a_host_and_nothing_else(router: RestRouter) -> None:
    for target in (
        "http://host",
        "http://host?x=://y",
        "http://host/",
        "//cluster/v1/frontiers",
        "http:/x",
        "?a=b",
        "",
    ):
        assert ask(router, "GET", target).status in (301, 404)
    for target in ("/http://h/cluster/v1/frontiers?a=b", "x/http://h/?c=://d"):
        answer = ask(router, "GET", target)
        assert answer.status in (301, 404)
        assert "://" not in answer.headers.get("location", "").partition("?")[0]


def test_a_very_long_query(router: RestRouter) -> None:
    many = "&".join(f"frontier_ids={number}" for number in range(20_000))
    answer = ask(router, "GET", f"/cluster/v1/frontiers?{many}")
    assert answer.status == 200


def test_one_address_leaves_places_for_others() -> None:
    table, _ = make_table(Clock(), max_streams=10)
    router = RestRouter(table)
    watching = [watch(router, "192.0.2.1:5") for _ in range(10)]
    assert [answer.status for answer in watching] == [200] * 6 + [429] * 4
    assert "6 streams of your address are under way" in watching[-1].json["message"]
    others = [watch(router, f"192.0.2.{n}:5") for n in range(2, 7)]
    assert [answer.status for answer in others] == [200] * 4 + [429]
    for answer in watching[:6]:
        assert answer.on_gone is not None
        answer.on_gone()
    assert table.streams == 4
    assert watch(router, "192.0.2.1:5").status == 200


def watch(router: RestRouter, peer: str) -> Recorder:
    recorder = Recorder()
    router.serve(RestRequest("GET", b"/cluster/v1/watch", {}, peer), recorder)
    return recorder
