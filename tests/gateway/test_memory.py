"""What a connection took is given back when it ends, without help from the search for cycles."""

import gc
import weakref
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from frontier_tx.gateway.core import GatewayCore
from frontier_tx.wire.connection import Connection, Role


class Transport(StringTransportWithDisconnection):
    """Lets its protocol go when the connection is lost, as real ones do."""

    def loseConnection(self) -> None:
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


def test_connections_are_freed_at_once() -> None:
    core = GatewayCore(Clock())
    gc.collect()
    gc.disable()
    try:
        for factory, meta in ((core.edges, b"m"), (core.services, b'{"service":"s","topics":["t"]}')):
            transport, watched = connect(factory, meta)
            assert len(factory.connections) == 1
            transport.loseConnection()
            assert not factory.connections
            del transport
            assert [ref() for ref in watched] == [None]
    finally:
        gc.enable()
