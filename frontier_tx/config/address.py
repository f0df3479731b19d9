"""``host:port`` texts."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address, ip_address

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,16}", re.ASCII)


def split_host_port(text: str) -> tuple[str, int]:
    """``("10.0.0.1", 30011)`` from ``10.0.0.1:30011``; an IPv6 host stands in brackets, which are taken off.

    The host may be empty (``:30011``). The port is decimal, leading zeros do not matter.

    :raises ValueError: anything else; the text says what is wrong.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("the port is missing")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            IPv6Address(host)
        except AddressValueError:
            raise ValueError(f"{host!r} is not an IPv6 address") from None
    elif ":" in host or "[" in host or "]" in host:
        raise ValueError("an IPv6 address needs brackets")
    elif host and (len(host) > 253 or not _HOST.fullmatch(host)):
        raise ValueError(f"{host[:80]!r} is not a host name")
    if not _DIGITS.fullmatch(port) or int(port) > 65535:
        raise ValueError(f"{port[:20]!r} is not a port from 0 to 65535")
    return host, int(port)


def join_host_port(host: str, port: int) -> str:
    """The reverse of `split_host_port`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_unspecified(host: str) -> bool:
    """Whether ``host`` stands for every address of the machine: empty, ``0.0.0.0``, ``::``."""
    if not host:
        return True
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
