"""What the gateway sends on when a peer writes odd bodies: on each leg, for each kind of frame that carries one."""

from collections.abc import Iterable, Iterator

from frontier_tx.wire import frame as f
from frontier_tx.wire.body import UNFIT, decode_session, read_message
from frontier_tx.wire.errors import IllegalPacket
from tests import packets as p
from tests.switch.world import Peer, World

EDGE = 5


def readable(bodies: Iterable[bytes], kind: str) -> Iterator[bytes]:
    """Those for which their sender is not closed."""
    for body in bodies:
        try:
            data = read_message(body) if kind == "message" else decode_session(body)
        except IllegalPacket:
            continue
        if data.error is not UNFIT:
            yield body


class Forwarding:
    """An edge and a service at a gateway, and what each of them got of the other's odd bodies."""

    def __init__(self) -> None:
        self.world = World()
        self.edge = self.world.edge(EDGE)
        self.service = self.world.service("svc", ("t",), (b"m",), 70)

    def bodies(self, odd: Iterable[bytes]) -> Iterator[tuple[str, bytes, bytes]]:
        """Yield the kind of frame, the body that went in, and the one that came out."""
        for body in readable(odd, "message"):
            yield from self._answers(self.service, self.edge, body)
            yield from self._answers(self.edge, self.service, body)
            yield from self._questions(body)
            # So slowly that nobody has to wait for how odd they are.
            self.world.advance(1)

    def sessions(self, odd: Iterable[bytes]) -> Iterator[tuple[str, bytes, bytes]]:
        """The same for the bodies of Session frames."""
        for body in readable(odd, "session"):
            for opener, other in ((self.edge, self.service), (self.service, self.edge)):
                number = opener.next_id()
                fixed = p.SESSION_FIXED.pack(0, p.ACQUIRE_SESSION_ID, number)
                opener.raw(f.pack(f.SESSION, number, fixed + body))
                yield from self._came(other, f.SESSION, body, p.SESSION_FIXED.size)
                for request in other.take(p.Session):
                    other.ack_session(request)
                yield from self._came(opener, f.SESSION_ACK, body, p.SESSION_ACK_FIXED.size)
            self.world.advance(1)
            self.edge.take()
            self.service.take()

    def _answers(self, asker: Peer, answerer: Peer, body: bytes) -> Iterator[tuple[str, bytes, bytes]]:
        custom = EDGE.to_bytes(8) if asker is self.service else b""
        asker.call(b"m", custom=custom)
        asker.publish(b"v", topic="t", custom=custom)
        for question, kind in ((answerer.request(), f.RESPONSE), (answerer.message(), f.MESSAGE_ACK)):
            answerer.raw(f.pack_of_session(kind, question.packet_id, 1, body))
            yield from self._came(asker, kind, body)

    def _questions(self, body: bytes) -> Iterator[tuple[str, bytes, bytes]]:
        for kind, answer in ((f.REQUEST, f.RESPONSE), (f.MESSAGE, f.MESSAGE_ACK)):
            for asker, other in ((self.edge, self.service), (self.service, self.edge)):
                asker.raw(f.pack_of_session(kind, asker.next_id(), 1, body))
                yield from self._came(other, kind, body)
                for question in other.take(f.FrameType(kind)):
                    other.respond(question)
                yield from self._came(asker, answer, body)

    def _came(self, peer: Peer, kind: int, body: bytes, start: int = 0) -> Iterator[tuple[str, bytes, bytes]]:
        self.world.advance(0)
        assert not self.edge.closed and not self.service.closed
        for frame in peer.frames:
            if frame.type == kind:
                yield f.FrameType(kind).name, body, frame.body[start:]
        peer.frames.clear()


def with_route(body: bytes, number: int) -> bytes:
    """The body again with what routes it in front, where that is JSON."""
    if not body.startswith(b'{"') or number % 2:
        return body
    route = b'{"topic":"t","key":"bQ==","custom":"dQAAAAAAAAAF",'
    return route + body[1:]
