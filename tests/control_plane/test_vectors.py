"""The recorded exchanges of a Frontier, replayed against ours: those tagged ``match`` get the same answer, those tagged
``fault`` the one that the fault's table asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from twisted.internet.defer import Deferred

from frontier_tx.rpc.status import RpcError
from tests.control_plane.world import CONTRACT, World, a_world
from tests.rpc.support import outcome

RECORDED = json.loads((Path(__file__).parents[1] / "vectors" / "control-plane.json").read_text())
PAIRS: list[dict[str, Any]] = RECORDED["pairs"]

#: Ids and beginnings of the two recordings, in the order of ``setup``: four services, then five edges.
IDS: dict[str, tuple[int, ...]] = {
    "frontier-buntdb": (
        7711460894585060868, 7711460898880028165, 7711460903174995462, 7711460907469962759,
        7711460911764930057, 7711460920354864651, 7711460924649831949, 7711460928944799247, 7711460933239766545,
    ),
    "frontier-sqlite": (
        7711460895238347910, 7711460899533315207, 7711460903828282504, 7711460908123249801,
        7711460912418217099, 7711460921008151693, 7711460925303118991, 7711460929598086289, 7711460933893053587,
    ),
}  # fmt: skip
TIMES = (1795464403, 1795464404, 1795464405, 1795464406, 1795464407, 1795464409, 1795464410, 1795464411, 1795464412)
AUDIT_AGAIN = {"frontier-buntdb": 7711464983393926692, "frontier-sqlite": 7711465009817017494}
#: Addresses as they were recorded, for orders and filters.
ADDRESSES = {
    int(each[key]): each["addr"]
    for pair in PAIRS
    if pair["server"] in IDS
    for body in (pair.get("body_json"), pair.get("response"))
    if isinstance(body, dict)
    for key, records in (("edge_id", body.get("edges", [])), ("service_id", body.get("services", [])))
    for each in records
    if isinstance(each, dict)
}
EDGES = {"A": "plant-1/robot-a", "B": "plant-1/robot-b", "P": "plant-2/pump-a", "E": "", "J": '{"kind":"json","n":1}'}
METHODS = (
    ("charge", "refund"), ("charge",), ("trace",), (),
    ("move", "stop", "status"), ("move", "stop"), ("status",), (), ("reboot",),
)  # fmt: skip
SERVICES = (
    ("billing", ("orders", "invoices")),
    ("billing", ("orders",)),
    ("audit", ("audit.log", "orders")),
    ("", ()),
)
#: Where the default page size was tried: the edges ``bulk`` are the newest.
BULK = {"default page size", "query decoding"}
NOT_TEXT = b'z\xff\xfe\x00q"\\'
VARIES = {"create_time"}

_NAMES = ["reboot", "status", "stop", "move"]
_SERVICE_NAMES = ["trace", "charge", "refund"]
_TOPICS = ["orders", "audit.log", "invoices"]
_NO_SERVICE = (404, "NOT_FOUND", "service not online")
_NOT_FOUND = (404, "NOT_FOUND", "not found")
#: What the table of faults asks for instead: who is listed (edges by letter, services by number), names, or an error.
FIXED: dict[str, Any] = {
    # F4, F5, F6, F24: filters, orders and windows of the lists
    "cp-009": "BA", "cp-010": "", "cp-011": "BA", "cp-012": "J", "cp-013": "JPBAE", "cp-014": "JPBAE",
    "cp-020": "ABPEJ", "cp-027": "PBA", "cp-028": "JPBAE", "cp-065": "21", "cp-066": "321", "cp-067": "21",
    "cp-068": "21", "cp-070": "2134", "cp-143": "", "cp-147": "BA", "cp-148": "", "cp-150": "J", "cp-154": "JEPBA",
    "cp-160": "JEPBA", "cp-167": "", "cp-185": "", "cp-201": "4321", "cp-202": "4321", "cp-203": "21",
    "cp-205": "21", "cp-206": "21", "cp-213": "4321", "cp-229": "BA", "cp-261": "21", "cp-262": "321",
    "cp-263": "21", "cp-264": "12", "cp-298": "BA", "cp-302": "", "cp-330": "21", "cp-332": "21", "cp-333": "12",
    "cp-306": _NOT_FOUND,
    # F1, F2, F4, F5, F6: names
    "cp-085": _NAMES, "cp-086": ["reboot"], "cp-095": _SERVICE_NAMES, "cp-096": _TOPICS,
    "cp-221": _NAMES, "cp-222": ["reboot"], "cp-225": _SERVICE_NAMES, "cp-226": _TOPICS,
    "cp-238": _NAMES, "cp-239": _NAMES, "cp-251": ["stop", "move", "status"], "cp-252": ["stop", "move", "status"],
    "cp-253": _NAMES[:2], "cp-254": _NAMES[2:], "cp-255": [], "cp-256": _NAMES, "cp-270": ["charge", "refund"],
    "cp-271": ["charge", "refund"], "cp-272": ["charge", "refund"], "cp-279": ["trace"], "cp-280": ["charge"],
    "cp-283": _TOPICS, "cp-284": ["orders", "invoices"], "cp-290": _TOPICS[:2], "cp-291": _TOPICS[2:],
    "cp-307": _NAMES, "cp-308": _NAMES, "cp-321": ["stop", "move", "status"], "cp-327": _NAMES,
    "cp-341": ["charge", "refund"], "cp-345": ["charge", "refund"], "cp-346": ["charge", "refund"],
    "cp-352": _TOPICS,
    # F7: metadata that is no text
    "cp-372": "Z", "cp-373": "ZJEPBA", "cp-374": "Z", "cp-375": "ZJEPBA",
    # F13, F16, F17
    "cp-118": _NO_SERVICE, "cp-295": _NO_SERVICE, "cp-364": _NO_SERVICE, "cp-392": _NO_SERVICE, "cp-407": _NO_SERVICE,
    "cp-123": _NOT_FOUND, "cp-130": "4",
    # F15
    "cp-104": 404, "cp-105": 404, "cp-106": 404, "cp-107": 404, "cp-108": 404,
    "cp-449": (501, "UNIMPLEMENTED", "unknown service grpc.channelz.v1.Channelz"),
}  # fmt: skip
#: Encodings that expose the reference's own names: answered in JSON.
AS_JSON = {"cp-122": "4", "cp-126": "4", "cp-127": _NOT_FOUND, "cp-131": _NOT_FOUND}
#: Pages of our own stand there.
OURS = {"cp-098", "cp-100"}


def recorded(*servers: str) -> list[Any]:
    """All exchanges but those that build on one another."""
    return [
        pytest.param(pair, id=pair["id"])
        for pair in PAIRS
        if pair["server"] in servers and pair["group"] != "kick live" and pair["id"] not in OURS
    ]


def populate(world: World, server: str, group: str) -> None:
    """Bring the gateway into the state of the recording."""
    ids = IDS[server]
    for (name, topics), service_id, methods in zip(SERVICES, ids[:4], METHODS[:4], strict=True):
        world.service(service_id, name, methods, topics=topics)
    for meta, edge_id, methods in zip(EDGES.values(), ids[4:], METHODS[4:], strict=True):
        world.edge(edge_id, meta.encode(), methods)
    legs = world.core.repository.services | world.core.repository.edges
    for when, peer_id in zip(TIMES, ids, strict=True):
        legs[peer_id].since = when
        legs[peer_id].methods = dict.fromkeys(legs[peer_id].methods, when)
    if group == "non-UTF-8 meta":
        world.edge(7711464961919090211, NOT_TEXT)
    if group in BULK:
        for number in range(12):
            world.edge(7711465344171179559 + 2 * number, f"bulk/{number:02}".encode(), (f"m{number:02}",))
    place(world)


def place(world: World) -> None:
    """Give peers the addresses that they had."""
    for leg in (*world.core.repository.edges.values(), *world.core.repository.services.values()):
        leg.address = ADDRESSES.get(leg.id, leg.address)


@pytest.fixture
def world(pair: dict[str, Any]) -> Iterator[World]:
    with a_world() as made:
        populate(made, pair["server"], pair["group"])
        yield made


@pytest.mark.parametrize("pair", recorded("frontier-buntdb", "frontier-sqlite"))
def test_pair(world: World, pair: dict[str, Any]) -> None:
    compare(world, pair)


@pytest.mark.parametrize("server", list(IDS))
def test_kicks(server: str) -> None:
    """The recorded kicks, in their order."""
    with a_world() as world:
        populate(world, server, "kick live")
        for pair in PAIRS:
            if (pair["server"], pair["group"]) == (server, "kick live"):
                if pair.get("query") == "service=audit":
                    # It came back.
                    world.service(AUDIT_AGAIN[server], "audit")
                    place(world)
                compare(world, pair)


def compare(world: World, pair: dict[str, Any]) -> None:
    """Ask what was asked, and compare what is answered."""
    fixed = FIXED[pair["id"]] if pair["verdict"] == "fault" else AS_JSON.get(pair["id"])
    (rest if pair["kind"] == "rest" else grpc)(world, pair, fixed)


def listed(world: World, body: dict[str, Any]) -> Any:
    """Who or what an answer lists: letters, numbers, or names."""
    ids = [*IDS["frontier-buntdb"], *IDS["frontier-sqlite"]]
    letters = dict(zip(map(str, ids), 2 * "1234ABPEJ", strict=True)) | {"7711464961919090211": "Z"}
    for key in ("edges", "services"):
        if key in body:
            return "".join(letters[each[key[:-1] + "_id"]] for each in body[key])
    return body.get("rpcs", body.get("topics"))


def plain(value: Any) -> Any:
    """A JSON value without what differs from one recording to the next."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in VARIES}
    return [plain(item) for item in value] if isinstance(value, list) else value


