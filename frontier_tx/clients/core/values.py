"""Checks what a program hands over: JSON would accept much that no peer can read."""

from ipaddress import AddressValueError, IPv6Address
from math import isfinite
from typing import Any

from frontier_tx.config.address import split_host_port

TAIL = 8
_LARGEST_ID = (1 << 8 * TAIL) - 1
#: Seconds from now. Times are written with four digits for the year, and this is beyond them.
_MOST_SECONDS = 60_000_000_000


def octets(value: object, what: str) -> bytes:
    """Return a value that is bytes or the like as bytes.

    JSON would take text too, as base64 that no peer can read, and the connection would end for it.

    :raises TypeError: it is something else; ``what`` says what it was meant for.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    hint = "; encode it" if isinstance(value, str) else ""
    raise TypeError(f"{what}: expected bytes, not {type(value).__name__}{hint}")


def string(value: object, what: str) -> str:
    """Return a value that is to be text.

    :raises TypeError: it is not.
    """
    if isinstance(value, str):
        return value
    hint = "; decode it" if isinstance(value, bytes) else ""
    raise TypeError(f"{what}: expected str, not {type(value).__name__}{hint}")


def callback(value: Any, what: str) -> Any:
    """Return a value that is to be called.

    :raises TypeError: it cannot be.
    """
    if callable(value):
        return value
    raise TypeError(f"{what}: expected a function, not {type(value).__name__}")


def note(methods: dict[str, Any], method: Any, handler: Any) -> Any:
    """Put a handler into a table of them; return the one whose place it takes, or None.

    :raises TypeError: the name is not text, or nothing can be called.
    """
    callback(handler, f"handler of {method!r}")
    name = string(method, "method")
    before = methods.get(name)
    methods[name] = handler
    return before


def instance(value: Any, kind: type, what: str) -> Any:
    """Return a value that is to be of a class, or None.

    :raises TypeError: it is something else.
    """
    if value is None or isinstance(value, kind):
        return value
    raise TypeError(f"{what}: expected {kind.__name__} or None, not {type(value).__name__}")


def seconds(value: object, what: str) -> float:
    """Return what is to be a number of seconds.

    :raises TypeError: it is something else. :raises ValueError: no clock shows it.
    """
    if not isinstance(value, int | float):
        raise TypeError(f"{what}: expected a number of seconds, not {type(value).__name__}")
    if not isfinite(value) or abs(value) > _MOST_SECONDS:
        raise ValueError(f"{what}: {value} seconds are no time that can be written; None is no limit")
    return value


def edge_target(value: object) -> str:
    """Return the edge to which a stream is opened as it travels: its id in decimal.

    :raises TypeError: a wrong type. :raises ValueError: nobody can have this id.
    """
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise ValueError(f"{value!r} is not the id of an edge") from None
    id_bytes(value, "target")
    return str(value)


def addressed(custom: bytes, edge_id: int) -> bytes:
    """Return the ``custom`` that names an edge to the gateway.

    :raises TypeError: a wrong type. :raises ValueError: an id that no edge can have.
    """
    return octets(custom, "custom") + id_bytes(edge_id, "edge_id")


def id_bytes(value: object, what: str) -> bytes:
    """Return an id as it travels.

    :raises TypeError: a wrong type. :raises ValueError: nobody can have this id.
    """
    if not isinstance(value, int):
        raise TypeError(f"{what}: expected int, not {type(value).__name__}")
    if not 0 <= value <= _LARGEST_ID:
        raise ValueError(f"{what}: {value} is not from 0 to {_LARGEST_ID}")
    return value.to_bytes(TAIL)


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
