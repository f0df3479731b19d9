"""Both ends of the atlas plane as Twisted protocols. Subclass them, or put them on a transport of your own."""

from collections import Counter
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from frontier_tx.atlas.messages import EXTENSIONS, METHODS, BadEvent, FrontierMeta
from frontier_tx.errors import ForceClosed, FrontierError, OperationTimeout, TooManyPending, from_answer
from frontier_tx.interfaces import IAtlasProtocol, IPlaneFactory
from frontier_tx.rpc.addresses import address_key
from frontier_tx.rpc.door import ClosedLog
from frontier_tx.runtime.deferreds import Waiters
from frontier_tx.timers import Alarms
from frontier_tx.wire import events as e
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import EMPTY_OBJECT, message_json, read_message
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.ids import DEFAULT_SESSION
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet
from frontier_tx.wire.protocol import WireProtocol
from frontier_tx.wire.states import Role, State

#: Calls under way on one link at most; a Frontlas that has as many unanswered stops reading from that Frontier.
CALLS_UNDER_WAY = 10_000
#: Seconds for a call.
CALL_SECONDS = 10.0
#: Calls of Frontlas under way at one Frontier.
ASKED_UNDER_WAY = 100
#: Bytes of answers that a Frontier has not taken; with more of them it is not read from until it has taken all.
UNTAKEN_ANSWERS = 1_048_576
#: What a Frontier says in its Conn that it is, and what others read that come here.
KIND = "frontier"
WRONG_DOOR = (
    "this is the port where Frontlas listens for Frontiers; edges and services connect to a Frontier, cluster services "
    "to the address of control_plane.listen, port 40011 by default"
)
#: Within so many seconds a Frontier shows that it lives when another connection asks for its place. Both
#: implementations answer at once, whatever they are busy with, and wait 10 s to be let in.
PROBE_SECONDS = 3.0


class IAtlas(Interface):
    """Frontlas behind the atlas plane: what the server end of a link tells, and whom it asks."""

    def arrived(link: "AtlasServerProtocol", meta: FrontierMeta) -> "Deferred[None]":
        """A Frontier introduces itself. A failure refuses it with the text of the exception."""

    def called(link: "AtlasServerProtocol", method: str, value: bytes) -> "Deferred[None]":
        """It reports something. A failure answers with the text of the exception."""

    def heartbeat(link: "AtlasServerProtocol") -> None:
        """It is alive."""

    def gone(link: "AtlasServerProtocol", by_peer: bool) -> None:
        """The link of an accepted Frontier ended; ``by_peer`` tells whether the Frontier's side ended it."""


class _Probe:
    """Those who wait to see whether a Frontier lives; sits in the process's timer."""

    __slots__ = ("tick", "link", "waiters")

    def __init__(self, link: "AtlasServerProtocol") -> None:
        self.tick = 0
        self.link = link
        self.waiters: Waiters[bool] = Waiters()

    def fire(self, now: float) -> None:
        self.link.probed(False)


class _Call:
    """A call that waits for its answer; sits in the process's timer."""

    __slots__ = ("tick", "answer", "link", "packet_id")

    def __init__(self, link: "AtlasProtocol", packet_id: int) -> None:
        self.tick = 0
        self.answer: Deferred[bytes] = Deferred()
        self.link = link
        self.packet_id = packet_id

    def fire(self, now: float) -> None:
        self.link.finish(self.packet_id, OperationTimeout())


