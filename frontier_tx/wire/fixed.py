"""The fixed parts of bodies: their layouts, flags and codes (docs/protocol.md, "Packets")."""

from struct import Struct

CONN_FIXED = Struct(">BBQ")
CONN_ACK_FIXED = Struct(">BQ")
SESSION_FIXED = Struct(">BBQ")
SESSION_ACK_FIXED = Struct(">HQQ")
CANCEL_FIXED = Struct(">H")
CREDIT_FIXED = Struct(">Q")

#: Bits of the flag byte of a Conn; the heartbeat exponent stands in the two bits above them.
RETAIN, CLEAR, ACQUIRE_PACKET_ID, ACQUIRE_CLIENT_ID = 1, 2, 4, 8
#: Bit of the second byte of a Session: the acceptor chooses the session id.
ACQUIRE_SESSION_ID = 0x10

CANCELED, DEADLINE_EXCEEDED = 1, 2


def heartbeat_seconds(exponent: int) -> int:
    """Heartbeat interval for the exponent in a Conn: 5, 20, 80 or 320 s."""
    return 5 << 2 * exponent