def same(got: dict[str, Any], want: dict[str, Any]) -> None:
    """Compare two answers; the default store could not count, and gave names in no order."""
    got, want = plain(got), plain(want)
    if want.get("count") == -1:
        assert got.pop("count", 0) >= 0
        del want["count"]
        for key in ("rpcs", "topics"):
            if key in want:
                assert len(got[key]) == len(want.pop(key))
                del got[key]
    assert got == want


def rest(world: World, pair: dict[str, Any], fixed: Any) -> None:
    target = pair["path"] + ("?" + pair["query"] if pair.get("query") else "")
    answer = world.rest(target, pair["method"], **{k.lower(): v for k, v in pair.get("request_headers", {}).items()})
    body = pair.get("body_json")
    if isinstance(fixed, int):
        assert answer.status == fixed
    elif isinstance(fixed, tuple):
        assert answer.status == fixed[0]
        assert answer.json == {"code": fixed[0], "reason": fixed[1], "message": fixed[2], "metadata": {}}
    elif fixed is not None:
        assert answer.status == 200
        assert listed(world, answer.json) == fixed
    elif pair["status"] == 500:
        # Known texts under the code that says what is the matter; the stores have two for one thing.
        text = "edge not online" if pair["method"] == "DELETE" else "not found"
        assert answer.status == 404
        if body:
            assert answer.json == {"code": 404, "reason": "NOT_FOUND", "message": text, "metadata": {}}
    else:
        assert answer.status == pair["status"]
        for name in ("content-type", "location", "x-content-type-options"):
            assert answer.headers.get(name) == pair["headers"].get(name)
        if body is not None:
            same(answer.json, body)
        elif pair["method"] != "HEAD" and "body_text" in pair:
            assert answer.body.decode() == pair["body_text"]


