"""What a connection took is given back when it ends, without help from the search for cycles."""

import gc
import weakref
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from frontier_tx.gateway.core import GatewayCore
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.states import Role


class Transport(StringTransportWithDisconnection):
    """Lets its protocol go when the connection is lost, as real ones do."""

    def loseConnection(self) -> None:
        if self.connected:
            super().loseConnection()
            self.producer = None
            del self.protocol


def connect(factory: Any, meta: bytes) -> tuple[Transport, list[weakref.ref[Any]]]:
    protocol = factory.buildProtocol(None)
    transport = Transport()
    transport.protocol = protocol
    protocol.makeConnection(transport)
    end = Connection(Role.CLIENT, 0.0)
    end.connect(meta)
    protocol.dataReceived(end.take_output())
    watched = [weakref.ref(protocol)]
    return transport, watched


@pytest.mark.parametrize(
    "garbage", [b"", b"GET / HTTP/1.1\r\n", bytes.fromhex("0151") + bytes(8) + b"\0\0\0\x09" + b"\0" * 7 + b"\1{"]
)
def test_connections_are_freed_without_a_search(garbage: bytes) -> None:
    clock = Clock()
    core = GatewayCore(clock)
    gc.collect()
    gc.disable()
    try:
        for factory, meta in ((core.edges, b"m"), (core.services, b'{"service":"s","topics":["t"]}')):
            transport, watched = connect(factory, meta)
            assert len(factory.connections) == 1
            if garbage:
                transport.protocol.dataReceived(garbage)
            else:
                transport.loseConnection()
            assert not factory.connections
            clock.advance(5)
            del transport
            assert [ref() for ref in watched] == [None]
    finally:
        gc.enable()
