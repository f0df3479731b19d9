"""Parts that can be replaced. The programs of docs/extending.md run in ``tests/launch/test_examples.py``."""

from dataclasses import fields
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import Invalid
from zope.interface.verify import verifyObject

from frontier_tx.config.frontier import FrontierConfig
from frontier_tx.config.schema import taken
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.gateway.factories import EdgeFactory, ServiceFactory
from frontier_tx.gateway.protocols import EdgeProtocol, ServiceProtocol
from frontier_tx.interfaces import IEdgeProtocol, IPlaneFactory, IServiceProtocol
from frontier_tx.switch.choice import POLICIES, IHashPolicy
from frontier_tx.switch.presence import ClientIDAllocator, IIDAllocator
from frontier_tx.switch.settings import Settings
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.states import Role


class Client:
    """A client end joined to a protocol of the gateway, in memory."""

    def __init__(self, factory: Any, meta: bytes = b"") -> None:
        self.protocol = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)
        self.end = Connection(Role.CLIENT, 0.0)
        self.end.connect(meta)
        self.told: list[Any] = []

    def exchange(self) -> None:
        self.protocol.dataReceived(self.end.take_output())
        self.told += self.end.receive(self.transport.value(), 0.0)
        self.transport.clear()


def test_what_is_shipped_provides_what_it_promises() -> None:
    core = GatewayCore(Clock())
    edge = Client(core.edges).protocol
    service = Client(core.services, b"{}").protocol
    assert verifyObject(IEdgeProtocol, edge)
    assert verifyObject(IServiceProtocol, service)
    assert verifyObject(IPlaneFactory, core.edges)
    assert isinstance(core.edges, EdgeFactory)
    assert isinstance(core.services, ServiceFactory)
    assert isinstance(service, ServiceProtocol)
    assert verifyObject(IIDAllocator, ClientIDAllocator())


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_policies(name: str) -> None:
    assert verifyObject(IHashPolicy, POLICIES[name]())


def test_a_core_without_a_configuration_has_the_defaults_of_one() -> None:
    config = FrontierConfig()
    assert taken(Limits, config.limits) == Limits()
    assert taken(Settings, config.limits, config.exchange) == Settings()


def test_each_bound_of_the_core_can_be_configured() -> None:
    config = FrontierConfig()
    for field in (*fields(Limits), *fields(Settings)):
        assert hasattr(config.limits, field.name) or hasattr(config.exchange, field.name), field.name


def test_a_part_that_lacks_something_is_refused_when_it_is_plugged_in() -> None:
    class Half:
        pass

    for part in ("policy", "allocator"):
        with pytest.raises(Invalid):
            GatewayCore(Clock(), **{part: Half()})


def test_an_exception_in_a_subclass_ends_that_connection_only() -> None:
    class Broken(EdgeProtocol):
        def frame_received(self, frame: Any) -> None:
            raise RuntimeError("broken on purpose")

    core = GatewayCore(Clock())
    good = Client(core.edges)
    good.exchange()
    core.edges.protocol = Broken
    bad = Client(core.edges)
    bad.exchange()
    assert len(core.repository.edges) == 2
    bad.end.write(bytes.fromhex("0181000000000000000500000009") + (1).to_bytes(8) + b"m")
    bad.exchange()
    assert bad.transport.disconnecting or bad.transport.disconnected
    assert list(core.repository.edges) == [good.protocol.leg.id]
