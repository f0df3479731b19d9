"""Addresses as records, logs and control functions show them."""

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from zope.interface import implementer

from frontier_tx.gateway.protocols import address_text
from frontier_tx.switch.leg import host_number


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
