"""The way out of the switch: senders to one leg are served in turn (docs/gateway.md, "Order and back-pressure").

A receiver that reads what it is sent has no queue here: its frames go straight to its connection. While the connection
holds more than it is fed at once, frames wait in a ``Flow`` for each sender. A flow has a lane for session 1 and, for
each stream, one for frames and one for raw bytes. Flows are served in turn by bytes, the lanes of a flow frame by
frame, so what one sender sends delays nobody else's for longer than a turn.

How much of a sender may wait depends on what waits already: as much as is still free. So one sender alone has half of
what there is, and who has most is refused first.
"""

from frontier_tx.switch.budget import LIGHT, Budget
from frontier_tx.switch.lanes import FLOW_BYTES, LANE_BYTES, RAW_LANE_BYTES, Door, Flow, Lane, RawLane
from frontier_tx.switch.legs import Leg, StreamEnd
from frontier_tx.switch.pressure import Pressure
from frontier_tx.switch.raw import count, when_taken
from frontier_tx.switch.settings import Counters, Settings
from frontier_tx.timers import Timers
from frontier_tx.wire.frame import SESSION_HEADER, STREAM, VERSION

#: Bytes that a sender has in each turn.
QUANTUM = 65_536


class Doors:
    """Ways out of all legs of an exchange."""

    def __init__(
        self, budget: Budget, settings: Settings, counters: Counters, pressure: Pressure, timers: Timers
    ) -> None:
        self.budget = budget
        #: The door of each leg for which something waits, and the lanes of each end of a stream.
        self.by_leg: dict[Leg, Door] = {}
        self.lanes: dict[StreamEnd, Lane] = {}
        self.raw_lanes: dict[StreamEnd, RawLane] = {}
        #: Raw bytes of streams that wait, for the metrics.
        self.raw_bytes = 0
        self._timers = timers
        self._limit = settings.write_buffer_bytes
        self._light = min(LIGHT, settings.write_buffer_bytes // 8)
        self._counters = counters
        self._pressure = pressure

    # -- admission ----------------------------------------------------------------------------------------

    def fits(self, sender: Leg, target: Leg, size: int, kept: int = 0) -> bool:
        """Whether ``size`` bytes more of ``sender`` may wait for ``target``.

        :param kept: bytes that are kept beside them, and do not wait for the target.
        """
        budget = self.budget
        waiting = target.waiting_bytes + self._behind(target)
        if not budget.admits(sender if sender.is_edge else target, size + kept):
            return not waiting and budget.passes(size + kept)
        if not waiting:
            return True
        flow = self._flow_if_any(sender, target)
        if flow is not None:
            size += flow.size
        return size <= self._limit - waiting or size <= self._light

    def refuses(self, sender: Leg, target: Leg, size: int, kept: int = 0) -> bool:
        """Whether ``size`` bytes more of ``sender`` may not wait for ``target``; this is counted."""
        if self.fits(sender, target, size, kept):
            return False
        if self.budget.admits(sender if sender.is_edge else target, size + kept):
            self._counters.refused_congested += 1
        else:
            self._counters.refused_memory += 1
        return True

    @staticmethod
    def _behind(target: Leg) -> int:
        return target.transport.unsent + target.connection.sessions.held_bytes

    def _flow_if_any(self, sender: Leg, target: Leg) -> Flow | None:
        door = self.by_leg.get(target)
        return None if door is None else door.flows.get(sender)

    def count(self, sender: Leg, target: Leg, change: int) -> None:
        """So many bytes more of ``sender`` wait for ``target``, or fewer."""
        self._count(self._flow(sender, target), change)

    def _flow(self, sender: Leg, target: Leg) -> Flow:
        """Return the flow of ``sender`` to ``target``; it goes when it is empty."""
        door = self.by_leg.get(target)
        if door is None:
            door = self.by_leg[target] = Door(target)
        flow = door.flows.get(sender)
        if flow is None:
            flow = door.flows[sender] = Flow(door, sender, sender if sender.is_edge else target)
            self._count(flow, FLOW_BYTES)
        return flow

    def _count(self, flow: Flow, change: int) -> None:
        flow.size += change
        flow.door.leg.waiting_bytes += change
        self.budget.hold(flow.payer, change)
        if change < 0:
            self._lighter(flow)

    # -- sending ------------------------------------------------------------------------------------------

    def send(self, sender: Leg, target: Leg, end: StreamEnd | None, frame: bytes) -> None:
        """Send a frame on session 1 or, with ``end``, on a stream: at once, or when its turn comes."""
        if self._goes_straight(target):
            self._write(target, end, frame)
            return
        flow = self._flow(sender, target)
        lane = flow.lane if end is None else self.lanes.get(end)
        if lane is None:
            lane = Lane(flow, end)
            if end is None:
                flow.lane = lane
            else:
                self.lanes[end] = lane
        self._add(flow, lane, end, frame)

    def send_bytes(self, sender: Leg, end: StreamEnd, data: bytes) -> None:
        """Send raw bytes of a stream: at once, or when the receiver takes them and their turn has come."""
        raw = self.raw_lanes.get(end)
        if raw is None:
            session = end.session
            assert session is not None
            size = len(data)
            room = size if session.credit is None else session.credit
            if size <= room and self._goes_straight(end.leg) and not when_taken(end, size):
                connection = end.leg.connection
                header = SESSION_HEADER.pack(VERSION, STREAM, next(connection.ids), size + 8, session.id)
                if session.held is not None:
                    connection.sessions.write(session, header + data + count(end, size, self._timers))
                    return
                connection.write(header)
                connection.write(data)
                behind = count(end, size, self._timers)
                if behind:
                    connection.write(behind)
                return
            flow = self._flow(sender, end.leg)
            raw = self.raw_lanes[end] = RawLane(flow, end, self.open, self._timers)
            end.queued += 1
            self._count(flow, RAW_LANE_BYTES)
        cost = raw.add(data)
        self._hold_raw(raw, cost)
        if end.raw_ready:
            end.leg.queued += cost
        else:
            self.open(end)

    def _hold_raw(self, raw: RawLane, change: int) -> None:
        """Raw bytes are paid for, and keep nothing else from waiting for the same receiver."""
        self.raw_bytes += change
        self.budget.hold(raw.flow.payer, change)

    def open(self, end: StreamEnd) -> None:
        """An end of a stream may take more of the raw bytes that wait for it, if any do."""
        raw = self.raw_lanes.get(end)
        if not raw or end.raw_ready or not raw.may_go():
            return
        end.raw_ready = True
        flow = raw.flow
        if not flow.ready:
            flow.door.turn.append(flow)
        flow.ready.append(raw)
        end.leg.queued += end.raw_bytes
        self.feed(end.leg)

    def _close(self, raw: RawLane) -> None:
        """The receiver takes no more of them for the time being."""
        raw.end.raw_ready = False
        raw.end.leg.queued -= raw.end.raw_bytes
        self._idle(raw.flow)

    @staticmethod
    def _idle(flow: Flow) -> None:
        if not flow.ready:
            flow.door.turn.remove(flow)
            flow.deficit = 0

    def _add(self, flow: Flow, lane: Lane, end: StreamEnd | None, data: bytes) -> None:
        cost = lane.add(data)
        if lane.size == cost + LANE_BYTES:
            cost = lane.size
            if end is not None:
                end.queued += 1
            if not flow.ready:
                flow.door.turn.append(flow)
            flow.ready.append(lane)
        flow.door.leg.queued += cost
        self._count(flow, cost)

    def _goes_straight(self, target: Leg) -> bool:
        """Whether nothing waits for ``target``; one that takes all has it at the end of this turn, however much."""
        if target.queued:
            return False
        held, feed = target.connection.sessions.held_bytes, self.budget.feed
        return held <= feed and (target.transport.idle or target.transport.unsent + held <= feed)

    @staticmethod
    def _write(target: Leg, end: StreamEnd | None, frame: bytes) -> None:
        if end is None:
            target.connection.write(frame)
        else:
            session = end.session
            assert session is not None
            target.connection.sessions.write(session, frame)

    def feed(self, target: Leg, most: int = 0) -> bool:
        """Give a connection that took what it had the next frames; return whether there were any.

        :param most: what the connection may hold then, and a frame; 0: as much as any.
        """
        most = most or self.budget.most
        connection = target.connection
        fed = False
        while target.queued and connection.outbox_bytes + connection.sessions.held_bytes < most:
            turn = self.by_leg[target].turn
            flow = turn[0]
            lane = flow.ready[0]
            size = lane.next_size()
            if size > flow.deficit:
                flow.deficit += QUANTUM
                turn.rotate(-1)
                continue
            flow.deficit -= size
            frame, cost = lane.take()
            self._write(target, lane.end, frame)
            fed = True
            flow.ready.popleft()
            if isinstance(lane, RawLane):
                target.queued -= cost
                self._hold_raw(lane, -cost)
                if not lane:
                    self._retire_raw(lane)
                    continue
                if lane.may_go():
                    flow.ready.append(lane)
                else:
                    self._close(lane)
                if lane.end.stops is not None and lane.end.raw_bytes <= self._pressure.low:
                    self._pressure.relieved(lane.end)
            elif lane:
                flow.ready.append(lane)
                target.queued -= cost
                self._count(flow, -cost)
            else:
                self._retire(flow, lane, cost)
        return fed

    def _retire_raw(self, raw: RawLane) -> None:
        """Raw bytes are over; they are not among the ``ready`` any more."""
        flow, end = raw.flow, raw.end
        raw.stop()
        del self.raw_lanes[end]
        if end.raw_ready:
            self._close(raw)
        self._hold_raw(raw, RAW_LANE_BYTES - end.raw_bytes)
        end.raw_bytes = end.raw_taken = 0
        self._pressure.relieved(end)
        self._count(flow, -RAW_LANE_BYTES)
        end.left()

    def _retire(self, flow: Flow, lane: Lane, cost: int = 0) -> None:
        """A lane is over; it is not ``ready`` any more. ``cost`` was taken from it before."""
        end = lane.end
        if end is None:
            flow.lane = None
        else:
            del self.lanes[end]
        self._idle(flow)
        cost += lane.size
        flow.door.leg.queued -= cost
        self._count(flow, -cost)
        if end is not None:
            # At last: it may be closed now, which may send something.
            end.left()

    # -- waiting ------------------------------------------------------------------------------------------

    def stop(self, sender: Leg, target: Leg) -> None:
        """Read no more from ``sender`` until a part of what it sent has left, or ``target`` is gone."""
        flow = self._flow_if_any(sender, target)
        if flow is not None and not flow.stopped:
            flow.stopped = True
            self._counters.throttled += 1
            sender.transport.pause_reading()

    def _lighter(self, flow: Flow) -> None:
        """Something of a flow has left."""
        target = flow.door.leg
        left = flow.size - FLOW_BYTES
        if (left <= self._light or 2 * left <= self._limit - target.waiting_bytes) and flow.stopped:
            flow.stopped = False
            flow.sender.transport.resume_reading()
        if not left:
            self._end(flow)

    def _end(self, flow: Flow) -> None:
        door = flow.door
        del door.flows[flow.sender]
        self._count(flow, -FLOW_BYTES)
        if not door.flows:
            del self.by_leg[door.leg]

    # -- the end ------------------------------------------------------------------------------------------

    def drop(self, end: StreamEnd) -> None:
        """A stream is over at this end: what waits for it there is not sent."""
        for lane in (self.lanes.get(end), self.raw_lanes.get(end)):
            if lane is not None:
                self._drop(lane)

    def _drop(self, lane: Lane | RawLane) -> None:
        if isinstance(lane, RawLane):
            if lane.end.raw_ready:
                lane.flow.ready.remove(lane)
            self._retire_raw(lane)
        else:
            lane.flow.ready.remove(lane)
            self._retire(lane.flow, lane)

    def drop_default(self, target: Leg) -> None:
        """The peer gave up session 1: what waits for it there is not sent."""
        if target in self.by_leg:
            for flow in list(self.by_leg[target].flows.values()):
                if flow.lane is not None:
                    self._drop(flow.lane)

    def forget(self, target: Leg) -> None:
        """The leg is gone: nothing that waits for it is sent."""
        while target.queued:
            self._drop(self.by_leg[target].turn[0].ready[0])