class AtlasProtocol(WireProtocol):
    """What both ends of a link do: call the other one."""

    #: Calls under way at most.
    calls_at_most = CALLS_UNDER_WAY

    def __init__(self, role: Role, alarms: Alarms, outlet: Outlet, limits: Limits | None = None) -> None:
        super().__init__(role, alarms, outlet, limits)
        self._calls: dict[int, _Call] = {}

    def call(self, method: str, value: bytes, seconds: float = CALL_SECONDS) -> "Deferred[bytes]":
        """Call a method of the other end; fails with RemoteError, OperationTimeout, TooManyPending or ForceClosed."""
        if not self.connection.connected:
            return fail(ForceClosed())
        if len(self._calls) >= self.calls_at_most:
            return fail(TooManyPending())
        packet_id = next(self.connection.ids)
        call = self._calls[packet_id] = _Call(self, packet_id)
        self.alarms.schedule(call, self.alarms.now() + seconds)
        self.write_frame(f.REQUEST, packet_id, message_json(key=method.encode(), value=value))
        return call.answer

    def write_frame(self, frame_type: int, packet_id: int, body: bytes) -> None:
        """Write a frame of session 1."""
        self.connection.write(f.pack_of_session(frame_type, packet_id, DEFAULT_SESSION, body))

    def answer(self, packet_id: int, key: bytes, value: bytes = b"", error: str = "") -> None:
        """Answer a call of the other end, if it is still there."""
        if self.connection.connected:
            self.write_frame(f.RESPONSE, packet_id, message_json(key=key, value=value, error=error))

    def answered(self, frame: Frame) -> None:
        """Take the answer to a call."""
        data = read_message(frame.body)
        self.finish(frame.packet_id, from_answer(data.error) if data.error else data.payload)

    def finish(self, packet_id: int, outcome: bytes | Exception) -> None:
        """End a call, if it is still under way."""
        call = self._calls.pop(packet_id, None)
        if call is None:
            return
        self.alarms.cancel(call)
        if isinstance(outcome, Exception):
            call.answer.errback(outcome)
        else:
            call.answer.callback(outcome)

    def fail_calls(self) -> None:
        """End all calls, for the connection has ended."""
        for packet_id in list(self._calls):
            self.finish(packet_id, ForceClosed())


@implementer(IAtlasProtocol)
class AtlasServerProtocol(AtlasProtocol):
    """Frontlas's end of the link to one Frontier."""

    log = Logger(namespace="frontlas.frontier_plane")
    calls_at_most = ASKED_UNDER_WAY

    def __init__(self, atlas: Any, alarms: Alarms, outlet: Outlet, limits: Limits | None = None) -> None:
        super().__init__(Role.SERVER, alarms, outlet, limits)
        self._atlas = atlas
        self.meta: FrontierMeta | None = None
        self.factory: Any = None
        self._under_way = 0
        self._accepted = False
        self._congested = False
        self._complained = False
        self._probe: _Probe | None = None
        #: The address that the factory counts it under.
        self.counted_as = ""

    @property
    def host(self) -> str:
        """Where the Frontier connects from; empty where its transport does not say."""
        peer = self.transport.getPeer() if self.transport is not None else None
        return str(getattr(peer, "host", "") or "")

    def is_alive(self) -> "Deferred[bool]":
        """Whether the Frontier gives a sign of life within ``PROBE_SECONDS``; it is asked for one."""
        if not self.connection.connected:
            return succeed(False)
        if self._under_way >= CALLS_UNDER_WAY:
            # It waits for us, so that nothing is read from it.
            return succeed(True)
        if self._probe is None:
            self._probe = _Probe(self)
            self.alarms.schedule(self._probe, self.alarms.now() + PROBE_SECONDS)
            # Every end acknowledges a Register, and takes one that it had before for the same.
            self.write_frame(f.REGISTER, next(self.connection.ids), METHODS[0].encode())
        return self._probe.waiters.wait()

    def probed(self, alive: bool) -> None:
        """Tell those who asked for a sign of life."""
        probe, self._probe = self._probe, None
        if probe is not None:
            self.alarms.cancel(probe)
            probe.waiters.tell(alive)

    def event_received(self, event: e.Event) -> None:
        """Let the Frontier in, and note its heartbeats; streams have no place here."""
        if self._probe is not None and isinstance(event, e.HeartbeatReceived):
            self.probed(True)
        match event:
            case e.ConnReceived():
                self._arrived(event)
            case e.HeartbeatReceived() if self._accepted:
                self._atlas.heartbeat(self)
            case e.SessionRequested():
                self.connection.refuse_session(event, self.alarms.now())

    def _arrived(self, event: e.ConnReceived) -> None:
        try:
            if event.kind not in ("", KIND):
                raise BadEvent(WRONG_DOOR)
            self.meta = FrontierMeta.decode(event.meta)
        except BadEvent as error:
            self._refuse(str(error))
            self._complain(str(error))
            return
        claiming: Deferred[None] = self._atlas.arrived(self, self.meta)
        claiming.addCallbacks(lambda _: self._let_in(), lambda failure: self._refuse(failure.getErrorMessage()))
        claiming.addErrback(self._broken)

    def _complain(self, why: str) -> None:
        if self.factory is not None and not self._complained:
            self._complained = True
            self.factory.closed_log.note(_text(self.transport), why)

    def _refuse(self, text: str) -> None:
        if self.connection.state is State.CONN_RECEIVED:
            self._tell(self.connection.refuse(text, self.alarms.now()))

    def _let_in(self) -> None:
        self._accepted = True
        if self.connection.state is not State.CONN_RECEIVED:
            self._atlas.gone(self, True)
            return
        assert self.meta is not None
        self.connection.accept(self.meta.client_id, self.alarms.now())
        # The extensions come first: a Frontier that waits for the first method knows with it what it may use.
        for method in (*EXTENSIONS, *METHODS):
            self.write_frame(f.REGISTER, next(self.connection.ids), method.encode())

    def frame_received(self, frame: Frame) -> None:
        """Answer calls; a Register is acknowledged, everything else is ignored."""
        if self._probe is not None:
            self.probed(True)
        if frame.type == f.REGISTER:
            self.connection.write(f.pack_of_session(f.REGISTER_ACK, frame.packet_id, frame.session_id, EMPTY_OBJECT))
        elif frame.type == f.REQUEST and frame.session_id == DEFAULT_SESSION:
            data = read_message(frame.body)
            self._called(frame.packet_id, data.key, data.payload)
        elif frame.type == f.RESPONSE:
            self.answered(frame)

    def _called(self, packet_id: int, key: bytes, value: bytes) -> None:
        method = key.decode("utf-8", "replace")
        if method not in METHODS and method not in EXTENSIONS:
            self.answer(packet_id, key, error=f"no such rpc: {method}")
            return
        self._under_way += 1
        if self._under_way == CALLS_UNDER_WAY:
            self.pause_reading()
        doing: Deferred[Any] = self._atlas.called(self, method, value)
        doing.addBoth(self._done, packet_id, key).addErrback(self._broken)

    def _done(self, outcome: Failure | None, packet_id: int, key: bytes) -> None:
        error = (outcome.getErrorMessage() or "failed") if isinstance(outcome, Failure) else ""
        if self._under_way == CALLS_UNDER_WAY:
            self.resume_reading()
        self._under_way -= 1
        self.answer(packet_id, key, error=error)

    def answer(self, packet_id: int, key: bytes, value: bytes = b"", error: str = "") -> None:
        """Answer, and read no more from a peer that does not take its answers."""
        super().answer(packet_id, key, value, error)
        if not self._congested and self.unsent > UNTAKEN_ANSWERS:
            self._congested = True
            self.pause_reading()

    def flush(self) -> None:
        """Write; read on from a peer that has taken all."""
        super().flush()
        if self._congested and not self.unsent:
            self._congested = False
            self.resume_reading()

    def _broken(self, failure: Failure) -> None:
        self.log.failure("a call of a Frontier could not be worked on; its link is closed", failure)
        self.abort("internal error")

    def connection_gone(self, reason: str) -> None:
        """Tell Frontlas."""
        self.probed(False)
        self.fail_calls()
        if self.factory is not None:
            self.factory.left(self)
        if self.meta is None and self.close_reason:
            self._complain(self.close_reason)
        if self._accepted:
            self._accepted = False
            self._atlas.gone(self, not self.close_reason)


