"""Edges that are back before the service that names them, with ends of the Go library."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from tests.interop.conftest import ConnectTo, StartGateway
from tests.interop.ends import End

pytestmark = pytest.mark.timeout(60)

EDGES = 30


def heard(service: End, function: str) -> Counter[int]:
    return Counter(int(json.loads(run.data)["EdgeID"]) for run in service.seen(function, 0))


@pytest.mark.differs("edges keep the ids that they have")
def test_every_edge_gets_its_id_and_is_announced_once(ends_of: ConnectTo, gateway_with: StartGateway) -> None:
    """A meta of eight bytes is the id that the service gives: it answers with what it is asked with."""
    ends = ends_of(gateway_with())
    wanted = [1000 + number for number in range(EDGES)]
    for edge_id in wanted:
        ends.edge(edge_id.to_bytes(8), retry=True).register("who", data=edge_id.to_bytes(8))
    service = ends.service("any")
    service.register("edge_offline")
    service.register("edge_online")
    service.register("get_edge_id", echo=True)
    time_up = time.monotonic() + 30
    while heard(service, "edge_online").total() < EDGES and time.monotonic() < time_up:
        time.sleep(0.2)
    assert heard(service, "edge_online") == dict.fromkeys(wanted, 1)
    assert heard(service, "edge_offline") == {}
    # The library announces its methods a second after it is back.
    time.sleep(1.5)
    for edge_id in wanted:
        assert service.call("who", edge_id=edge_id) == edge_id.to_bytes(8)


def test_who_comes_to_the_wrong_door_is_told_so(ends_of: ConnectTo, gateway_with: StartGateway) -> None:
    gateway = gateway_with()
    ends = ends_of(gateway)
    ends.edge_address, ends.service_address = ends.service_address, ends.edge_address
    with pytest.raises(Exception, match="this is the port of the edges"):
        ends.service("billing", topics=["bills"])
    with pytest.raises(Exception, match="this is the port of the services"):
        ends.edge(b"device")
