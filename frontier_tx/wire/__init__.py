"""The geminio wire protocol: frames, bodies, connection and session state machines, and Twisted's edges of them.

Everything but ``protocol`` and ``factory`` is sans-IO: bytes and times go in, frames and events come out.
The protocol itself is described in ``docs/protocol.md``.
"""
