"""The contract is the one that stock clients were compiled against, and what is installed is what the sources say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from frontier_tx.rpc.contract import Contract, HttpBinding, frontier_contract, frontlas_contract
from tests.rpc.descriptor_sets import PROTOS, SETS, compile_set

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "contract.json").read_text())
CONTRACTS = {"frontier": frontier_contract, "frontlas": frontlas_contract}
FIELD = descriptor_pb2.FieldDescriptorProto
OWN = {"WatchRequest", "WatchEvent"}


def spelt(field: descriptor_pb2.FieldDescriptorProto) -> list[Any]:
    """Number, name, type with presence, JSON name."""
    kind = field.type_name.lstrip(".") or FIELD.Type.Name(field.type).removeprefix("TYPE_").lower()
    presence = "repeated " if field.label == FIELD.LABEL_REPEATED else "optional " if field.proto3_optional else ""
    return [field.number, field.name, presence + kind, field.json_name]


def messages(contract: Contract) -> dict[str, Any]:
    """All messages of the product's package, as the golden table writes them."""
    found: dict[str, Any] = {}
    for file in contract.files.values():
        if file.package == "controlplane":
            for item in file.message_type:
                found[item.name] = [spelt(field) for field in item.field]
                for enum in item.enum_type:
                    found[f"{item.name}.{enum.name}"] = [[value.number, value.name] for value in enum.value]
    return found


@pytest.mark.parametrize("name", sorted(SETS))
def test_installed_sets_are_what_the_sources_say(name: str) -> None:
    installed = descriptor_pb2.FileDescriptorSet.FromString((PROTOS / name).read_bytes())
    compiled = descriptor_pb2.FileDescriptorSet.FromString(compile_set(SETS[name]))
    assert installed == compiled


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_messages_field_by_field(name: str) -> None:
    found = messages(CONTRACTS[name]())
    golden = GOLDEN[name]["messages"]
    assert {key: value for key, value in found.items() if key.partition(".")[0] not in OWN} == golden


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_methods_and_their_paths(name: str) -> None:
    contract = CONTRACTS[name]()
    for path, (request, response, streaming, bindings) in GOLDEN[name]["methods"].items():
        service, method = path[1:].split("/")
        spec = contract.method(service, method)
        assert (spec.path, spec.client_streaming, spec.server_streaming) == (path, False, streaming)
        assert (spec.request.DESCRIPTOR.full_name, spec.response.DESCRIPTOR.full_name) == (request, response)
        assert list(spec.bindings) == [HttpBinding(*binding) for binding in bindings]


def test_both_products_live_in_one_process() -> None:
    one = frontier_contract().message("controlplane.Edge")
    other = frontlas_contract().message("controlplane.Edge")
    assert {field.name for field in one.DESCRIPTOR.fields} != {field.name for field in other.DESCRIPTOR.fields}
    assert one(edge_id=1, meta="m").SerializeToString() != other(edge_id=1, frontier_id="f").SerializeToString()


def test_unknown_names() -> None:
    for ask in (frontlas_contract().message, frontlas_contract().service):
        with pytest.raises(KeyError):
            ask("controlplane.Nope")
    with pytest.raises(KeyError):
        frontlas_contract().method("controlplane.Health", "Nope")


def test_names_of_handlers() -> None:
    names = [method.handler_name for method in frontier_contract().methods("controlplane.ControlPlane")]
    assert "list_edge_rpcs" in names
    assert frontlas_contract().method("controlplane.ClusterService", "GetEdgeByID").handler_name == "get_edge_by_id"
