"""Addresses as records, logs and control functions show them."""

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from zope.interface import implementer

from frontier_tx.atlas.messages import FrontierMeta
from frontier_tx.config.common import Listen
from frontier_tx.gateway import membership
from frontier_tx.gateway.protocols import address_text
from frontier_tx.switch.legs import host_number


@implementer(IAddress)
class Radio:
    """The address of a transport of one's own."""

    def __str__(self) -> str:
        return "radio 7"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (IPv4Address("TCP", "10.0.0.7", 5), ("tcp", "10.0.0.7:5")),
        (IPv6Address("TCP", "2001:db8::1", 5), ("tcp", "[2001:db8::1]:5")),
        (IPv6Address("TCP", "::ffff:10.0.0.7", 5), ("tcp", "10.0.0.7:5")),
        (UNIXAddress(b"/run/e.sock"), ("unix", "/run/e.sock")),
        (None, ("tcp", ":0")),
        (Radio(), ("tcp", "radio 7")),
    ],
)
def test_address_text(address: IAddress | None, shown: tuple[str, str]) -> None:
    assert address_text(address) == shown


@pytest.mark.parametrize(
    ("address", "number"),
    [("10.0.0.7:5", 0x0A000007), ("[2001:db8::1:2]:5", 0x00010002), ("/run/e.sock", 0), (":0", 0)],
)
def test_host_number(address: str, number: int) -> None:
    assert host_number(address) == number


@pytest.mark.parametrize("addr", ["0.0.0.0:30011", ":30011", "[::]:30011"])
def test_without_a_way_to_the_world_the_link_to_frontlas_tells_the_address(
    addr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "own_address", lambda: "")
    told = membership.advertised(Listen(addr=addr), 30011)
    meta = FrontierMeta("a", told, "edge.example:30012", "boot")
    assert meta.reached_at("2001:db8::7") == FrontierMeta("a", "[2001:db8::7]:30011", "edge.example:30012", "boot")
    assert meta.reached_at("10.0.0.7").service_addr == "10.0.0.7:30011"


def test_an_address_of_its_own_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "own_address", lambda: "10.0.0.9")
    assert membership.advertised(Listen(addr="0.0.0.0:1"), 5) == "10.0.0.9:5"
    assert membership.advertised(Listen(addr="[2001:db8::1]:1"), 5) == "[2001:db8::1]:5"
    assert membership.advertised(Listen(addr=":1", advertised_addr="gw.example:7"), 5) == "gw.example:7"
