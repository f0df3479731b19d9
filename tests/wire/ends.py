"""Recorded frames as bytes, and one end of a connection with its clock in the test's hand."""

import hashlib
import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

from frontier_tx.wire import frame as f
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.errors import ProtocolError
from frontier_tx.wire.events import Closed, ConnReceived, SessionRequested
from frontier_tx.wire.frame import Frame, FrameReader, FrameType
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.states import Role, State
from tests import packets

VECTORS = Path(__file__).parents[1] / "vectors"
CLIENT_ID = 4242
SECTION = {"Conn": 10, "ConnAck": 9, "Session": 10, "SessionAck": 18, "DisConnAck": 1}


@cache
def vectors(name: str) -> Any:
    """A file of recorded truth."""
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def large_payload(length: int = 70_000) -> bytes:
    """The payload that the large recordings carry."""
    return bytes((7 * i + 3) % 256 for i in range(length))


def type_of(name: str) -> int:
    """The type byte for the recordings' name of it."""
    spaced = "".join(f"_{c}" if c.isupper() else c for c in name).strip("_").upper()
    return int(FrameType[spaced])


def name_of(kind: int) -> str:
    """The recordings' name for a type byte."""
    return "".join(part.capitalize() for part in FrameType(kind).name.split("_"))


def bytes_of(vector: dict[str, Any]) -> bytes:
    """The frame of a vector; a large one is made again from its prefix and its payload, and checked."""
    if "hex" in vector:
        return bytes.fromhex(vector["hex"])
    prefix = bytes.fromhex(vector["hex_prefix"])
    if "rule" in vector:
        whole = prefix.ljust(vector["frame_len"], b"x")
    elif vector["type"] == "Stream":
        whole = prefix[:22] + large_payload()
    else:
        import base64

        start = prefix.index(b'{"')
        head, rest = prefix[:start], prefix[start:]
        key = b'"meta":"' if b'"meta":"' in rest else b'"value":"'
        text = rest[: rest.index(key) + len(key)] + base64.b64encode(large_payload()) + b'"'
        for tail in (b"}", b',"peer":"p"}', b"," + NO_DEADLINES):
            if len(head + text + tail) == vector["frame_len"]:
                text += tail
                break
        whole = head + text
    assert len(whole) == vector["frame_len"], vector.get("name")
    assert hashlib.sha256(whole).hexdigest() == vector["sha256"], vector.get("name")
    return whole


NO_DEADLINES = b'"deadline":"0001-01-01T00:00:00Z","context":{"deadline":"0001-01-01T00:00:00Z"}}'


def frames_of(data: bytes) -> list[Frame]:
    """Cut bytes that must hold whole, good frames."""
    reader = FrameReader()
    frames = reader.feed(data)
    assert reader.failure is None and reader.held == 0
    return frames


def types_of(data: bytes) -> list[str]:
    """The recordings' names of the frames in ``data``."""
    return [name_of(frame.type) for frame in frames_of(data)]


def counted(start: int) -> "itertools.count[int]":
    """Ids that a test can foretell."""
    return itertools.count(start, 2)


class End:
    """A connection, what it told, and the clock of both."""

    def __init__(self, role: Role, limits: Limits | None = None, first_id: int = 1000) -> None:
        self.now = 100.0
        # Ends of the Go library, which were recorded, speak no credit.
        limits = limits or Limits(stream_window_bytes=0)
        self.connection = Connection(role, self.now, limits, ids=counted(first_id))
        self.told: list[Any] = []

    @classmethod
    def server(cls, limits: Limits | None = None) -> "End":
        """A server that nobody has spoken to yet."""
        return cls(Role.SERVER, limits)

    @classmethod
    def client(cls, limits: Limits | None = None, frame_limit: int = 0) -> "End":
        """A client that has sent its Conn, whose packet id is 1000."""
        end = cls(Role.CLIENT, limits)
        end.connection.connect(b"meta", frame_limit=frame_limit)
        return end

    @classmethod
    def connected(cls, role: Role, limits: Limits | None = None) -> "End":
        """An end whose handshake is done and whose output is taken."""
        if role is Role.SERVER:
            end = cls.server(limits)
            end.feed(packets.encode(packets.Conn(packet_id=7)))
            end.connection.accept(CLIENT_ID, end.now)
        else:
            end = cls.client(limits)
            end.feed(packets.encode(packets.ConnAck(packet_id=1000, client_id=CLIENT_ID)))
        end.sent()
        end.told.clear()
        assert end.connection.state is State.CONNECTED
        return end

    def feed(self, data: bytes) -> list[Any]:
        """Receive bytes; return what was told."""
        told = self.connection.receive(data, self.now)
        self.told += told
        return told

    def serve(self, data: bytes) -> list[str]:
        """Receive bytes as a plain application would; return the names of the frames sent in answer.

        Clients and sessions are accepted, requests answered, messages and registrations acknowledged, and a body
        that cannot be read ends the connection, which stands as ``ProtocolError`` in ``told``.
        """
        for item in self.feed(data):
            if self.connection.state is State.CLOSED:
                break
            try:
                self._serve(item)
            except ProtocolError as error:
                self.told.append(error)
                self.connection.lost()
        return types_of(self.sent())

    def _serve(self, item: Any) -> None:
        connection = self.connection
        if isinstance(item, ConnReceived):
            connection.accept(item.wanted_id, self.now)
        elif isinstance(item, SessionRequested):
            connection.accept_session(item, self.now)
        elif isinstance(item, Frame):
            packets.decode(item)
            answer = {
                f.MESSAGE: f.MESSAGE_ACK,
                f.REQUEST: f.RESPONSE,
                f.REGISTER: f.REGISTER_ACK,
            }.get(item.type)
            if answer is not None:
                connection.write(f.pack_of_session(answer, item.packet_id, item.session_id, b"{}"))

    @property
    def closed(self) -> bool:
        """Whether the end wants its transport closed."""
        return self.connection.state is State.CLOSED

    @property
    def reason(self) -> str:
        """Why it closed; there must be exactly one word on that."""
        (closed,) = [item for item in self.told if isinstance(item, Closed)]
        return str(closed.reason)

    def sent(self) -> bytes:
        """Take what is to be sent."""
        return self.connection.take_output()

    def sent_types(self) -> list[str]:
        """Take what is to be sent, as names."""
        return types_of(self.sent())

    def advance(self, seconds: float) -> list[Any]:
        """Let time pass; the connection is woken whenever it is due."""
        until = self.now + seconds
        told: list[Any] = []
        while self.connection.due <= until:
            self.now = max(self.now, self.connection.due)
            told += self.connection.advance(self.now)
            assert self.connection.due > self.now, "due again at once"
        self.now = until
        self.told += told
        return told
