"""Each recorded broken frame, sent to both ports before and after the handshake: it ends no other connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gateways import StartedGateway
from tests.interop.raw_peer import SERVICE_META, Bystanders, Closed, RawPeer, connected

pytestmark = [pytest.mark.timeout(20), pytest.mark.differs("G14: such frames kill it")]

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parents[1] / "vectors" / "frames.json").read_text()
)["negative"]
COMPLETE = [v for v in VECTORS if "hex" in v and not v["name"].startswith("truncated")]
FOR_SERVERS = [v for v in COMPLETE if v["to"] == "server end"]
#: Behind these nothing could be read any more.
FRAMING = ("unknown_type", "length_", "client_unknown_type", "client_too_large")
#: After these the connection has no session 1 any more, or waits for the rest of the farewell.
GOODBYES = ("dismiss_session1", "disconn", "disconn_with_body", "disconn_before_conn", "client_disconn",
            "client_disconn_before_connack")  # fmt: skip
#: How long the gateway may take to end a connection that it ends at once.
SOON = 2.0


def recorded(vector: dict[str, Any], when: str) -> dict[str, Any]:
    found: dict[str, Any] = vector.get("server_end", {}).get(when, {})
    return found


@pytest.fixture(scope="module")
def bystanders(module_gateway: StartedGateway) -> Iterator[Bystanders]:
    pair = Bystanders(module_gateway.edge, module_gateway.service)
    yield pair
    pair.stop()


@pytest.fixture(params=["edge", "service"])
def port(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def address_of(gateway: StartedGateway, port: str) -> str:
    return gateway.edge if port == "edge" else gateway.service


@pytest.mark.parametrize("vector", COMPLETE, ids=lambda v: v["name"])
def test_after_the_handshake(
    module_gateway: StartedGateway, bystanders: Bystanders, port: str, vector: dict[str, Any]
) -> None:
    expected = recorded(vector, "after_handshake")
    with (
        bystanders.undisturbed(),
        connected(address_of(module_gateway, port), SERVICE_META if port == "service" else b"") as peer,
    ):
        peer.send(bytes.fromhex(vector["hex"]))
        if vector["name"].startswith(FRAMING):
            assert peer.closes(SOON)
        elif vector["name"] not in GOODBYES:
            # bodies that nobody needs may be taken as they are
            answers = peer.answers()
            assert answers or not expected.get("later_request_answered")
            assert answers or peer.closes(SOON)
    assert module_gateway.alive()


@pytest.mark.parametrize("vector", COMPLETE, ids=lambda v: v["name"])
def test_before_the_handshake(
    module_gateway: StartedGateway, bystanders: Bystanders, port: str, vector: dict[str, Any]
) -> None:
    expected = recorded(vector, "before_handshake")
    with bystanders.undisturbed(), RawPeer(address_of(module_gateway, port)) as peer:
        peer.send(bytes.fromhex(vector["hex"]))
        if expected.get("outcome") == "connection_closed":
            assert peer.closes(SOON)
        elif expected.get("later_request_answered"):
            peer.shake_hands(SERVICE_META if port == "service" else b"")
            assert peer.answers()
        elif vector["hex"][2:4] != "01":
            # whatever it was: ended, or dropped so that a handshake may follow
            try:
                peer.shake_hands(SERVICE_META if port == "service" else b"")
            except (Closed, AssertionError):
                assert peer.closes(SOON)
            else:
                assert peer.answers()
    assert module_gateway.alive()


@pytest.mark.parametrize("cut", [1, 2, 13, 14, 15, 20])
def test_half_a_frame_and_then_the_end(
    module_gateway: StartedGateway, bystanders: Bystanders, port: str, cut: int
) -> None:
    whole = bytes.fromhex(next(v["hex"] for v in VECTORS if v["name"] == "version_2"))
    with bystanders.undisturbed():
        for shaken in (False, True):
            with RawPeer(address_of(module_gateway, port)) as peer:
                if shaken:
                    peer.shake_hands(SERVICE_META if port == "service" else b"")
                peer.send(whole[:cut])
    assert module_gateway.alive()


def test_all_frames_in_one_write(module_gateway: StartedGateway, bystanders: Bystanders, port: str) -> None:
    everything = b"".join(bytes.fromhex(v["hex"]) for v in FOR_SERVERS)
    with bystanders.undisturbed(), RawPeer(address_of(module_gateway, port)) as peer:
        peer.send(everything)
        assert peer.closes(SOON)


def test_largest_frame_is_taken(module_gateway: StartedGateway, bystanders: Bystanders, port: str) -> None:
    vector = next(v for v in VECTORS if v["name"] == "exact_limit_stream")
    prefix = bytes.fromhex(vector["hex_prefix"])
    with (
        bystanders.undisturbed(),
        connected(address_of(module_gateway, port), SERVICE_META if port == "service" else b"") as peer,
    ):
        peer.send(prefix + b"x" * (vector["frame_len"] - len(prefix)))
        assert peer.answers()
