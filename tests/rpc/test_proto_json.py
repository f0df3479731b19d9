"""Our JSON of messages says what protobuf's own says."""

from __future__ import annotations

import json
import math
from typing import Any

from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from frontier_tx.rpc.contract import frontier_contract, frontlas_contract
from frontier_tx.rpc.proto_json import message_json

FRONTIER, FRONTLAS = frontier_contract(), frontlas_contract()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
UINT64, INT64 = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)
EDGE = st.fixed_dictionaries({"edge_id": UINT64, "meta": TEXT, "addr": TEXT, "create_time": INT64})


def same(message: Any) -> None:
    said = json.loads(message_json(message))
    assert said == MessageToDict(message, always_print_fields_with_no_presence=True)


@given(st.lists(EDGE, max_size=5), st.integers(-(2**31), 2**31 - 1))
def test_lists(edges: list[dict[str, Any]], count: int) -> None:
    edge = FRONTIER.message("controlplane.Edge")
    response = FRONTIER.message("controlplane.ListEdgesResponse")
    same(response(edges=[edge(**fields) for fields in edges], count=count))


@given(st.dictionaries(TEXT, st.floats(allow_infinity=True), max_size=4), st.floats(allow_nan=False))
def test_maps_and_floats(counters: dict[str, float], when: float) -> None:
    message = FRONTIER.message("frontier.v1.Stats")(time=when, counters=counters)
    said = json.loads(message_json(message))
    assert said == MessageToDict(message, always_print_fields_with_no_presence=True)


@given(TEXT, st.none() | UINT64, st.none() | TEXT)
def test_optional_fields(kind: str, edge_id: int | None, meta: str | None) -> None:
    same(FRONTIER.message("frontier.v1.Event")(kind=kind, edge_id=edge_id, meta=meta))


@given(st.integers(0, 3), st.binary(max_size=20))
def test_enums_and_bytes(status: int, data: bytes) -> None:
    same(FRONTLAS.message("controlplane.HealthCheckResponse")(status=status))
    same(FRONTIER.message("frontier.v1.CallResponse")(data=data))


def test_messages_within_messages_and_structures() -> None:
    info = FRONTIER.message("frontier.v1.ServerInfo")
    same(info())
    same(info(addresses=FRONTIER.message("frontier.v1.Addresses")(edges=["a"])))
    structure = FRONTIER.method("frontier.v1.Server", "GetConfig").response()
    structure.update({"a": {"b": [1, "x", None, True]}})
    assert json.loads(message_json(structure)) == {"a": {"b": [1, "x", None, True]}}


def test_keys_stand_in_the_order_of_declaration() -> None:
    said = message_json(FRONTIER.message("controlplane.Edge")(edge_id=1, addr="h:1"))
    assert said == b'{"edge_id":"1","meta":"","addr":"h:1","create_time":"0"}'
    assert b'"NaN"' in message_json(FRONTIER.message("frontier.v1.Stats")(time=math.nan))
