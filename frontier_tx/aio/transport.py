"""Runs Twisted protocols over transports of an asyncio loop, without a reactor."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.aio.futures import Tasks
from frontier_tx.wire.protocol import CHUNK

#: Connects a transport: ``await loop.create_connection(factory, ...)`` or the like.
Dialer = Callable[[Callable[[], asyncio.Protocol]], Awaitable[Any]]


@implementer(ITransport, IConsumer, IPushProducer)
class Carrier(asyncio.Protocol):
    """One connection: an asyncio protocol towards the loop, a transport towards a Twisted protocol.

    Only push producers can be registered. Like any transport of Twisted it writes nothing more after its end.

    :param factory: builds the protocol when the connection is there.
    :param connecting: gets the protocol, when that knows its transport. Where it was cancelled nothing is built.
    """

    disconnecting = False
    disconnected = False

    def __init__(self, factory: IProtocolFactory, connecting: "Deferred[IProtocol]") -> None:
        self._factory = factory
        self._connecting = connecting
        self._transport: asyncio.Transport | None = None
        self._protocol: Any = None
        self._producer: Any = None

    # -- asyncio.Protocol ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # The wire hands over 128 KiB at a time and waits only where that is not taken.
        self._transport.set_write_buffer_limits(high=2 * CHUNK)
        if self._connecting.called:
            self._transport.abort()
            return
        protocol = self._factory.buildProtocol(self.getPeer())
        if protocol is None:
            self._transport.abort()
            self._connecting.errback(RuntimeError("the factory made no protocol"))
            return
        self._protocol = protocol
        # Bytes go straight to the protocol.
        self.data_received = protocol.dataReceived  # type: ignore[method-assign]
        protocol.makeConnection(self)
        self._connecting.callback(protocol)

    def data_received(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.disconnected = True
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if self._protocol is not None:
            self._protocol.connectionLost(Failure(exc or ConnectionDone()))  # type: ignore[no-untyped-call]

    def pause_writing(self) -> None:
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume_writing(self) -> None:
        if self._producer is not None:
            self._producer.resumeProducing()

    # -- ITransport ---------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send."""
        if not self.disconnected:
            self._carrying.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of it."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when everything is sent and a registered producer is done."""
        self.disconnecting = True
        if self._producer is None:
            self._carrying.close()

    def abortConnection(self) -> None:
        """Close at once."""
        self.disconnecting = True
        self._carrying.abort()

    def getPeer(self) -> IAddress:
        """The far address."""
        return _address(self._carrying.get_extra_info("peername"))

    def getHost(self) -> IAddress:
        """The near address."""
        return _address(self._carrying.get_extra_info("sockname"))

    # -- IConsumer ----------------------------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause ``producer`` while the loop's buffer is full.

        :raises ValueError: it is a pull producer.
        :raises RuntimeError: there is one already.
        """
        if not streaming:
            raise ValueError("only push producers can be registered here")
        if self._producer is not None:
            raise RuntimeError(f"a producer is registered already: {self._producer!r}")
        if self.disconnected:
            producer.stopProducing()
        else:
            self._producer = producer

    def unregisterProducer(self) -> None:
        """The producer has written all it had."""
        self._producer = None
        if self.disconnecting:
            self._carrying.close()

    # -- IPushProducer ------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Read nothing until ``resumeProducing``."""
        self._carrying.pause_reading()

    def resumeProducing(self) -> None:
        """Read again."""
        self._carrying.resume_reading()

    def stopProducing(self) -> None:
        """Nothing more is wanted."""
        self.loseConnection()

    @property
    def _carrying(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport


@implementer(IStreamClientEndpoint)
class LoopEndpoint:
    """Connects a Twisted protocol over a transport of the running loop.

    :param dial: connects the transport.
    :param tasks: where the attempts run.
    :param seconds: for one attempt.
    """

    def __init__(self, dial: Dialer, tasks: Tasks, seconds: float = 30.0) -> None:
        self._dial = dial
        self._tasks = tasks
        self._seconds = seconds

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Begin an attempt.

        :return: fails with what the attempt failed with, or with TimeoutError; cancelling it gives the attempt up.
        """

        async def attempt() -> None:
            try:
                async with asyncio.timeout(self._seconds) as limit:
                    await self._dial(lambda: Carrier(protocolFactory, connecting))
            except TimeoutError:
                if limit.expired():
                    raise TimeoutError(f"no connection within {self._seconds:g} s") from None
                raise

        def ended(task: "asyncio.Task[None]") -> None:
            error = None if task.cancelled() else task.exception()
            if not connecting.called:
                connecting.errback(error or CancelledError())

        protocolFactory.doStart()
        task = self._tasks.start(attempt())
        task.add_done_callback(ended)
        connecting: Deferred[IProtocol] = Deferred(lambda _: _ignore(task.cancel()))
        return connecting


def tcp(host: str, port: int, tls: ssl.SSLContext | None = None) -> Dialer:
    """What connects over TCP, or TLS with the host's name."""

    def dial(factory: Callable[[], asyncio.Protocol]) -> Awaitable[Any]:
        return asyncio.get_running_loop().create_connection(
            factory, host, port, ssl=tls, server_hostname=host if tls else None
        )

    return dial


def unix(path: str) -> Dialer:
    """What connects to a socket in the file system."""
    return lambda factory: asyncio.get_running_loop().create_unix_connection(factory, path)


def _address(name: Any) -> IAddress:
    """What a socket gives as its name, in Twisted's classes."""
    if isinstance(name, tuple):
        kind: Any = IPv4Address if len(name) == 2 else IPv6Address
        address: IAddress = kind("TCP", *name)
        return address
    return UNIXAddress(name or None)


def _ignore(result: bool) -> None:
    pass
