"""The geminio wire protocol: frames, bodies, the machines of a connection and a session, and a Twisted protocol.

All but ``protocol`` and ``outlet`` is without I/O: bytes and times go in, frames and events come out.
The protocol itself is described in ``docs/protocol.md``.
"""