@implementer(IPlaneFactory)
class AtlasServerFactory(Factory):
    """Makes the server ends of the frontier plane.

    :param atlas: provides ``IAtlas``.
    :param most: links at one time.
    """

    protocol: type[AtlasServerProtocol] = AtlasServerProtocol
    noisy = False

    def __init__(
        self, atlas: Any, alarms: Alarms, outlet: Outlet, limits: Limits | None = None, most: int = 10_000
    ) -> None:
        self.connections: set[AtlasServerProtocol] = set()
        self._atlas = atlas
        #: Connections that ended before they introduced themselves, for what they sent or did not send.
        self.closed_log = ClosedLog(self.protocol.log, "frontier plane", alarms.now)
        self._alarms = alarms
        self._outlet = outlet
        self._limits = limits
        self._most = most
        self._by_address: Counter[str] = Counter()
        #: Connections that were turned away.
        self.refused = 0

    def buildProtocol(self, addr: IAddress | None) -> AtlasServerProtocol | None:
        """Return a protocol, or None when there are too many links; one address leaves as many free as it has."""
        key = address_key(str(getattr(addr, "host", "") or ""))
        if self._by_address[key] >= self._most - len(self.connections):
            self.refused += 1
            self.closed_log.note(key, "too many connections, of all or of this address (limits.connections)")
            return None
        made = self.protocol(self._atlas, self._alarms, self._outlet, self._limits)
        made.factory = self
        made.counted_as = key
        self._by_address[key] += 1
        self.connections.add(made)
        return made

    def left(self, link: AtlasServerProtocol) -> None:
        """A connection is over."""
        if link in self.connections:
            self.connections.discard(link)
            self._by_address[link.counted_as] -= 1
            if not self._by_address[link.counted_as]:
                del self._by_address[link.counted_as]


