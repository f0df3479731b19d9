"""What can be plugged in: protocols and factories of the three wire planes (docs/extending.md).

Smaller interfaces stand beside what they belong to: ``switch.choice.IHashPolicy``, ``switch.presence.IIDAllocator`` and
``switch.presence.IPresenceListener``.
"""

from twisted.internet.interfaces import IProtocol, IProtocolFactory
from zope.interface import Attribute


class IWireProtocol(IProtocol):
    """One connection of the geminio wire, either end."""

    connection = Attribute("The sans-IO ``frontier_tx.wire.connection.Connection`` that is driven.")

    def frame_received(frame):  # type: ignore[no-untyped-def]
        """Take an application frame (``frontier_tx.wire.frame.Frame``) of a live session."""

    def event_received(event):  # type: ignore[no-untyped-def]
        """Take an event of the connection or session layer (``frontier_tx.wire.events``)."""

    def connection_gone(reason):  # type: ignore[no-untyped-def]
        """The connection is over; ``reason`` is text, empty after an orderly goodbye. Called once."""

    def close():  # type: ignore[no-untyped-def]
        """Say goodbye in order, in bounded time."""

    def abort(reason):  # type: ignore[no-untyped-def]
        """End the connection at once."""


class IEdgeProtocol(IWireProtocol):
    """The gateway's end of an edge's connection."""

    leg = Attribute("The ``frontier_tx.switch.legs.Leg`` of this connection.")


class IServiceProtocol(IWireProtocol):
    """The gateway's end of a service's connection."""

    leg = Attribute("The ``frontier_tx.switch.legs.Leg`` of this connection.")


class IAtlasProtocol(IWireProtocol):
    """Either end of the connection between a Frontier and Frontlas."""


class IPlaneFactory(IProtocolFactory):
    """Makes the protocols of one listener. ``protocol`` is the class to make, to be replaced by a subclass."""

    protocol = Attribute("The protocol class.")
    connections = Attribute("The set of protocols that are connected now.")
