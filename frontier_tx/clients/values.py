"""What a program hands over is what it should be: checked here, since JSON would take much that no peer can read."""

TAIL = 8
_LARGEST_ID = (1 << 8 * TAIL) - 1


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
