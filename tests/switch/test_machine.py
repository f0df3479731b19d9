"""Any order of everything that edges, services and the network can do, against what the gateway promises."""

import json
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.logger import LogLevel, globalLogPublisher

from frontier_tx.gateway.protocols import LegProtocol
from frontier_tx.switch.lanes import FLOW_BYTES, FRAME_BYTES, RAW_LANE_BYTES
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.opening import SESSION_BYTES
from frontier_tx.switch.settings import Settings
from frontier_tx.switch.window import OVERHEAD
from frontier_tx.wire import frame as f
from tests import packets as p

from .world import Context, Peer, World

EDGE_IDS = (1, 2, 3)
NAMES = ("a", "b")
TOPICS = ("t1", "t2", "*")
METHODS = (b"m1", b"m2")
CONTROL = (b"get_edge_id", b"edge_online", b"edge_offline")
ENDS = ("cut", "goodbye", "give up session 1", "garbage", "kick", "rudely")
GARBAGE = (b"\1\x99" + b"\0" * 12, b"\1\x71" + b"\0" * 12, b"\1\1" * 30)
ANSWERS = (f.RESPONSE, f.MESSAGE_ACK)

END, FILLING = b";", b"."

index = st.integers(0, 1000)
#: Bytes beside what is needed; with the settings of the machine the largest ones are many turns.
sizes = st.sampled_from((0, 0, 60, 3000))


