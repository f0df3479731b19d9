"""Ends of the Go library stop for good at some dozens of unread frames of one stream: they never get so many."""

from __future__ import annotations

import json
import time

import pytest

from benchmarks.gateways import StartedGateway
from tests.interop.ends import End, Ends, unique
from tests.interop.raw_peer import (
    MESSAGE,
    SESSION,
    SESSION_ACK,
    STREAM,
    Closed,
    RawPeer,
    b64,
    connected,
    on_session,
)

pytestmark = [pytest.mark.timeout(40), pytest.mark.differs("it passes every frame on")]

#: Frames: how many, how large, how many seconds apart.
FLOODS = {
    "one_byte": (400, 1, 0.0),
    "one_byte_now_and_then": (400, 1, 0.005),
    "a_few_bytes": (2000, 60, 0.0),
    "some_kilobytes": (400, 5000, 0.0),
    "large": (100, 60_000, 0.0),
    "messages": (400, 1, 0.0),
    "messages_now_and_then": (400, 1, 0.005),
}


def opened(peer: RawPeer, name: str) -> int:
    fields = json.dumps({"peer": name}).encode()
    packet_id = peer.send_frame(SESSION, b"\0\x10" + (77).to_bytes(8, "big") + fields)
    return int.from_bytes(peer.read_kind(SESSION_ACK, packet_id)[10:18], "big")


def flood(peer: RawPeer, session: int, kind: str) -> None:
    count, size, pause = FLOODS[kind]
    for _ in range(count):
        if kind.startswith("messages"):
            peer.send_frame(MESSAGE, on_session(session, {"value": b64(bytes(size)), "topic": "t"}))
        else:
            peer.send_frame(STREAM, session.to_bytes(8, "big") + bytes(size))
        time.sleep(pause)


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "never_accepted"])
@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("victim", ["service", "edge"])
def test_a_go_end_that_does_not_read_a_stream_goes_on(
    ends: Ends, gateway: StartedGateway, victim: str, kind: str, accepted: bool
) -> None:
    name, method = unique("service"), unique("echo")
    end: End
    if victim == "service":
        end, other = ends.service(name), ends.edge()
        peer, to = connected(gateway.edge), name
    else:
        end, other = ends.edge(), ends.service(name)
        peer, to = connected(gateway.service, json.dumps({"service": unique("raw"), "topics": []}).encode()), ""
        to = str(end.client_id)
    end.register(method, echo=True)
    where = {} if victim == "service" else {"edge_id": end.client_id}
    with peer:
        session = opened(peer, to)
        if accepted:
            end.accept()
        try:
            flood(peer, session, kind)
        except (Closed, TimeoutError) as why:
            pytest.fail(f"the flood was held up: {why!r}")
        time.sleep(0.2)
        for number in range(3):
            assert other.call(method, str(number).encode(), patience=5, **where) == str(number).encode()


def test_what_was_held_back_arrives_when_it_is_read(ends: Ends, gateway: StartedGateway) -> None:
    name = unique("service")
    service = ends.service(name)
    with connected(gateway.edge) as peer:
        session = opened(peer, name)
        for number in range(300):
            peer.send_frame(STREAM, session.to_bytes(8, "big") + number.to_bytes(2, "big") * 1000)
        time.sleep(0.3)
        stream = service.accept()
        for number in range(300):
            assert stream.read(2000) == number.to_bytes(2, "big") * 1000
