"""A peer made of a socket and hand-made frames, so that it can say what no library would.

It shares no code with the project: what both got wrong the same way would go unnoticed.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

CONN, CONN_ACK, DIS_CONN, DIS_CONN_ACK = 0x01, 0x02, 0x11, 0x12
HEARTBEAT, HEARTBEAT_ACK = 0x21, 0x22
SESSION, SESSION_ACK, DISMISS, DISMISS_ACK = 0x31, 0x32, 0x41, 0x42
MESSAGE, MESSAGE_ACK, STREAM = 0x51, 0x52, 0x61
REQUEST, RESPONSE, REQUEST_CANCEL, REGISTER, REGISTER_ACK = 0x71, 0x72, 0x73, 0x81, 0x82

HEADER = struct.Struct(">BBQI")
UNSET = "0001-01-01T00:00:00Z"
#: Packet ids of all peers of a test run; their start is arbitrary.
_ids = itertools.count(0x6B00_0000_0000_0001, 2)


def frame(kind: int, packet_id: int, body: bytes = b"") -> bytes:
    return HEADER.pack(1, kind, packet_id, len(body)) + body


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def on_session(session: int, fields: dict[str, Any] | bytes) -> bytes:
    """The body of a message, a request or an answer to one; bytes stand for the JSON as they are."""
    if isinstance(fields, bytes):
        return session.to_bytes(8, "big") + fields
    whole = {**fields, "deadline": fields.get("deadline", UNSET), "context": {"deadline": UNSET}}
    return session.to_bytes(8, "big") + json.dumps(whole, separators=(",", ":")).encode()


class Closed(Exception):
    """The gateway has ended the connection."""


class RawPeer:
    """One socket. All waits end after a few seconds."""

    def __init__(self, address: str, receive_buffer: int | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(5)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client_id = 0
        self._buffer = b""

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Raises Closed where the gateway takes nothing any more."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, BrokenPipeError) as error:
            raise Closed from error

    def send_frame(self, kind: int, body: bytes = b"", packet_id: int | None = None) -> int:
        packet_id = next(_ids) if packet_id is None else packet_id
        self.send(frame(kind, packet_id, body))
        return packet_id

    def read(self, wait: float = 5) -> tuple[int, int, bytes]:
        """The next frame: type, packet id, body. Raises Closed or TimeoutError."""
        until = time.monotonic() + wait
        while True:
            if len(self._buffer) >= HEADER.size:
                _, kind, packet_id, length = HEADER.unpack_from(self._buffer)
                end = HEADER.size + length
                if len(self._buffer) >= end:
                    body, self._buffer = self._buffer[HEADER.size : end], self._buffer[end:]
                    return kind, packet_id, body
            self.socket.settimeout(max(0.001, until - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except ConnectionError as error:
                raise Closed from error
            if not data:
                raise Closed
            self._buffer += data

    def read_kind(self, kind: int, packet_id: int | None = None, wait: float = 5) -> bytes:
        """The body of the next frame of that type, and of that packet id where one is given; others are skipped."""
        until = time.monotonic() + wait
        while True:
            got, number, body = self.read(max(0.001, until - time.monotonic()))
            if got == kind and packet_id in (None, number):
                return body

    def closes(self, wait: float) -> bool:
        """Whether the gateway ends the connection within `wait` seconds, whatever it says before."""
        until = time.monotonic() + wait
        try:
            while True:
                self.read(max(0.001, until - time.monotonic()))
        except Closed:
            return True
        except TimeoutError:
            return False

    def shake_hands(self, meta: bytes = b"", flags: int = 0x18, wanted: int = 0) -> None:
        """Raises AssertionError where the gateway refuses."""
        fields = json.dumps({"meta": b64(meta)} if meta else {}).encode()
        packet_id = self.send_frame(CONN, bytes([flags, 0]) + wanted.to_bytes(8, "big") + fields)
        body = self.read_kind(CONN_ACK, packet_id)
        assert body[0] == 0, body
        self.client_id = int.from_bytes(body[1:9], "big")

    def answers(self) -> bool:
        """Whether a request on this connection is still answered; there is nobody to take it."""
        fields = {"key": b64(b"nobody-has-this"), "custom": b64((4242).to_bytes(8, "big"))}
        try:
            packet_id = self.send_frame(REQUEST, on_session(1, fields))
            body = self.read_kind(RESPONSE, packet_id, 2)
        except (Closed, TimeoutError):
            return False
        return json.loads(body[8:])["error"] in ("record not found", "edge not online")


def connected(address: str, meta: bytes = b"") -> RawPeer:
    peer = RawPeer(address)
    peer.shake_hands(meta)
    return peer


SERVICE_META = b'{"service":"raw","topics":["raw-topic"]}'
#: What either port takes: a service needs no topics, and of an edge it says nothing in particular.
ANYBODY_META = b'{"service":"raw"}'


class Bystanders:
    """A service that calls an edge over and over, and the edge that answers: they must notice nothing."""

    def __init__(self, edge_address: str, service_address: str) -> None:
        self._edge = connected(edge_address)
        self._service = connected(service_address, b'{"service":"bystander","topics":["bystander"]}')
        self._ending = threading.Event()
        self._trouble: list[str] = []
        self._count = 0
        self._slowest = 0.0
        self._threads = [
            threading.Thread(target=self._run, args=(work,), daemon=True) for work in (self._answer, self._call)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, work: Any) -> None:
        try:
            work()
        except (Closed, TimeoutError, AssertionError) as error:
            if not self._ending.is_set():
                self._trouble.append(f"{work.__name__}: {error!r}")

    def _answer(self) -> None:
        while not self._ending.is_set():
            kind, packet_id, body = self._edge.read(30)
            if kind == REQUEST:
                fields = json.loads(body[8:])
                self._edge.send_frame(
                    RESPONSE, on_session(1, {"key": fields["key"], "value": fields["value"]}), packet_id
                )

    def _call(self) -> None:
        to = b64(self._edge.client_id.to_bytes(8, "big"))
        for number in itertools.count():
            if self._ending.wait(0.002):
                return
            value = b64(f"call {number}".encode())
            at = time.monotonic()
            packet_id = self._service.send_frame(
                REQUEST, on_session(1, {"key": b64(b"echo"), "value": value, "custom": to})
            )
            fields = json.loads(self._service.read_kind(RESPONSE, packet_id, 10)[8:])
            assert fields.get("value") == value, fields
            self._slowest = max(self._slowest, time.monotonic() - at)
            self._count += 1

    @contextlib.contextmanager
    def undisturbed(self, slowest: float = 1.0) -> Iterator[None]:
        """What happens inside must not make a call fail, nor take longer than `slowest` seconds."""
        self._slowest = 0.0
        before = self._count
        yield
        until = time.monotonic() + 5
        while self._count < before + 2 and time.monotonic() < until and not self._trouble:
            time.sleep(0.002)
        assert not self._trouble
        assert self._count >= before + 2, "the bystanders stand still"
        assert self._slowest < slowest

    def stop(self) -> None:
        self._ending.set()
        self._edge.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._edge.socket.close()
        self._service.socket.close()