class Actor(Peer):
    """A peer that keeps count of what it asked, and of what it is asked."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: Counter[tuple[int, int, int]] = Counter()
        self.to_answer: list[p.Message] = []
        self.answered: list[p.Message] = []
        self.to_accept: list[p.Session] = []
        self.sessions: set[int] = set()
        self.sequence: Counter[int] = Counter()
        self.seen: dict[tuple[str, str, str], int] = {}
        self.rest: dict[int, bytes] = {}
        self.accepted = False
        self.opening: set[int] = set()
        self.service = False

    def got(self, data: bytes) -> None:
        super().got(data)
        for packet in self.take():
            self._count(packet)

    def _count(self, packet: Any) -> None:
        match packet:
            case p.ConnAck():
                self.accepted = not packet.data.error
            case p.Message(type=kind) if kind in ANSWERS:
                key = (packet.session_id, packet.packet_id, kind)
                assert self.asked[key], f"an answer that nobody waits for: {packet}"
                self.asked[key] -= 1
            case p.Message():
                self.to_answer.append(packet)
                if packet.type == f.MESSAGE:
                    self._in_order(packet.data.payload, gaps=True)
            case p.Session():
                self.to_accept.append(packet)
            case p.SessionAck():
                assert not packet.data.error
                self.opening.remove(packet.negotiate_id)
                self.sessions.add(packet.session_id)
            case p.Stream():
                self._got_bytes(packet.session_id, packet.data)
            case p.Dismissal():
                self.sessions.discard(packet.session_id)

    def _got_bytes(self, session: int, data: bytes) -> None:
        """Blocks of a stream may come joined and in pieces."""
        *whole, self.rest[session] = (self.rest.get(session, b"") + data.replace(FILLING, b"")).split(END)
        for payload in whole:
            self._in_order(payload + END, gaps=False)

    def _in_order(self, payload: bytes, gaps: bool) -> None:
        sender, session, number = payload.partition(END)[0].decode().split(":")
        key = (sender, session, "message" if gaps else "bytes")
        before = self.seen.get(key, 0)
        assert int(number) > before if gaps else int(number) == before + 1
        self.seen[key] = int(number)

    def payload(self, session: int, raw: bool = False, size: int = 0) -> bytes:
        """Content that tells its place in the order of its sender, and so many bytes more."""
        counter = -session if raw else session
        self.sequence[counter] += 1
        return f"{id(self)}:{session}:{self.sequence[counter]}".encode() + END + FILLING * size

    def expects(self, kind: int, packet_id: int, session: int) -> None:
        self.asked[(session, packet_id, f.RESPONSE if kind == f.REQUEST else f.MESSAGE_ACK)] += 1

    @property
    def alive(self) -> bool:
        """Whether it can still ask on session 1."""
        return self.accepted and not self.closed and self.leg.online and not self.dismissed and not self.goodbye


class Busy(World):
    peer_class = Actor


class Gateway(RuleBasedStateMachine):
    """See the module. With ``controlled`` a service that stays hands out ids and hears of edges."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        globalLogPublisher.addObserver(self._log)
        self.world = Busy()
        self.control: Actor | None = None
        #: Per address of an edge: what the control service answered to edge_online, and how many edge_offline came.
        self.online: Counter[str] = Counter()
        self.offline: Counter[str] = Counter()
        self.was_accepted: set[str] = set()

    def _log(self, event: Any) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical) or "log_failure" in event:
            self.errors.append(str(event.get("log_failure") or event))

    # -- who is there -------------------------------------------------------------------------------------

    @property
    def actors(self) -> list[Actor]:
        return [peer for peer in self.world.peers if isinstance(peer, Actor) and not peer.closed]

    @property
    def edges(self) -> list[Actor]:
        return [x for x in self.actors if not x.service]

    def pick(self, actors: list[Actor], number: int) -> Actor | None:
        return actors[number % len(actors)] if actors else None

    def pick_alive(self, number: int) -> Actor | None:
        return self.pick([x for x in self.actors if x.alive and x is not self.control], number)

    @initialize(controlled=st.booleans(), window=st.sampled_from((1, 2, 64)), high=st.sampled_from((100, 5000)))
    def begin(self, controlled: bool, window: int, high: int) -> None:
        self.world = Busy(
            settings=Settings(
                write_high_bytes=high,
                edge_window=window,
                service_window=window,
                edge_calls=window,
                service_calls=window,
            )
        )
        if controlled:
            self.control = self._service("control", (), CONTROL)
        self._service("a", ("t1",), (b"m1",))
        self._service("b", ("t2", "*"), METHODS)
        for edge_id in EDGE_IDS:
            self.edge_comes(edge_id, False)
            self._answer_control("yes", 0)

    def _service(self, name: str, topics: tuple[str, ...], methods: tuple[bytes, ...], service_id: int = 0) -> Actor:
        actor = self.world.connect(self.world.core.services)
        assert isinstance(actor, Actor)
        actor.service = True
        actor.conn(json.dumps({"service": name, "topics": topics}).encode(), service_id)
        assert actor.accepted
        for method in methods:
            actor.register(method)
        return actor

    # -- coming and going ---------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(NAMES),
        topics=st.sets(st.sampled_from(TOPICS)),
        methods=st.sets(st.sampled_from(METHODS)),
        service_id=st.sampled_from((0, 0, 7, 8)),
    )
    def service_comes(self, name: str, topics: set[str], methods: set[bytes], service_id: int) -> None:
        if len(self.actors) < 12:
            self._service(name, tuple(sorted(topics)), tuple(sorted(methods)), service_id)

    @rule(edge_id=st.sampled_from((0, *EDGE_IDS)), acquire=st.booleans())
    def edge_comes(self, edge_id: int, acquire: bool) -> None:
        if len(self.actors) < 12:
            self.world.connect(self.world.core.edges).conn(b"meta", edge_id, acquire)

    @rule(number=index)
    def silent_connection(self, number: int) -> None:
        if len(self.actors) < 12:
            self.world.connect(self.world.core.edges if number % 2 else self.world.core.services)

    @rule(number=index, how=st.sampled_from(ENDS))
    def somebody_ends(self, number: int, how: str) -> None:
        alive, anybody = self.pick_alive(number), self.pick([x for x in self.actors if x is not self.control], number)
        if how == "kick" and alive and not alive.service:
            self.world.core.kick_edge(alive.id)
        elif how == "goodbye" and alive:
            alive.disconnect()
        elif how == "give up session 1" and alive:
            alive.dismiss()
        elif how == "rudely" and alive:
            alive.polite = False
        elif how == "cut" and anybody:
            anybody.cut()
        elif how == "garbage" and anybody:
            anybody.raw(GARBAGE[number % len(GARBAGE)])

    # -- asking -------------------------------------------------------------------------------------------

    def _somewhere(self, whom: int) -> int:
        """The id of an edge, mostly of one that is there."""
        there = sorted(self.world.core.repository.edges)
        return there[whom % len(there)] if there and whom % 7 else 99

    def _ask(
        self,
        actor: Actor,
        kind: int,
        session: int,
        whom: int,
        deadline: float | None,
        packet_id: int | None = None,
        size: int = 0,
    ) -> int:
        fields: dict[str, Any] = {}
        if deadline is not None:
            fields["context"] = Context(self.world.text(deadline))
        if actor.service and session == 1:
            edge = self._somewhere(whom)
            fields["custom"] = b"user" + edge.to_bytes(8) if whom % 11 else b"x"
        number = packet_id or actor.next_id()
        actor.expects(kind, number, session)
        if kind == f.REQUEST:
            method = (*METHODS, b"nobody", b"get_edge_id")[whom % 4]
            actor.call(method, b"v" + FILLING * size, number, session, **fields)
        else:
            actor.publish(
                actor.payload(session, size=size), number, session, topic=("t1", "t2", "t3")[whom % 3], **fields
            )
        return number

    @rule(
        number=index,
        kind=st.sampled_from((f.REQUEST, f.MESSAGE)),
        whom=index,
        deadline=st.sampled_from((None, None, None, -1.0, 2.0, 60.0)),
        times=st.integers(1, 12),
        size=sizes,
    )
    def ask(self, number: int, kind: int, whom: int, deadline: float | None, times: int, size: int) -> None:
        for _ in range(times):
            actor = self.pick_alive(number)
            if actor:
                self._ask(actor, kind, 1, whom, deadline, size=size)

    @rule(number=index, kind=st.sampled_from((f.REQUEST, f.MESSAGE)), whom=index)
    def ask_twice_with_one_id(self, number: int, kind: int, whom: int) -> None:
        actor = self.pick_alive(number)
        if actor:
            first = self._ask(actor, kind, 1, whom, None)
            self._ask(actor, kind, 1, whom, None, first)

    @rule(number=index, which=index, reason=st.sampled_from((p.CANCELED, p.DEADLINE_EXCEEDED)))
    def cancel(self, number: int, which: int, reason: int) -> None:
        actor = self.pick_alive(number)
        waiting = [key for key, count in actor.asked.items() if count] if actor else []
        if actor and waiting:
            session, packet_id, _ = waiting[which % len(waiting)]
            actor.cancel(packet_id, session, reason)

    @rule(
        number=index,
        which=index,
        error=st.sampled_from(("", "", "its own error")),
        everything=st.booleans(),
        size=sizes,
    )
    def answer(self, number: int, which: int, error: str, everything: bool, size: int) -> None:
        actor = self.pick([x for x in self.actors if x.to_answer and x is not self.control], number)
        while actor and actor.to_answer:
            request = actor.to_answer.pop(which % len(actor.to_answer))
            actor.answered.append(request)
            actor.respond(request, b"r" + FILLING * size, error)
            if not everything:
                break

    @rule(number=index, which=index)
    def answer_again(self, number: int, which: int) -> None:
        actor = self.pick([x for x in self.actors if x.answered], number)
        if actor:
            actor.respond(actor.answered[which % len(actor.answered)], b"again")

    @rule(number=index, which=index)
    def answer_for_another(self, number: int, which: int) -> None:
        actor = self.pick_alive(number)
        other = self.pick([x for x in self.actors if x.to_answer and x is not actor], which)
        if actor and other:
            actor.respond(other.to_answer[0], b"foreign")

    @rule(number=index, method=st.sampled_from(METHODS))
    def register(self, number: int, method: bytes) -> None:
        actor = self.pick_alive(number)
        if actor:
            actor.register(method)

    # -- streams ------------------------------------------------------------------------------------------

    @rule(number=index, whom=index, size=sizes)
    def open(self, number: int, whom: int, size: int) -> None:
        actor = self.pick_alive(number)
        if actor:
            names = (*NAMES, *NAMES, "nobody", "")
            number = actor.next_id()
            actor.opening.add(number)
            actor.open(str(self._somewhere(whom)) if actor.service else names[whom % 6], bytes(size), number)

    @rule(number=index, error=st.sampled_from(("", "", "", "operation on closed multiplexer")))
    def accept(self, number: int, error: str) -> None:
        actor = self.pick([x for x in self.actors if x.to_accept and x.alive], number)
        while actor and actor.to_accept:
            session = actor.ack_session(actor.to_accept.pop(0), error)
            if not error and session in actor.leg.connection.sessions.live:
                actor.sessions.add(session)

    def _with_stream(self, number: int) -> tuple[Actor, int] | None:
        found = [
            (x, s)
            for x in self.actors
            if x.alive
            for s in sorted(x.sessions)
            if s not in x.dismissed and s in x.leg.streams
        ]
        return found[number % len(found)] if found else None

    @rule(number=index, times=st.integers(1, 5), size=sizes)
    def bytes_on_a_stream(self, number: int, times: int, size: int) -> None:
        found = self._with_stream(number)
        for _ in range(times if found else 0):
            assert found
            actor, session = found
            actor.stream(session, actor.payload(session, raw=True, size=size))

    @rule(
        number=index,
        kind=st.sampled_from((f.REQUEST, f.MESSAGE)),
        deadline=st.sampled_from((None, None, 2.0)),
        times=st.integers(1, 10),
        size=sizes,
    )
    def ask_on_a_stream(self, number: int, kind: int, deadline: float | None, times: int, size: int) -> None:
        found = self._with_stream(number)
        for _ in range(times if found else 0):
            assert found
            actor, session = found
            self._ask(actor, kind, session, 0, deadline, size=size)

    @rule(number=index)
    def close_a_stream(self, number: int) -> None:
        found = self._with_stream(number)
        if found:
            actor, session = found
            actor.sessions.discard(session)
            actor.dismiss(session)

    @rule(number=index)
    def take_nothing(self, number: int) -> None:
        actor = self.pick_alive(number)
        if actor:
            actor.transport.block()

    @rule(number=index)
    def take_a_part(self, number: int) -> None:
        actor = self.pick([x for x in self.actors if x.transport.blocked], number)
        if actor:
            actor.transport.unblock_once()

    @rule()
    def take_again(self) -> None:
        for actor in self.actors:
            if actor.transport.blocked:
                actor.transport.unblock()

    # -- control functions --------------------------------------------------------------------------------

    @precondition(lambda self: self.control is not None and self.control.to_answer)
    @rule(which=index, how=st.sampled_from(("yes", "yes", "yes", "no", "odd")), edge_id=st.sampled_from((0, *EDGE_IDS)))
    def control_answers(self, which: int, how: str, edge_id: int) -> None:
        for _ in range(1 + which % 3):
            self._answer_control(how, edge_id, which)

    def _answer_control(self, how: str, edge_id: int, which: int = 0) -> None:
        self._hear_of_edges()
        if self.control is None or not self.control.to_answer:
            return
        asked = self.control.to_answer.pop(which % len(self.control.to_answer))
        method, error = asked.data.key, "not today" if how == "no" else ""
        value = edge_id.to_bytes(8) if method == b"get_edge_id" else b""
        if method == b"edge_online" and not error and asked.packet_id in self.control.leg.pending:
            self.online[json.loads(asked.data.payload)["Str"]] += 1
        self.control.respond(asked, b"odd" if how == "odd" else value, error)

    def _hear_of_edges(self) -> None:
        # An answer makes room for the next one, which comes at once.
        while self.control is not None and (asked := self._of_an_end(self.control)) is not None:
            self.control.to_answer.remove(asked)
            self.offline[json.loads(asked.data.payload)["Str"]] += 1
            self.control.respond(asked)

    @staticmethod
    def _of_an_end(control: Actor) -> p.Message | None:
        return next((x for x in control.to_answer if x.data.key == b"edge_offline"), None)

    # -- time ---------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((0.0, 0.02, 0.02, 0.5, 3.0, 10.0)))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    def pass_time(self, seconds: float, step: float = 8.0) -> None:
        """Everybody who is polite sends heartbeats."""
        while seconds >= 0:
            for actor in self.actors:
                if actor.alive and actor.polite:
                    actor.send_bare(f.FrameType.HEARTBEAT)
            self.world.advance(min(step, seconds))
            seconds -= step

    # -- what must hold -----------------------------------------------------------------------------------

    @invariant()
    def nothing_failed_inside(self) -> None:
        assert self.errors == []

    @invariant()
    def tables_agree(self) -> None:
        exchange, repository = self.world.core.exchange, self.world.core.repository
        legs = [peer.leg for peer in self.world.peers]
        assert exchange.pending_count == sum(len(leg.pending) for leg in legs)
        for leg in legs:
            assert all(x.source is leg for x in leg.outgoing.values())
            assert all(x.target is leg for x in leg.pending.values())
            assert all(end.other is not None or end.queued for end in leg.streams.values())
            assert leg.held_back == sum(x.frame is not None for x in leg.outgoing.values())
            self._window_is_right(leg)
        assert exchange.budget.total == sum(leg.held_bytes for leg in legs)
        waiting = sum(leg.waiting_bytes for leg in legs) + exchange.doors.raw_bytes
        ends = [end for leg in legs for end in (*leg.streams.values(), *leg.opening.values())]
        waiting += sum(SESSION_BYTES // 2 for end in ends if end.payer is not None)
        held = sum(peer.protocol.connection.reader.held for peer in self.world.peers)
        unsent = sum(peer.protocol.unsent + peer.protocol.handed for peer in self.world.peers)
        assert waiting <= exchange.budget.total <= waiting + held + unsent
        for edge_id, leg in repository.edges.items():
            assert leg.online and leg.id == edge_id
        assert repository.edge_methods == sum(len(leg.methods) for leg in repository.edges.values())
        for actor in self.edges:
            if actor.accepted:
                self.was_accepted.add(actor.leg.address)
        self._hear_of_edges()

    def _window_is_right(self, leg: Leg) -> None:
        """What is out is counted, what waits does so for a reason, and its bytes are counted to the last one."""
        waited: Counter[Leg] = Counter()
        for request, window in ((True, leg.call_window), (False, leg.message_window)):
            mine = [x for x in leg.pending.values() if x.request is request]
            if window is None:
                assert mine == []
                continue
            waiting = [x for x in mine if x.frame is not None]
            assert window.out == len(mine) - len(waiting)
            assert bool(window.waiting) == bool(window.tick)
            queues = {queue for each in window.waiting.values() for queue in each.values()}
            assert {x.queue for x in waiting} >= queues
            assert not queues or window.out >= window.room
            for x in waiting:
                assert x.queue is not None and x.frame is not None and x in x.queue.items
                waited[x.sender] += len(x.frame) + OVERHEAD + FRAME_BYTES
        self._door_is_right(leg, waited)

    def _door_is_right(self, leg: Leg, waited: Counter[Leg]) -> None:
        doors = self.world.core.exchange.doors
        door = doors.by_leg.get(leg)
        if door is None:
            assert leg.queued == leg.waiting_bytes == 0
            assert not waited
            return
        ends = list(leg.streams.values())
        queued: Counter[Leg] = Counter()
        lanes: Counter[Leg] = Counter()
        for lane in [flow.lane for flow in door.flows.values()] + [doors.lanes.get(end) for end in ends]:
            if lane is not None:
                assert lane
                queued[lane.flow.sender] += lane.size
                lanes[lane.flow.sender] += lane.size
        for end in ends:
            raw = doors.raw_lanes.get(end)
            assert bool(raw) == bool(end.raw_bytes)
            if raw is None:
                continue
            assert end.raw_ready == (raw in raw.flow.ready)
            # Raw bytes are paid for, and keep nothing else from waiting.
            lanes[raw.flow.sender] += RAW_LANE_BYTES
            queued[raw.flow.sender] += end.raw_bytes if end.raw_ready else 0
        for sender, flow in door.flows.items():
            assert flow.size == FLOW_BYTES + lanes[sender] + waited[sender]
            assert (flow in door.turn) == bool(flow.ready) == bool(queued[sender])
        assert set(waited) | set(lanes) <= set(door.flows)
        assert leg.queued == queued.total()
        assert leg.waiting_bytes == sum(flow.size for flow in door.flows.values())
        if leg.queued:
            assert isinstance(leg.transport, LegProtocol)
            assert leg.transport.unsent + leg.transport.handed + leg.connection.sessions.held_bytes > 0

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            globalLogPublisher.removeObserver(self._log)

    def _end(self) -> None:
        self.take_again()
        # What was held back comes out first: its time begins then.
        self.pass_time(0.1)
        self.pass_time(31.0)
        for actor in self.actors:
            if actor.alive and actor.polite:
                unanswered = [
                    key for key, count in actor.asked.items() if count and (key[0] == 1 or key[0] in actor.leg.streams)
                ]
                assert unanswered == []
                assert actor.opening == set()
        for actor in self.actors:
            if actor is not self.control:
                actor.cut()
        self.pass_time(10.0)
        self._hear_of_edges()
        if self.control is not None:
            for address in self.was_accepted:
                assert self.online[address] == 1, address
            assert self.offline == dict.fromkeys(self.online, 1)
            self.control.cut()
        self.pass_time(40.0)
        assert self.errors == []
        self.world.check_empty()


TestGateway = Gateway.TestCase
TestGateway.settings = settings(
    max_examples=120,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