def grpc(world: World, pair: dict[str, Any], fixed: Any) -> None:
    service, _, name = pair["full_method"].removeprefix("/").rpartition("/")
    try:
        spec = CONTRACT.method(service, name)
        world.control.table.find(spec.path)
    except (KeyError, RpcError):
        with pytest.raises(RpcError) as caught:
            world.control.table.find(pair["full_method"])
        want = fixed[1:] if fixed else (pair["code"], pair["message"])
        assert (caught.value.status.name, caught.value.message) == want
        return
    if "ServerReflection" in service:
        reflection(world, pair, spec)
    elif spec.server_streaming:
        stream = world.client.stream(spec, ParseDict(pair["request"], spec.request()))
        first = Deferred.fromCoroutine(stream.__anext__())
        world.settle()
        assert [MessageToDict(outcome(first))["status"]] == pair["responses"]
    else:
        unary(world, pair, spec, fixed)


class Raw:
    """A message whose bytes are given, sound or not."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def SerializeToString(self) -> bytes:
        return self.data


def unary(world: World, pair: dict[str, Any], spec: Any, fixed: Any) -> None:
    if "request_hex" in pair:
        got = world.call(spec, Raw(bytes.fromhex(pair["request_hex"])))
    else:
        got = world.call(spec, ParseDict(pair["request"], spec.request()))
    if isinstance(fixed, tuple) or (fixed is None and pair["code"] != "OK"):
        want = pair["code"], pair["message"]
        if want[0] == "UNKNOWN":
            want = "NOT_FOUND", "edge not online" if spec.name.startswith("Kick") else "not found"
        assert isinstance(got, RpcError)
        assert (got.status.name, got.message.replace("\u00a0", " ")) == (fixed[1:] if fixed else want)
        return
    assert not isinstance(got, RpcError)
    if "response_bytes" in pair:
        assert got.ByteSize()
        return
    body = MessageToDict(got, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    if fixed is not None:
        assert listed(world, body) == fixed
    else:
        want = ParseDict(pair["response"], spec.response(), ignore_unknown_fields=True)
        same(body, MessageToDict(want, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))


def reflection(world: World, pair: dict[str, Any], spec: Any) -> None:
    """Compare an answer about the contract."""
    handlers: Any = world.control.table._methods[spec.path].handler

    async def one() -> Any:
        async def requests() -> Any:
            yield ParseDict(pair["request"], spec.request())

        return [answer async for answer in handlers(requests(), None)]

    (answer,) = outcome(Deferred.fromCoroutine(one()))
    want = pair["response"]
    if "services" in want:
        names = {each.name for each in answer.list_services_response.service}
        assert names >= {*want["services"]} - {"grpc.channelz.v1.Channelz"}
    elif "files" in want:
        file = CONTRACT.files["controlplane.proto"]
        files = [file.FromString(raw) for raw in answer.file_descriptor_response.file_descriptor_proto]
        got = [{"name": each.name, "package": each.package, "deps": list(each.dependency)} for each in files]
        assert got == want["files"]
    else:
        text = answer.error_response.error_message.replace("\u00a0", " ")
        assert (answer.error_response.error_code, text) == tuple(want["error_response"].values())


def test_every_fault_has_its_answer() -> None:
    faults = {pair["id"] for pair in PAIRS if pair["server"] in IDS and pair["verdict"] == "fault"}
    assert faults == set(FIXED)
