"""What a client may be told of where the gateway is: a host, ``host:port``, or the string of an endpoint."""

from ipaddress import AddressValueError, IPv6Address

from frontier_tx.config.address import split_host_port


def host_of(text: str, port: int | None, default: int) -> tuple[str, int] | None:
    """Return host and port where ``text`` is a host name, an address or ``host:port``; None where it is neither.

    An IPv6 address may stand in brackets, and must before a port.

    :raises ValueError: nothing, or a port that is none, or two ports.
    """
    if not text:
        raise ValueError("the host is empty")
    if ":" not in text or _is_ipv6(text.removeprefix("[").removesuffix("]")):
        return text.removeprefix("[").removesuffix("]"), _port(default if port is None else port)
    if text.count(":") > 1 and not text.startswith("["):
        return None
    try:
        host, own = split_host_port(text)
    except ValueError:
        return None
    if port is not None:
        raise ValueError(f"two ports: {text!r} and port={port}")
    return host or "127.0.0.1", _port(own)


def _port(port: int) -> int:
    if not isinstance(port, int):
        raise TypeError(f"port: expected int, not {type(port).__name__}")
    if not 0 < port < 65536:
        raise ValueError(f"port: {port} is not from 1 to 65535")
    return port


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text.partition("%")[0])
    except AddressValueError:
        return False
    return True
