"""NSQ: a producer of our own on Twisted. No server was at hand: it is tested against what the protocol's documents say.

nsqd answers commands in their order, and closes the connection behind every error. So an error is that of the oldest
command without an answer; what was sent behind it was not looked at, and is sent again by the next connection.
"""

import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx import __version__
from frontier_tx.config.address import split_host_port
from frontier_tx.config.queues import NSQ
from frontier_tx.queues import nsq_wire as wire
from frontier_tx.queues.interfaces import IBroker, Surroundings, Unusable
from frontier_tx.queues.record import Record
from frontier_tx.runtime.loss_text import loss_text
from frontier_tx.runtime.tls import client_context

CONNECT_SECONDS = 5.0
#: How often nsqd is to give a sign of life, in seconds, and after how many that do not come it is gone.
HEARTBEAT, MISSED = 15.0, 2.5
#: What goes into one command at most: messages, and bytes of them (nsqd takes 5 MiB as it comes).
GROUP, GROUP_BYTES = 200, 1_048_576
#: Errors that no repetition mends. Others pass: nsqd is stopping, or its disk is full.
UNAUTHORIZED = "E_UNAUTHORIZED"
LASTING = ("E_BAD_TOPIC", "E_BAD_MESSAGE", "E_BAD_BODY", UNAUTHORIZED)
#: A topic that nsqd forbids is not tried again for this many seconds, as each attempt costs the connection. At most
#: this many topics are remembered.
FORBIDDEN_SECONDS, FORBIDDEN_TOPICS = 30.0, 1000
_TOO_BIG = re.compile(r"too big \d+ > (\d+)")


def topics(section: NSQ) -> tuple[str, ...]:
    """The topics that go to this queue."""
    return section.producer.topics


def make(section: NSQ, surroundings: Surroundings) -> "NSQBroker":
    """Make the broker of a section; the first address counts."""
    return NSQBroker(section, surroundings)


