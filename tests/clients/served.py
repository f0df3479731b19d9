"""A client's end joined in memory to the server's side of a connection, which the test plays frame by frame."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from frontier_tx.clients.core.connection import ClientConnection
from frontier_tx.clients.core.intake import Bounds, Intake
from frontier_tx.clients.core.operations import Request
from frontier_tx.clients.core.session import ClientSession
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.timers import Alarms
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import decode_message
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.events import (
    Closed,
    ConnReceived,
    SessionDismissed,
    SessionEnded,
    SessionOpened,
    SessionRequested,
)
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.session import Session
from frontier_tx.wire.states import Role


class Pipe:
    """Carries nothing by itself; counts pauses."""

    def __init__(self, served: Served, connection: Connection) -> None:
        self.served = served
        self.connection = connection
        self.pauses = 0
        #: Bytes that the far side does not take.
        self.stuck = 0
        self.aborted = ""

    @property
    def unsent(self) -> int:
        return self.stuck + self.connection.outbox_bytes

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        self.pauses -= 1
        assert self.pauses >= 0

    def close(self) -> None:
        self.served.tell(self.connection.close(self.served.clock.seconds()))

    def abort(self, reason: str) -> None:
        self.aborted = reason


class Served:
    """A client's end that is connected.

    :param window: of streams, at both sides; 0: no credit.
    """

    def __init__(self, bounds: Bounds | None = None, window: int = 0) -> None:
        self.clock = Clock()
        self.alarms = Alarms(self.clock)
        self.running: list[Request] = []
        bounds = bounds or Bounds()
        limits = Limits(stream_window_bytes=bounds.stream_bytes)
        self.pipe = Pipe(self, Connection(Role.CLIENT, 0.0, limits, alarm=lambda connection: None))
        self.intake = Intake(lambda handler, request: self.running.append(request), bounds)
        self.end = ClientConnection(self.pipe, self, self.intake, self.alarms, self.clock.seconds)  # type: ignore[arg-type]
        self.server = Connection(Role.SERVER, 0.0, Limits(stream_window_bytes=window))
        self.frames: list[f.Frame] = []
        self.events: list[Any] = []
        self.gone: list[str] = []
        #: What the server sent and the client does not read, as it is paused.
        self.kept = bytearray()
        self.pipe.connection.connect(frame_limit=16_777_216)
        self.pump()

    @property
    def main(self) -> ClientSession:
        assert self.end.main is not None
        return self.end.main

    def came_online(self, end: ClientConnection) -> None:
        pass

    def went_offline(self, end: ClientConnection, reason: str) -> None:
        self.gone.append(reason)

    def tell(self, told: list[Any]) -> None:
        for item in told:
            if isinstance(item, f.Frame):
                self.end.frame(item)
            else:
                self.end.event(item)
                if isinstance(item, Closed):
                    self.end.gone(item.reason)

    def pump(self) -> None:
        """Let everything arrive."""
        now = self.clock.seconds()
        while True:
            out, back = self.pipe.connection.take_output(), self.server.take_output()
            self.kept += back
            readable = b"" if self.pipe.pauses else bytes(self.kept)
            if not out and not readable:
                break
            for told in self.server.receive(out, now):
                self._at_server(told, now)
            if readable:
                self.kept.clear()
                self.tell(self.pipe.connection.receive(readable, now))
        self.end.drained()

    def _at_server(self, told: Any, now: float) -> None:
        if isinstance(told, f.Frame):
            self.frames.append(told)
            return
        self.events.append(told)
        if isinstance(told, ConnReceived):
            self.server.accept(5, now)
        elif isinstance(told, SessionRequested):
            self.server.accept_session(told, now)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.tell(self.pipe.connection.advance(self.clock.seconds()))
        self.pump()

    # -- streams ------------------------------------------------------------------------------------------

    def opened(self, meta: bytes = b"") -> tuple[StreamSession, Session]:
        """A stream that the client opened, at both ends."""
        got: list[Any] = []
        self.end.open("peer", meta, lambda result, error: got.append(result))
        self.pump()
        session = self.server.sessions.live[got[0].wire.id]
        # It would hold its first frames back until the client spoke.
        self.server.sessions.release(session)
        return got[0], session

    def offered(self, meta: bytes = b"") -> Session:
        """A stream that the server opened, at its end."""
        self.server.open_session(meta, "", self.clock.seconds())
        self.pump()
        (opened,) = [event for event in self.events if isinstance(event, SessionOpened)][-1:]
        return opened.session

    def sends(self, session: Session, data: bytes) -> int:
        """Send bytes of a stream to the client, as far as credit goes."""
        taken = self.server.sessions.send_stream(session, data)
        self.pump()
        return taken

    def sends_frame(self, kind: int, packet_id: int, session_id: int, body: bytes) -> None:
        self.server.write(f.pack_of_session(kind, packet_id, session_id, body))
        self.pump()

    def came(self, session: Session) -> bytes:
        """Bytes of a stream that came to the server."""
        ours = [frame for frame in self.frames if frame.type == f.STREAM and frame.session_id == session.id]
        return b"".join(frame.body for frame in ours)

    def ends(self, session: Session) -> list[str]:
        """Why the client dismissed a stream: the errors of it that the server read."""
        return [e.error for e in self.events if isinstance(e, SessionDismissed) and e.session is session]

    def over(self, session: Session) -> bool:
        return any(isinstance(e, SessionEnded) and e.session is session for e in self.events)

    def answers(self, kind: int = f.RESPONSE) -> dict[int, str]:
        """Errors of the answers that came, by packet."""
        return {frame.packet_id: decode_message(frame.body)[0].error for frame in self.frames if frame.type == kind}


class Told:
    """Notes how operations end."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def __call__(self, result: Any, error: Exception | None) -> None:
        self.results.append(error if error is not None else result)

    @property
    def one(self) -> Any:
        (result,) = self.results
        return result
