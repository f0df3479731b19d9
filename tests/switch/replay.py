"""Plays a recorded conversation with a gateway: what its ends sent is sent, what they got must come.

Ids that the gateway makes for packets and sessions are mapped as they come up; ids of edges and services are those of
the recording, handed out by an allocator that knows it. A world supplies connections and time, so that the same
conversation runs in memory and over sockets.
"""

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol

from zope.interface import implementer

from frontier_tx.switch.presence import IIDAllocator
from frontier_tx.wire import frame as f
from frontier_tx.wire.times import UNSET, parse_time
from tests import packets as p

PATH = Path(__file__).parents[1] / "vectors" / "gateway-conversations.json"
SCENARIOS: dict[str, dict[str, Any]] = {
    scenario["name"]: scenario for scenario in json.loads(PATH.read_text())["scenarios"]
}
_DEADLINE = re.compile(rb'("deadline":")[^"]*(",)')
#: What must not come behind a goodbye of its session.
_ORDERED = (f.MESSAGE, f.REQUEST, f.STREAM, f.REQUEST_CANCEL)


class Line(Protocol):
    """One end of a connection as the player needs it."""

    inbox: list[Any]
    frames: list[f.Frame]
    address: str

    @property
    def closed(self) -> bool: ...

    def raw(self, data: bytes) -> None: ...

    def cut(self) -> None: ...


class Surroundings(Protocol):
    """What a conversation plays in."""

    def line(self, edge: bool) -> Line: ...

    def until(self, seconds: float) -> None: ...

    def wait(self) -> bool: ...


@implementer(IIDAllocator)
class RecordedIds:
    """Hands out the id that the recording has next."""

    def __init__(self) -> None:
        self.next = 0

    def allocate(self, in_use: Any = ()) -> int:
        assert self.next
        assert self.next not in in_use
        return self.next


def packet_of(record: dict[str, Any]) -> tuple[f.Frame, Any]:
    (frame,) = f.FrameReader(1 << 30).feed(bytes.fromhex(record["hex"]))
    return frame, p.decode(frame)


def epoch(scenario: dict[str, Any]) -> float:
    """Unix time of the start: the gateway's deadlines lie thirty seconds after the moment they were written."""
    for record in scenario["frames"]:
        if record.get("to_gateway") is False:
            data = getattr(packet_of(record)[1], "data", None)
            when = parse_time(getattr(data, "deadline", UNSET))
            if when is not None:
                return when - 30.0 - float(record["t"])
    return 1_790_000_000.0


