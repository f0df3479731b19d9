"""What REST adds to the methods: bodies as they are, errors told apart, named events, the description, the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from frontier_tx.control_plane import contract
from tests.control_plane.world import World, a_world
from tests.rpc.recorder import Recorder


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def events(recorder: Recorder) -> list[tuple[str, str, Any]]:
    """Event, id and data of what came."""
    found = []
    for block in recorder.body.decode().split("\n\n"):
        lines = dict(line.partition(": ")[::2] for line in block.split("\n") if not line.startswith(":"))
        if "data" in lines:
            found.append((lines.get("event", ""), lines.get("id", ""), json.loads(lines["data"])))
    return found


def test_a_call_with_bytes_and_with_json(world: World) -> None:
    world.edge(7, methods=("echo", "a/b c"))
    answer = world.rest("/v1/edges/7/rpcs/echo", "POST", bytes(range(256)))
    assert (answer.status, answer.body) == (200, bytes(range(256)))
    assert answer.headers["content-type"] == "application/octet-stream"
    answer = world.rest("/v1/edges/7/rpcs/echo", "POST", b'{"x":1}', **{"content-type": "application/json"})
    assert (answer.json, answer.headers["content-type"]) == ({"x": 1}, "application/json")
    assert world.rest("/v1/edges/7/rpcs/a%2Fb%20c", "POST", b"odd").body == b"odd"


def test_whose_error_it_is(world: World) -> None:
    edge, service = world.edge(7), world.service(9)

    def fail(request: Any) -> bytes:
        raise ValueError("out of paper")

    for peer in (edge, service):
        world.gateway.run(peer.register("fail", fail))
    for target, status, reason in (
        ("/v1/edges/7/rpcs/fail", 422, "EDGE_ERROR"),
        ("/v1/services/9/rpcs/fail", 422, "SERVICE_ERROR"),
        ("/v1/edges/7/rpcs/nothing", 404, "NO_SUCH_RPC"),
        ("/v1/edges/8/rpcs/fail", 404, "NOT_FOUND"),
        ("/v1/topics/nobody/messages", 404, "NOT_FOUND"),
        ("/v1/edges/x/rpcs/fail", 400, "CODEC"),
        ("/v1/edges/7/rpcs/fail?timeout=soon", 400, "CODEC"),
    ):
        answer = world.rest(target, "POST", b"")
        assert (answer.status, answer.json["code"], answer.json["reason"]) == (status, status, reason), target


def test_a_timeout(world: World) -> None:
    waiting: Deferred[bytes] = Deferred()
    world.gateway.run(world.edge(7).register("wait", lambda request: waiting))
    answer = world.rest("/v1/edges/7/rpcs/wait?timeout=500ms", "POST", b"")
    assert world.until(lambda: answer.finished) < 0.8
    assert (answer.status, answer.json["reason"]) == (504, "DEADLINE_EXCEEDED")
    waiting.callback(b"")


def test_a_client_that_goes(world: World) -> None:
    waiting: Deferred[bytes] = Deferred()
    world.gateway.run(world.edge(7).register("wait", lambda request: waiting))
    answer = world.rest("/v1/edges/7/rpcs/wait", "POST", b"")
    assert answer.on_gone is not None
    answer.on_gone()
    world.settle()
    assert not world.core.repository.edges[7].pending
    assert world.control.through.under_way.number == 0
    waiting.callback(b"")


def test_events_have_names_and_numbers(world: World) -> None:
    world.edge(7, b"a")
    watching = world.rest("/v1/events?snapshot=1&kinds=edge_online,snapshot_end")
    world.edge(8, b"b")
    world.settle()
    assert watching.headers["content-type"] == "text/event-stream"
    got = [(event, number, data.get("edge_id")) for event, number, data in events(watching)]
    assert got == [("edge_online", "", "7"), ("snapshot_end", "", None), ("edge_online", "1", "8")]
    # What does not belong to the kind is not there.
    assert set(events(watching)[2][2]) == {"kind", "id", "time", "edge_id", "meta", "addr"}
    assert watching.on_gone is not None
    watching.on_gone()
    world.settle()
    assert not world.control.feed.readers


def test_the_server(world: World) -> None:
    assert world.rest("/v1/server").json["roles"] == ["read", "act", "call"]
    assert set(world.rest("/v1/server/stats").json) == {"time", "counters", "gauges", "quantiles"}
    assert world.rest("/v1/server/config").json["limits"]["edge_window"] == 64
    level = world.rest("/v1/server/log-level").json["level"]
    assert world.rest(f"/v1/server/log-level?level={level}", "PUT").json == {"level": level}
    assert world.rest("/v1/server/log-level?level=loud", "PUT").status == 400
    assert world.rest("/v1/server/drain", "GET").status == 404
    assert world.rest("/v1/server/drain", "POST").json == {}


def test_the_description_names_every_route(world: World) -> None:
    answer = world.rest("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    document = answer.json
    described = {(verb.upper(), path) for path, operations in document["paths"].items() for verb in operations}
    served = {(binding.verb, binding.path) for spec in world.control.table.methods for binding in spec.bindings}
    assert described == served
    assert document["paths"]["/v1/edges/{edge_id}"]["delete"]["x-role"] == "act"
    edge = document["components"]["schemas"]["controlplane.Edge"]
    assert list(edge["properties"]) == ["edge_id", "meta", "addr", "create_time"]


def test_the_page(world: World) -> None:
    page = world.rest("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_without_the_page() -> None:
    with a_world(web=False) as world:
        assert world.rest("/").status == 404


def test_equal_lists_are_answered_from_one_until_something_changes(world: World) -> None:
    world.edge(7, b"a", ("move",))
    made = world.control.table.metrics.calls

    def listed(target: str = "/v1/edges", **headers: str) -> Any:
        return world.rest(target, **headers).json

    first = listed()
    assert listed() is not None and listed() == first
    assert made._value.get() == 0
    edge = world.edge(8, b"b", reconnect=None)
    assert [each["edge_id"] for each in listed()["edges"]] == ["8", "7"]
    assert listed("/v1/edges/rpcs")["rpcs"] == ["move"]
    world.gateway.run(edge.register("stop", lambda request: b""))
    assert listed("/v1/edges/rpcs")["rpcs"] == ["stop", "move"]
    world.core.repository.edges[8].transport.abort("made up")
    world.settle()
    assert listed() == first
    assert world.rest("/v1/edges/8").status == 404
    # Another media type is another answer.
    assert world.rest("/v1/edges", accept="application/proto").headers["content-type"] == "application/proto"


def test_a_page_has_a_bound_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "MAX_BYTES", 1000)
    monkeypatch.setattr(contract, "SLICE_BYTES", 1000)
    for letter in (b"c", b"b", b"a"):
        world.edge(meta=letter * 600)
    refused = world.rest("/v1/edges?page=1&page_size=3")
    assert (refused.status, refused.json["message"]) == (
        400,
        "3 records are too large for one answer; set a smaller page_size",
    )
    shown = world.rest("/v1/edges?page=1&page_size=1&order=%2Bmeta").json
    assert (shown["count"], shown["edges"][0]["meta"]) == (3, "a" * 600)
