"""A gateway in memory: fake transports, a fake clock, and ends that speak in packets."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from frontier_tx.gateway.core import GatewayCore
from frontier_tx.gateway.protocols import LegProtocol
from frontier_tx.switch.legs import Leg
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import ConnData, Context, MessageData, SessionData
from frontier_tx.wire.times import UNSET, format_time
from tests import packets as p

WALL = 1_790_000_000.0
NO_CONTEXT = Context(UNSET)


class FakeTransport:
    """A transport that delivers at once, or holds everything while ``blocked``."""

    def __init__(self, clock: Clock, address: Any, deliver: Callable[[bytes], None]) -> None:
        self.clock = clock
        self.address = address
        self.deliver = deliver
        self.protocol: Any = None
        self.producer: Any = None
        self.held: list[bytes] = []
        self.blocked = False
        self.closed = False
        self.aborted = False
        self.reading = True
        self.unread: list[bytes] = []

    def write(self, data: bytes) -> None:
        if self.closed:
            return
        if not self.blocked:
            self.deliver(data)
            return
        self.held.append(data)
        if self.producer is not None:
            self.producer.pauseProducing()

    def block(self) -> None:
        """The peer takes nothing from now on."""
        self.blocked = True

    def unblock(self) -> None:
        """The peer takes everything again."""
        self.blocked = False
        self.unblock_once()

    def unblock_once(self) -> None:
        """The peer takes what waits, and then nothing again."""
        held, self.held = self.held, []
        for data in held:
            self.deliver(data)
        if self.producer is not None and held:
            self.producer.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True
        self.clock.callLater(0, self.read)

    def receive(self, data: bytes) -> None:
        """Bytes of the peer arrive, and wait while nobody reads."""
        self.unread.append(data)
        self.read()

    def read(self) -> None:
        while self.unread and self.reading and not self.closed:
            self.protocol.dataReceived(self.unread.pop(0))

    def getPeer(self) -> Any:
        return self.address

    def getHost(self) -> Any:
        return IPv4Address("TCP", "127.0.0.1", 30012)

    def loseConnection(self) -> None:
        self._end(ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self._end(ConnectionLost())

    def _end(self, error: Exception) -> None:
        if not self.closed:
            self.closed = True
            self.clock.callLater(0, self.protocol.connectionLost, Failure(error))


class Peer:
    """A hand-made end of a connection: ``inbox`` holds what came, decoded."""

    numbers = itertools.count(1, 2)

    def __init__(self, world: "World", protocol: LegProtocol, transport: FakeTransport) -> None:
        self.world = world
        self.protocol = protocol
        self.transport = transport
        self.reader = f.FrameReader(1 << 30)
        self.inbox: list[Any] = []
        self.frames: list[f.Frame] = []
        self.received = 0
        #: Whether goodbyes are answered as any end would.
        self.polite = True
        self.dismissed: set[int] = set()
        self.goodbye = False

    @property
    def leg(self) -> Leg:
        return self.protocol.leg

    @property
    def id(self) -> int:
        return self.leg.id

    @property
    def closed(self) -> bool:
        return self.transport.closed

    def got(self, data: bytes) -> None:
        self.received += len(data)
        for frame in self.reader.feed(data):
            packet = p.decode(frame)
            self.frames.append(frame)
            self.inbox.append(packet)
            if self.polite:
                self.world.clock.callLater(0, self._answer, packet)

    def _answer(self, packet: Any) -> None:
        """The other half of every goodbye; the gateway began it, or answers ours."""
        match packet:
            case p.Dismissal(type=f.FrameType.DISMISS):
                self.send(replace(packet, type=f.FrameType.DISMISS_ACK))
                if packet.session_id not in self.dismissed:
                    self.dismiss(packet.session_id)
            case p.Bare(type=f.FrameType.DIS_CONN):
                self.send(p.DisConnAck(packet_id=packet.packet_id))
                if not self.goodbye:
                    self.disconnect()

    # -- sending ------------------------------------------------------------------------------------------

    def raw(self, data: bytes) -> None:
        self.transport.receive(data)

    def send(self, packet: p.Packet) -> int:
        self.raw(p.encode(packet))
        return packet.packet_id

    def next_id(self) -> int:
        return next(self.numbers)

    def conn(self, meta: bytes = b"", wanted: int = 0, acquire: bool = True, **declared: Any) -> int:
        flags = (p.ACQUIRE_CLIENT_ID if acquire else 0) | 1 << 4
        data = ConnData(meta=meta, **declared)
        return self.send(p.Conn(packet_id=self.next_id(), flags=flags, client_id=wanted, data=data))

    def send_bare(self, kind: f.FrameType) -> int:
        return self.send(p.Bare(type=kind, packet_id=self.next_id()))

    def register(self, method: bytes, session: int = 1) -> int:
        return self.send(p.Register(packet_id=self.next_id(), session_id=session, method=method))

    def _packet(self, kind: f.FrameType, packet_id: int | None, session: int, fields: dict[str, Any]) -> p.Message:
        fields.setdefault("deadline", UNSET)
        fields.setdefault("context", NO_CONTEXT)
        number = self.next_id() if packet_id is None else packet_id
        return p.Message(type=kind, packet_id=number, session_id=session, data=MessageData(**fields))

    def _message(self, kind: f.FrameType, packet_id: int | None, session: int, fields: dict[str, Any]) -> int:
        return self.send(self._packet(kind, packet_id, session, fields))

    def call_frame(self, method: bytes, **fields: Any) -> bytes:
        """A Request that is not sent yet."""
        return p.encode(self._packet(f.FrameType.REQUEST, None, 1, {"key": method, **fields}))

    def call(
        self, method: bytes, value: bytes = b"", packet_id: int | None = None, session: int = 1, **fields: Any
    ) -> int:
        """Send a Request."""
        fields |= {"key": method, "value": value}
        return self._message(f.FrameType.REQUEST, packet_id, session, fields)

    def publish(self, value: bytes = b"", packet_id: int | None = None, session: int = 1, **fields: Any) -> int:
        """Send a Message."""
        fields["value"] = value
        return self._message(f.FrameType.MESSAGE, packet_id, session, fields)

    def respond(self, request: Any, value: bytes = b"", error: str = "") -> None:
        """Answer a Request or a Message that came."""
        if request.type == f.REQUEST:
            self._message(
                f.FrameType.RESPONSE, request.packet_id, request.session_id,
                {"key": request.data.key, "value": value, "error": error},
            )  # fmt: skip
        else:
            self._message(f.FrameType.MESSAGE_ACK, request.packet_id, request.session_id, {"error": error})

    def cancel(self, packet_id: int, session: int = 1, reason: int = p.CANCELED) -> None:
        self.send(p.RequestCancel(packet_id=packet_id, session_id=session, reason=reason))

    def stream(self, session: int, data: bytes) -> None:
        self.send(p.Stream(packet_id=self.next_id(), session_id=session, data=data))

    def dismiss(self, session: int = 1) -> int:
        self.dismissed.add(session)
        kind = f.FrameType.DISMISS
        return self.send(p.Dismissal(type=kind, packet_id=self.next_id(), session_id=session))

    def disconnect(self) -> int:
        self.goodbye = True
        return self.send_bare(f.FrameType.DIS_CONN)

    def open(self, peer: str, meta: bytes = b"", number: int = 0) -> int:
        """Ask for a session; return the negotiate id."""
        number = number or self.next_id()
        data = SessionData(meta=meta, peer=peer)
        self.send(p.Session(packet_id=number, flags=p.ACQUIRE_SESSION_ID, negotiate_id=number, data=data))
        return number

    def ack_session(self, session: p.Session, error: str = "") -> int:
        """Accept the session that the gateway asks for; return its id."""
        self.send(
            p.SessionAck(
                packet_id=session.packet_id,
                negotiate_id=session.negotiate_id,
                session_id=session.negotiate_id,
                data=SessionData(error=error),
            )
        )
        return session.negotiate_id

    def cut(self) -> None:
        """The network takes the connection away."""
        if not self.transport.closed:
            self.transport.closed = True
            self.protocol.connectionLost(Failure(ConnectionLost()))

    def leave(self) -> None:
        """Go in order, as an SDK does."""
        self.dismiss()
        self.world.advance(0.05)
        self.disconnect()
        self.world.advance(0.05)

    # -- looking ------------------------------------------------------------------------------------------

    def take(self, kind: type | f.FrameType | None = None) -> list[Any]:
        """Return what came, of one kind or of all, and forget it."""
        found: list[Any] = []
        left: list[Any] = []
        for packet in self.inbox:
            (found if kind is None or is_kind(packet, kind) else left).append(packet)
        self.inbox = left
        return found

    def one(self, kind: type | f.FrameType) -> Any:
        """Return the only one of a kind."""
        found = self.take(kind)
        assert len(found) == 1, f"{len(found)} of {kind} in {found}, beside them {self.inbox}"
        return found[0]

    def request(self) -> Any:
        return self.one(f.FrameType.REQUEST)

    def response(self) -> Any:
        return self.one(f.FrameType.RESPONSE)

    def message(self) -> Any:
        return self.one(f.FrameType.MESSAGE)

    def message_ack(self) -> Any:
        return self.one(f.FrameType.MESSAGE_ACK)

    def nothing(self) -> None:
        assert self.inbox == []


def is_kind(packet: Any, kind: type | f.FrameType) -> bool:
    return (
        packet.type == kind
        if isinstance(kind, f.FrameType) and hasattr(packet, "type")
        else (isinstance(kind, type) and isinstance(packet, kind))
    )


class World:
    """A GatewayCore with its clock, and ends connected to it."""

    peer_class: type[Peer] = Peer

    def __init__(self, wall: float = WALL, **options: Any) -> None:
        self.clock = Clock()
        self.wall = wall
        self.core = GatewayCore(self.clock, wall_clock=self.wall_now, **options)
        self.peers: list[Peer] = []
        self._ports = itertools.count(40_001)

    def wall_now(self) -> float:
        return self.wall + float(self.clock.seconds())

    def text(self, seconds: float) -> str:
        """A time of so many seconds from now, as text."""
        return format_time(self.wall_now() + seconds)

    def advance(self, seconds: float = 0.0, step: float = 1.0) -> None:
        """Let time pass in steps, zero-delay calls included."""
        left = seconds
        self.clock.advance(0)
        while left > 0:
            self.clock.advance(min(step, left))
            left -= step
        for _ in range(4):
            self.clock.advance(0)

    def connect(self, factory: Any, host: str = "127.0.0.1") -> Peer:
        kind = IPv6Address if ":" in host else IPv4Address
        address = kind("TCP", host, next(self._ports))
        protocol = factory.buildProtocol(address)
        assert protocol is not None, "turned away"
        peer: Peer
        transport = FakeTransport(self.clock, address, lambda data: peer.got(data))
        peer = self.peer_class(self, protocol, transport)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.peers.append(peer)
        return peer

    def edge(self, edge_id: int = 0, meta: bytes = b"", host: str = "127.0.0.1", **declared: int) -> Peer:
        """An accepted edge; with an id it brings that one itself."""
        peer = self.connect(self.core.edges, host)
        peer.conn(meta, edge_id, acquire=not edge_id, **declared)
        return self._accepted(peer)

    def service(
        self,
        name: str = "svc",
        topics: tuple[str, ...] = (),
        methods: tuple[bytes, ...] = (),
        service_id: int = 0,
        **declared: int,
    ) -> Peer:
        """An accepted service with its methods registered."""
        peer = self.connect(self.core.services)
        listed = ",".join(f'"{topic}"' for topic in topics)
        peer.conn(f'{{"service":"{name}","topics":[{listed}]}}'.encode(), service_id, **declared)
        self._accepted(peer)
        for method in methods:
            peer.register(method)
        peer.take()
        return peer

    def _accepted(self, peer: Peer) -> Peer:
        ack = peer.one(p.ConnAck)
        assert not ack.data.error, ack.data.error
        return peer

    def stream(self, opener: Peer, acceptor: Peer, peer: str, meta: bytes = b"") -> tuple[int, int]:
        """Open a stream; return its session id on either leg. The hold-back of the opener's side is over."""
        negotiated = opener.open(peer, meta)
        far = acceptor.ack_session(acceptor.one(p.Session))
        ack = opener.one(p.SessionAck)
        assert ack.negotiate_id == negotiated
        self.advance(0.05)
        return ack.session_id, far

    # -- what is left -------------------------------------------------------------------------------------

    def tables(self) -> dict[str, int]:
        """Size of every table that must be empty when everybody is gone."""
        core = self.core
        repository, exchange = core.repository, core.exchange
        legs = [peer.leg for peer in self.peers if hasattr(peer.protocol, "leg")]
        return {
            "edges": len(repository.edges),
            "services": len(repository.services),
            "by_name": len(repository.by_name),
            "by_method": len(repository.by_method),
            "by_topic": len(repository.by_topic),
            "edge_methods": repository.edge_methods,
            "pending": exchange.pending_count,
            "alarms": len(core.alarms),
            "connections": len(core.connections()),
            "leg.outgoing": sum(len(leg.outgoing) for leg in legs),
            "leg.pending": sum(len(leg.pending) for leg in legs),
            "leg.streams": sum(len(leg.streams) for leg in legs),
            "leg.waiting_bytes": sum(leg.waiting_bytes for leg in legs),
            "leg.held_bytes": sum(abs(leg.held_bytes) for leg in legs),
            "leg.held_back": sum(abs(leg.held_back) for leg in legs),
            "leg.queued": sum(abs(leg.queued) for leg in legs),
            "doors": len(exchange.doors.by_leg) + len(exchange.doors.lanes) + len(exchange.doors.raw_lanes),
            "holds": len(exchange.pressure.holds),
            "windows": sum(
                window.out for leg in legs for window in (leg.message_window, leg.call_window) if window is not None
            ),
            "budget": exchange.budget.total,
            "budget.connections": exchange.budget.connections,
            "leg.opening": sum(len(leg.opening) for leg in legs),
            "raw_bytes": core.exchange.doors.raw_bytes,
            "leg.congesting": sum(len(leg.congesting) for leg in legs),
            "sessions": sum(len(leg.connection.sessions.live) for leg in legs),
            "opening": sum(len(leg.connection.sessions.opening) for leg in legs),
            "unsent": sum(peer.protocol.unsent for peer in self.peers),
        }

    def check_empty(self) -> None:
        left = {name: size for name, size in self.tables().items() if size}
        assert left == {}, left

    def everybody_leaves(self) -> None:
        for peer in self.peers:
            peer.cut()
        self.advance(0.1)