class Player:
    """Plays one conversation.

    :param ids: the allocator that the gateway was given.
    :param in_time: whether the recording's times count.
    """

    def __init__(self, scenario: dict[str, Any], world: Surroundings, ids: RecordedIds, in_time: bool = True) -> None:
        self.records: list[dict[str, Any]] = list(scenario["frames"])
        self.world = world
        self.ids = ids
        self.in_time = in_time
        self.epoch = epoch(scenario)
        self.lines: dict[str, Line] = {}
        self.maps: dict[str, dict[int, int]] = {}
        self.taken: dict[str, list[tuple[f.Frame, Any]]] = {}
        self._session_meta = b""

    def play(self) -> None:
        """Play everything; whatever came unasked stays in the inboxes, see ``rest``."""
        while self.records:
            self.step()

    def play_to(self, event: str) -> None:
        """Play up to an event, which is the next to play."""
        while self.records[0].get("event") != event:
            self.step()

    def skip_to(self, event: str) -> None:
        """Leave out what the recorded gateway did otherwise."""
        while self.records[0].get("event") != event:
            self.records.pop(0)

    def step(self) -> None:
        """Play one frame or event."""
        record = self.records.pop(0)
        if self.in_time:
            self.world.until(float(record["t"]))
        if "event" in record:
            self._event(record["event"])
        elif record["to_gateway"]:
            self._send(record)
        else:
            self._expect(record)

    def rest(self) -> dict[str, list[Any]]:
        """What came and was not in the recording."""
        return {leg: line.inbox for leg, line in self.lines.items() if line.inbox}

    def _event(self, text: str) -> None:
        leg, _, what = text.partition(": ")
        if what == "socket closed":
            self.lines[leg].cut()
            self.world.wait()
        elif what == "socket ended by gateway":
            while not self.lines[leg].closed:
                assert self.world.wait(), f"{leg} was not closed"

    # -- sending ------------------------------------------------------------------------------------------

    def _send(self, record: dict[str, Any]) -> None:
        leg = record["leg"]
        frame, packet = packet_of(record)
        if frame.type == f.CONN:
            self.ids.next = self._next_id(leg)
            self.lines[leg] = self.world.line(leg.startswith("edge"))
            self.maps[leg] = {}
            self.taken[leg] = []
        if frame.type == f.SESSION:
            self._session_meta = packet.data.meta
        known = self.maps[leg]
        changed = {
            field.name: known.get(getattr(packet, field.name), getattr(packet, field.name))
            for field in fields(packet)
            if field.name in ("packet_id", "session_id", "negotiate_id")
        }
        self.lines[leg].raw(p.encode(replace(packet, **changed)))

    def _next_id(self, leg: str) -> int:
        for record in self.records:
            if record.get("leg") == leg and record["type"] == "ConnAck":
                return int(packet_of(record)[1].client_id)
        return 0

    # -- expecting ----------------------------------------------------------------------------------------

    def _expect(self, record: dict[str, Any]) -> None:
        leg = record["leg"]
        frame, packet = packet_of(record)
        line = self.lines[leg]
        while (index := self._find(leg, frame)) is None:
            assert self.world.wait(), f"{leg}: no {f.FrameType(frame.type).name}, but {line.inbox}"
        came, came_packet = line.frames.pop(index), line.inbox.pop(index)
        earlier = [seen for seen, _ in self.taken[leg]] + line.frames[:index]
        if frame.type in _ORDERED:
            assert not any(x.type == f.DISMISS and x.session_id == came.session_id for x in earlier)
        self.taken[leg].append((came, came_packet))
        self._compare(leg, frame, packet, came, came_packet)

    def _find(self, leg: str, frame: f.Frame) -> int | None:
        """The first frame of this type on this session."""
        session = self.maps[leg].get(frame.session_id, frame.session_id)
        for index, came in enumerate(self.lines[leg].frames):
            if came.type == frame.type and came.session_id == session:
                return index
        return None

    def _compare(self, leg: str, frame: f.Frame, packet: Any, came: f.Frame, came_packet: Any) -> None:
        known = self.maps[leg]
        for name in ("packet_id", "session_id", "negotiate_id"):
            if hasattr(packet, name):
                recorded, actual = getattr(packet, name), getattr(came_packet, name)
                assert known.setdefault(recorded, actual) == actual or recorded == actual, (leg, name, packet)
        if isinstance(packet, p.Session):
            # The one thing that is sent on beyond the recording: the opener's meta.
            assert came_packet.data.meta == self._session_meta
            assert (came_packet.data.peer, came_packet.flags) == ("", packet.flags)
            return
        if isinstance(packet, p.Message):
            self._compare_deadlines(packet, came_packet)
            body, came_body = (_DEADLINE.sub(rb"\1\2", x.body) for x in (frame, came))
            if packet.data.key in (b"edge_online", b"edge_offline") and packet.data.value:
                body = came_body = b""
                event, came_event = json.loads(packet.data.value), json.loads(came_packet.data.value)
                address = came_event.pop("Str")
                assert address in {x.address for x in self.lines.values()}
                del event["Str"]
                assert event == came_event
                assert list(came_event) == ["EdgeID", "Meta", "Net"]
            assert came_body == body
        elif isinstance(packet, p.ConnAck):
            assert (came_packet.code, came_packet.client_id, came_packet.data) == (
                packet.code, packet.client_id, packet.data,
            )  # fmt: skip
        elif isinstance(packet, p.SessionAck):
            assert came_packet.data == packet.data
        else:
            assert came.body == frame.body

    def _compare_deadlines(self, packet: Any, came_packet: Any) -> None:
        assert came_packet.data.context == packet.data.context
        expected, actual = parse_time(packet.data.deadline), parse_time(came_packet.data.deadline)
        if expected is None or actual is None:
            assert expected == actual
        elif packet.data.key in (b"get_edge_id", b"edge_online"):
            # The edge waits ten seconds for its ConnAck: both together must be done before that.
            assert not self.in_time or expected - 30.0 < actual <= expected - 20.9
        elif self.in_time:
            assert abs(expected - actual) < 1.5
