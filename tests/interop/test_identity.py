"""Who an edge or a service is, and what services that watch edges are told.

The control functions concern every edge of a gateway, so these tests have one of their own.
"""

from __future__ import annotations

import base64
import json
import time

import pytest

from benchmarks.gateways import StartedGateway
from tests.interop.conftest import ConnectTo, StartGateway
from tests.interop.ends import End, EndError, Ends, fails, unique

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def ends(ends_of: ConnectTo, module_gateway: StartedGateway) -> Ends:
    return ends_of(module_gateway)


@pytest.fixture
def watcher(ends: Ends) -> End:
    """A service that is told of edges."""
    service = ends.service("watcher")
    service.register("edge_online")
    service.register("edge_offline")
    return service


def report_of(end: End, function: str, count: int = 1) -> dict[str, object]:
    report = json.loads(end.seen(function, count)[count - 1].data)
    assert isinstance(report, dict)
    return report


def test_allocated_ids_are_unique(ends: Ends) -> None:
    ids = [ends.edge().client_id for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(edge_id > 1 for edge_id in ids)


def test_wanted_id_of_an_edge_is_ignored(ends: Ends) -> None:
    assert ends.edge(wanted_id=77).client_id != 77


def test_wanted_id_of_a_service_is_taken(ends: Ends) -> None:
    assert ends.service("any", wanted_id=4711).client_id == 4711
    assert ends.service("any").client_id not in (0, 1, 4711)


@pytest.mark.parametrize("edge_id", [7, 2**63, 2**64 - 1])
def test_service_gives_edges_their_ids(ends: Ends, edge_id: int) -> None:
    service = ends.service("any")
    service.register("get_edge_id", data=edge_id.to_bytes(8, "big"))
    edge = ends.edge(b"\x00\xffmeta")
    assert edge.client_id == edge_id
    assert service.seen("get_edge_id")[0].data == b"\x00\xffmeta"
    edge.register("echo", echo=True)
    assert service.call("echo", b"x", edge_id=edge_id) == b"x"


def test_id_zero_means_allocate(ends: Ends) -> None:
    ends.service("any").register("get_edge_id", data=bytes(8))
    assert ends.edge().client_id > 1


def test_id_service_refuses(ends: Ends) -> None:
    ends.service("any").register("get_edge_id", error="unknown device")
    with fails("unknown device"):
        ends.edge()


@pytest.mark.parametrize("length", [0, 7, 9])
def test_id_of_a_wrong_length_refuses(ends: Ends, length: int) -> None:
    ends.service("any").register("get_edge_id", data=b"1" * length)
    with fails("illegal edgeID"):
        ends.edge()


def test_no_id_service_and_no_allocation(ends_of: ConnectTo, gateway_with: StartGateway) -> None:
    gateway = gateway_with(alloc=False)
    ends = ends_of(gateway)
    with fails("service not online"):
        ends.edge()
    ends.service("any").register("get_edge_id", data=(99).to_bytes(8, "big"))
    assert ends.edge().client_id == 99


def test_online_and_offline_are_reported(ends: Ends, watcher: End) -> None:
    edge = ends.edge(b"\x00\xffmeta")
    online = report_of(watcher, "edge_online")
    assert list(online) == ["EdgeID", "Meta", "Net", "Str"]
    assert online["EdgeID"] == edge.client_id
    assert base64.b64decode(str(online["Meta"])) == b"\x00\xffmeta"
    assert online["Net"] == "tcp"
    assert str(online["Str"]).startswith("127.0.0.1:")
    edge.close()
    assert report_of(watcher, "edge_offline") == online


def test_edge_without_meta_is_reported(ends: Ends, watcher: End) -> None:
    ends.edge()
    assert not report_of(watcher, "edge_online")["Meta"]


def test_abrupt_loss_is_reported(ends: Ends, watcher: End) -> None:
    edge = ends.edge()
    edge.cut()
    assert report_of(watcher, "edge_offline")["EdgeID"] == edge.client_id


def test_online_function_refuses(ends: Ends) -> None:
    service = ends.service("watcher")
    service.register("edge_offline")
    service.register("edge_online", error="stay out")
    with fails("stay out"):
        ends.edge(b"refused")
    service.register("edge_online")
    edge = ends.edge(b"welcome")
    edge.close()
    assert report_of(service, "edge_offline")["EdgeID"] == edge.client_id
    assert len(service.seen("edge_offline")) == 1


@pytest.mark.differs("G16: a report may be lost")
def test_every_edge_is_reported_once_each_way(ends: Ends, watcher: End) -> None:
    ids = sorted(ends.edges_come_and_go(60, 20, patience=10))
    for function in ("edge_online", "edge_offline"):
        reports = [json.loads(run.data)["EdgeID"] for run in watcher.seen(function, 60)]
        assert sorted(reports) == ids


def test_one_of_several_watchers_is_asked(ends: Ends) -> None:
    watchers = [ends.service("watcher") for _ in range(2)]
    for service in watchers:
        service.register("edge_online")
        service.register("edge_offline")
    ids = ends.edges_come_and_go(20, 1, patience=10)
    time_up = time.monotonic() + 5
    while time.monotonic() < time_up:
        runs = [run for service in watchers for run in service.seen("edge_offline", 0)]
        if len(runs) >= 20:
            break
        time.sleep(0.02)
    for function in ("edge_online", "edge_offline"):
        reports = [json.loads(run.data)["EdgeID"] for service in watchers for run in service.seen(function, 0)]
        assert sorted(reports) == sorted(ids)


def test_newcomer_with_the_same_id_takes_its_place(ends: Ends) -> None:
    service = ends.service("any")
    service.register("get_edge_id", data=(55).to_bytes(8, "big"))
    old = ends.edge(b"old")
    old.register("who", data=b"old")
    assert service.call("who", edge_id=55) == b"old"
    new = ends.edge(b"new")
    assert (old.client_id, new.client_id) == (55, 55)
    new.register("who", data=b"new")
    old.offline()
    assert service.call("who", edge_id=55) == b"new"


@pytest.mark.differs("it says EOF or mismatch streamID")
def test_call_pending_at_the_replaced_edge_fails(ends: Ends) -> None:
    service = ends.service("any")
    service.register("get_edge_id", data=(56).to_bytes(8, "big"))
    old = ends.edge()
    old.register("hang", sleep_ms=3000)
    calling = service.start_call("hang", edge_id=56)
    old.seen("hang")
    ends.edge()
    with fails("force closed"):
        calling.result(2.5)


@pytest.mark.differs("G11: it locks up")
def test_service_with_the_same_id_takes_its_place(ends: Ends) -> None:
    method = unique("who")
    old = ends.service("any", wanted_id=808)
    old.register(method, data=b"old")
    edge = ends.edge()
    assert edge.call(method) == b"old"
    new = ends.service("any", wanted_id=808)
    new.register(method, data=b"new")
    old.offline()
    assert edge.call(method) == b"new"


@pytest.mark.parametrize("meta", [b"{}", b"null", b'{"service":"x","topics":null}', b'{"SERVICE":"x","Topics":["a"]}'])
def test_readable_service_meta(ends: Ends, meta: bytes) -> None:
    service = ends.service(meta=meta)
    method = unique("echo")
    service.register(method, echo=True)
    assert ends.edge().call(method, b"x") == b"x"


@pytest.mark.differs("G12: it keeps them, deaf")
@pytest.mark.parametrize("meta", [b"not json", b"[]", b'{"service":1}', b'{"topics":"a"}'])
def test_unreadable_service_meta_is_refused(ends: Ends, meta: bytes) -> None:
    with pytest.raises(EndError, match=r"^illegal service meta: ."):
        ends.service(meta=meta)
