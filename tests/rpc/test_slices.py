"""Long answers in slices are the same as in one go, and no slice is long."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from frontier_tx.rpc import slices
from frontier_tx.rpc.contract import frontier_contract
from frontier_tx.rpc.proto_json import message_json
from frontier_tx.rpc.slices import SLICE, SLICE_BYTES, bytes_in_slices, json_in_slices, long_list

CONTRACT = frontier_contract()
EDGE, LIST = CONTRACT.message("controlplane.Edge"), CONTRACT.message("controlplane.ListEdgesResponse")


def listed(*metas: str) -> Any:
    edges = [EDGE(edge_id=number, meta=meta, addr="10.0.0.1:7") for number, meta in enumerate(metas, 1)]
    return LIST(edges=edges, count=300)


@pytest.mark.parametrize(
    ("metas", "least"),
    [
        (['"edges":[]', "\x01", "é"] * SLICE, 3),
        (["x" * SLICE_BYTES, "", "y" * SLICE_BYTES], 2),
        (["x" * 200] * 127 + ["z" * 20_000] * 7, 2),
    ],
)
def test_slices_are_the_whole(metas: list[str], least: int) -> None:
    response = listed(*metas)
    field = long_list(response)
    turns = []

    def turn() -> Deferred[None]:
        turns.append(1)
        return succeed(None)

    for encode, whole in (
        (json_in_slices, message_json(response)),
        (bytes_in_slices, response.SerializeToString()),
    ):
        turns.clear()
        got: list[bytes] = []
        Deferred.fromCoroutine(encode(response, field, turn)).addCallback(got.append)
        assert LIST.FromString(got[0]) == response if encode is bytes_in_slices else got == [whole]
        assert len(turns) >= least


def test_short_lists_go_in_one() -> None:
    assert long_list(listed(*["x" * 100] * SLICE)) is None
    assert long_list(LIST(count=7)) is None


def test_json_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "MAX_JSON", 100_000)
    response = listed(*["\x01" * 10_000] * 9)
    failed: list[Any] = []
    encoding = json_in_slices(response, long_list(response), lambda: succeed(None))
    Deferred.fromCoroutine(encoding).addErrback(lambda failure: failed.append(failure.value))
    assert failed[0].status.name == "INVALID_ARGUMENT"