class _Connection(Protocol):
    """One connection: hands each answer to who waits for it, in order, and answers signs of life.

    :param on_end: told the reason when it ends, and the error that made nsqd end it, if one did.
    """

    def __init__(self, clock: Any, on_end: "Callable[[_Connection, str], None]") -> None:
        self._clock = clock
        self._on_end = on_end
        self._frames = wire.Frames()
        #: Told the body of an answer, or the error.
        self._waiting: deque[Callable[[bytes, str], None]] = deque()
        self._why = ""
        self._silence: IDelayedCall | None = None

    def ask(self, command: bytes, answered: Callable[[bytes, str], None]) -> None:
        """Send a command; ``answered`` is told the answer, or the text of the error, unless the connection ends."""
        self._waiting.append(answered)
        self.write(command)

    def write(self, data: bytes) -> None:
        """Send what nsqd does not answer."""
        self.transport.write(data)  # type: ignore[union-attr]

    def end(self, why: str) -> None:
        """End the connection for this reason."""
        self._why = self._why or why
        self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        self._silence = self._clock.callLater(HEARTBEAT * MISSED, self._silent)

    def _silent(self) -> None:
        self._silence = None
        self.end(f"it gave no sign of life for {HEARTBEAT * MISSED:g} s")

    def dataReceived(self, data: bytes) -> None:
        try:
            for kind, body in self._frames.feed(data):
                self._got(kind, body)
        except wire.ProtocolError as error:
            self.end(str(error))

    def _got(self, kind: int, body: bytes) -> None:
        if self._silence is not None:
            self._silence.reset(HEARTBEAT * MISSED)
        if kind == wire.RESPONSE and body == wire.HEARTBEAT:
            self.write(wire.NOP)
        elif kind not in (wire.RESPONSE, wire.ERROR):
            self.end("it sent a message, as if to a consumer")
        elif not self._waiting:
            self.end(wire.error_of(body)[1] if kind == wire.ERROR else "it sent an answer to nothing")
        elif kind == wire.RESPONSE:
            self._waiting.popleft()(body, "")
        else:
            error = wire.error_of(body)[1] or "an error without a text"
            # Told before the end, since what follows depends on whose error it is.
            self._why = self._why or error
            self._waiting.popleft()(b"", error)
            self.end(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._waiting.clear()
        self._on_end(self, self._why or loss_text(reason))


@implementer(IBroker)
class NSQBroker:
    """One connection to one nsqd, whose commands are pipelined."""

    def __init__(self, section: NSQ, surroundings: Surroundings) -> None:
        self._section = section
        self._surroundings = surroundings
        self.where = section.addrs[0]
        self._connection: _Connection | None = None
        self._lost: Callable[[str], None] = lambda reason: None
        #: The largest message: less than configured once nsqd has said so.
        self._most = section.max_message_bytes
        #: How many of the next messages go one by one: nsqd refused them together; only the one at fault is to fail.
        self._apart = 0
        #: Topics that nsqd forbids: its error, and until when they are not tried.
        self._forbidden: dict[str, tuple[str, float]] = {}

    # -- connecting ---------------------------------------------------------------------------------------

    def connect(self, lost: Callable[[str], None]) -> "Deferred[None]":
        """See ``IBroker``."""
        return ensureDeferred(self._connect(lost))

    async def _connect(self, lost: Callable[[str], None]) -> None:
        self.disconnect()
        host, port = split_host_port(self.where)
        reactor = self._surroundings.reactor
        ending: list[Deferred[bytes]] = []

        def ended(connection: _Connection, why: str) -> None:
            while ending:
                waiting = ending.pop()
                if not waiting.called:
                    waiting.errback(Unusable(why))
            self._ended(connection, why)

        factory = Factory.forProtocol(lambda: _Connection(reactor, ended))
        factory.noisy = False
        endpoint = HostnameEndpoint(reactor, host, port, timeout=CONNECT_SECONDS)
        connection: Any = await endpoint.connect(factory)

        async def answer_to(command: bytes) -> bytes:
            answer: Deferred[bytes] = Deferred()
            ending[:] = [answer]

            def answered(body: bytes, error: str) -> None:
                ending.clear()
                if error:
                    answer.errback(Unusable(error))
                else:
                    answer.callback(body)

            connection.ask(command, answered)
            return await answer

        try:
            await self._introduce(connection, answer_to, host)
        except BaseException:
            connection.end("given up")
            raise
        self._connection, self._lost = connection, lost

    async def _introduce(self, connection: _Connection, answer_to: Callable[[bytes], Any], host: str) -> None:
        section = self._section
        name = self._surroundings.gateway or socket.gethostname()
        fields = {
            "client_id": name,
            "hostname": socket.gethostname(),
            "user_agent": f"frontier-tx/{__version__}",
            "feature_negotiation": True,
            "heartbeat_interval": int(HEARTBEAT * 1000),
            "tls_v1": section.tls.enable,
        }
        agreed = wire.answer_of(await answer_to(wire.MAGIC + wire.identify(fields)))
        if section.tls.enable:
            if not agreed.get("tls_v1"):
                raise Unusable("it offers no TLS (nsqd's --tls-cert and --tls-key), and mqm.nsq.tls.enable is true")
            context = client_context(section.tls, "mqm.nsq.tls", host)
            connection.transport.startTLS(context)  # type: ignore[union-attr]
            # nsqd says OK once more, the first thing under TLS.
            await answer_to(b"")
        if agreed.get("auth_required"):
            if not section.auth_secret:
                raise Unusable("it asks for a secret: set mqm.nsq.auth_secret")
            await answer_to(wire.auth(section.auth_secret))

    def _ended(self, connection: _Connection, why: str) -> None:
        if connection is self._connection:
            self._connection = None
            self._lost(why)

    def disconnect(self) -> None:
        """See ``IBroker``."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end("given up")

    # -- records ------------------------------------------------------------------------------------------

    def send(
        self, records: Sequence[Record], confirmed: Callable[[Record], None], failed: Callable[[Record, str], None]
    ) -> None:
        """See ``IBroker``."""
        connection = self._connection
        assert connection is not None
        fit = []
        for record in records:
            why = self._unfit(record)
            if why:
                failed(record, why)
            else:
                fit.append(record)
        apart = min(self._apart, len(fit))
        self._apart -= apart
        for group in (*([each] for each in fit[:apart]), *_groups(fit[apart:])):
            command = wire.publish(group[0].topic, [record.value for record in group])
            connection.ask(command, self._answered(group, confirmed, failed))

    def _unfit(self, record: Record) -> str:
        if not wire.is_topic(record.topic):
            return f"{record.topic[:80]!r} is no name of a topic for NSQ (1 to 64 of letters, digits, '.', '_', '-')"
        if not record.value:
            return "NSQ takes no empty messages"
        if len(record.value) > self._most:
            return f"{len(record.value)} bytes are too many for NSQ, which takes {self._most}"
        error, until = self._forbidden.get(record.topic, ("", 0.0))
        if error and until <= self._surroundings.reactor.seconds():
            del self._forbidden[record.topic]
            return ""
        return error

    def _forbid(self, topic: str, error: str) -> None:
        if len(self._forbidden) >= FORBIDDEN_TOPICS:
            self._forbidden.clear()
        self._forbidden[topic] = error, self._surroundings.reactor.seconds() + FORBIDDEN_SECONDS

    def _answered(
        self,
        group: Sequence[Record],
        confirmed: Callable[[Record], None],
        failed: Callable[[Record, str], None],
    ) -> Callable[[bytes, str], None]:
        def answered(body: bytes, error: str) -> None:
            if not error:
                for record in group:
                    confirmed(record)
            elif error.startswith(LASTING):
                if found := _TOO_BIG.search(error):
                    self._most = min(self._most, int(found[1]))
                if error.startswith(UNAUTHORIZED):
                    self._forbid(group[0].topic, error)
                if len(group) == 1:
                    failed(group[0], error)
                else:
                    # The next connection begins with them, as everything before them was answered.
                    self._apart = len(group)
            # Anything else ended the connection, and the records are sent again.

        return answered


def _groups(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Those that follow each other and have one topic, as far as they fit into one command."""
    group: list[Record] = []
    size = 0
    for record in records:
        full = len(group) >= GROUP or size + len(record.value) > GROUP_BYTES
        if group and (full or record.topic != group[0].topic):
            yield group
            group, size = [], 0
        group.append(record)
        size += len(record.value) + 4
    if group:
        yield group