def _text(transport: Any) -> str:
    peer = transport.getPeer() if transport is not None else None
    return f"{getattr(peer, 'host', peer)}:{getattr(peer, 'port', '')}"


class ILinkOwner(Protocol):
    """Who has a link to Frontlas."""

    def link_made(self, link: "AtlasClientProtocol") -> None:
        """It has a transport."""

    def link_up(self, link: "AtlasClientProtocol") -> None:
        """Frontlas accepted."""

    def link_announced(self, link: "AtlasClientProtocol") -> None:
        """Frontlas announced a method: see ``methods``."""

    def asked(self, method: str, value: bytes) -> "Deferred[bytes]":
        """Frontlas calls a method of this Frontier. A failure answers with the text of the exception."""

    def link_down(self, link: "AtlasClientProtocol", reason: str) -> None:
        """It is over."""

    def transport_gone(self, link: "AtlasClientProtocol") -> None:
        """Its transport is closed; where that says a goodbye of its own, some time after the link is down."""


@implementer(IAtlasProtocol)
class AtlasClientProtocol(AtlasProtocol):
    """A Frontier's end of its link to Frontlas.

    :param owner: is told what becomes of the link, and reports with ``call``.
    """

    log = Logger(namespace="frontier.atlas")

    def __init__(
        self,
        meta: FrontierMeta,
        alarms: Alarms,
        outlet: Outlet,
        owner: ILinkOwner,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(Role.CLIENT, alarms, outlet, limits)
        self._owner = owner
        self._meta = meta
        self._asked = 0
        #: Methods that Frontlas announced.
        self.methods: set[str] = set()
        #: Why Frontlas refused, empty where it did not.
        self.refusal = ""

    def connection_ready(self) -> None:
        """Introduce this Frontier, with the address of this link where it does not know its own."""
        self._owner.link_made(self)
        assert self.transport is not None
        host = getattr(self.transport.getHost(), "host", "")
        self._meta = self._meta.reached_at(host.removeprefix("::ffff:") if "." in host else host)
        self.outlet.enter()
        try:
            self.connection.connect(self._meta.encode(), kind=KIND)
        finally:
            self.outlet.leave()

    def event_received(self, event: e.Event) -> None:
        """Note acceptance and refusal."""
        match event:
            case e.ConnAccepted():
                self._owner.link_up(self)
            case e.ConnRefused(error=error):
                self.refusal = error
            case e.SessionRequested():
                self.connection.refuse_session(event, self.alarms.now())

    def frame_received(self, frame: Frame) -> None:
        """Take announcements and answers."""
        if frame.type == f.REGISTER:
            body = f.pack_of_session(f.REGISTER_ACK, frame.packet_id, frame.session_id, EMPTY_OBJECT)
            self.connection.write(body)
            self.methods.add(frame.body.decode("utf-8", "replace"))
            self._owner.link_announced(self)
        elif frame.type == f.RESPONSE:
            self.answered(frame)
        elif frame.type == f.REQUEST and frame.session_id == DEFAULT_SESSION:
            data = read_message(frame.body)
            if self._asked >= ASKED_UNDER_WAY:
                self.answer(frame.packet_id, data.key, error=TooManyPending.text)
                return
            self._asked += 1
            answering = self._owner.asked(data.key.decode("utf-8", "replace"), data.payload)
            answering.addBoth(self._done, frame.packet_id, data.key)

    def _done(self, outcome: bytes | Failure, packet_id: int, key: bytes) -> None:
        self._asked -= 1
        if isinstance(outcome, Failure):
            if not isinstance(outcome.value, (FrontierError, BadEvent)):
                self.log.failure("a call of Frontlas could not be worked on", outcome)
            self.answer(packet_id, key, error=outcome.getErrorMessage() or "failed")
        else:
            self.answer(packet_id, key, outcome)

    def connection_gone(self, reason: str) -> None:
        """Fail what is under way."""
        self.fail_calls()
        self._owner.link_down(self, self.refusal or reason)

    def transport_gone(self) -> None:
        """Tell the owner."""
        self._owner.transport_gone(self)
