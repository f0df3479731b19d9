"""What brokers with an asyncio client library have in common: one worker per connection, in the bridge's loop."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from frontier_tx.config.common import TLS
from frontier_tx.queues.bridge import Bridge, Results
from frontier_tx.queues.interfaces import IBroker, Unusable
from frontier_tx.queues.record import Record
from frontier_tx.runtime.loss_text import one_line
from frontier_tx.runtime.tls import from_start


class Session:
    """One connection to the broker. Its coroutines run in the bridge's loop.

    :param lost: to be called there with the reason when the connection ends.
    """

    def __init__(self, lost: Callable[[str], None]) -> None:
        self.lost = lost

    async def open(self) -> None:
        """Connect, and declare what is to be declared."""
        raise NotImplementedError

    async def deliver(self, records: Sequence[Record], results: Results) -> Coroutine[Any, Any, None] | None:
        """Hand records to the library, in order.

        :return: what waits for the confirmations, while further records are handed over. Each record gets its result.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Close the connection."""
        raise NotImplementedError


@implementer(IBroker)
class AsyncioBroker:
    """An ``IBroker`` whose library lives in the bridge's loop.

    :param where: address for the log.
    :param session: makes a connection.
    """

    def __init__(self, where: str, bridge: Bridge, session: Callable[[Callable[[str], None]], Session]) -> None:
        self.where = where
        self._bridge = bridge
        self._make = session
        self._session: Session | None = None
        self._batches: asyncio.Queue[tuple[Sequence[Record], Results]] | None = None
        self._worker: asyncio.Task[None] | None = None

    # -- in the reactor's thread --------------------------------------------------------------------------

    def connect(self, lost: Callable[[str], None]) -> "Deferred[None]":
        """See ``IBroker``."""
        return self._bridge.run(self._open(lambda reason: self._bridge.reactor.callFromThread(lost, reason)))

    def send(
        self, records: Sequence[Record], confirmed: Callable[[Record], None], failed: Callable[[Record, str], None]
    ) -> None:
        """See ``IBroker``."""

        def take(found: Sequence[tuple[Record, str]]) -> None:
            for record, error in found:
                if error:
                    failed(record, error)
                else:
                    confirmed(record)

        self._bridge.post(self._enqueue, records, self._bridge.results(take))

    def disconnect(self) -> "Deferred[None]":
        """See ``IBroker``."""
        return self._bridge.run(self._close())

    # -- in the loop --------------------------------------------------------------------------------------

    async def _open(self, lost: Callable[[str], None]) -> None:
        await self._close()
        session = self._make(lost)
        try:
            await session.open()
        except BaseException:
            await session.close()
            raise
        self._session = session
        self._batches = asyncio.Queue()
        self._worker = asyncio.ensure_future(self._work(session, self._batches))

    def _enqueue(self, records: Sequence[Record], results: Results) -> None:
        if self._batches is not None:
            self._batches.put_nowait((records, results))

    async def _work(self, session: Session, batches: "asyncio.Queue[tuple[Sequence[Record], Results]]") -> None:
        confirming: set[asyncio.Task[None]] = set()

        def over(task: "asyncio.Task[None]") -> None:
            confirming.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                session.lost(one_line(error))

        try:
            while True:
                records, results = await batches.get()
                waiting = await session.deliver(records, results)
                if waiting is not None:
                    task = asyncio.ensure_future(waiting)
                    confirming.add(task)
                    task.add_done_callback(over)
        except asyncio.CancelledError:
            for task in confirming:
                task.cancel()
            raise
        except Exception as error:
            session.lost(one_line(error))

    async def _close(self) -> None:
        session, worker = self._session, self._worker
        self._session = self._worker = self._batches = None
        if worker is not None:
            worker.cancel()
        if session is not None:
            await session.close()


class _Context(ssl.SSLContext):
    """Expects the name in the certificate that the configuration gives, whatever address the library connects to."""

    expected = ""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, self.expected or server_hostname, session)


def ssl_context(section: TLS) -> ssl.SSLContext:
    """The client side of a section, for libraries of asyncio.

    :raises Unusable: a file cannot be read, or is not what it should be.
    """
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.expected = section.server_name
    context.load_default_certs()
    files = ""
    try:
        for files in section.ca_certs:
            context.load_verify_locations(from_start(files))
        if section.mtls and section.certs:
            own = section.certs[0]
            files = f"{own.cert}, {own.key}"
            context.load_cert_chain(from_start(own.cert), from_start(own.key))
    except OSError as error:
        raise Unusable(f"TLS: {files}: {error}") from error
    if section.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
