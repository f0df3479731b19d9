"""A stand-in for nsqd, made from what its protocol's documents say (nsq.io, "TCP Protocol Spec").

It reads commands strictly, answers them in their order, and closes the connection behind an error, as nsqd does.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any


class Refusal(Exception):
    """The text of an error frame."""


class Nsqd:
    """Keeps what is published; ``messages`` has topic and body in their order."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, secret: str = "", most: int = 1_048_576) -> None:
        self.tls, self.secret, self.most = tls, secret, most
        self.messages: list[tuple[str, bytes]] = []
        #: The commands without their bodies, and what clients said of themselves.
        self.commands: list[bytes] = []
        self.clients: list[dict[str, Any]] = []
        #: May raise a Refusal for a topic and a body, before it is kept.
        self.check: Callable[[str, bytes], None] = lambda topic, body: None
        self.nops = 0
        #: Whether it answers at all.
        self.silent = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.addr = f"127.0.0.1:{self.port}"
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._connections.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        """As if it were killed."""
        self._listener.close()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            pass  # an accept that is under way keeps the port open
        self.drop()

    def start(self) -> None:
        """Listen on the same port again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def drop(self) -> None:
        """Close all connections."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def heartbeat(self) -> None:
        """One to everybody."""
        for connection in list(self._connections):
            _frame(connection, 0, b"_heartbeat_")

    # -- one connection -----------------------------------------------------------------------------------

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError, struct.error):
            _Client(self, connection).run()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        self._connections.discard(connection)

    def keep(self, topic: str, body: bytes) -> None:
        if not re.fullmatch(r"[.a-zA-Z0-9_-]{1,64}", topic.removesuffix("#ephemeral")) or len(topic) > 64:
            raise Refusal(f'E_BAD_TOPIC PUB topic name "{topic}" is not valid')
        if not body:
            raise Refusal("E_BAD_MESSAGE PUB invalid message body size 0")
        if len(body) > self.most:
            raise Refusal(f"E_BAD_MESSAGE PUB message too big {len(body)} > {self.most}")
        with self._lock:
            self.check(topic, body)


class _Client:
    def __init__(self, server: Nsqd, connection: socket.socket) -> None:
        self._server, self._socket = server, connection
        self._read = connection.makefile("rb")

    def run(self) -> None:
        if self._exactly(4) != b"  V2":
            return
        while line := self._read.readline():
            if not line.endswith(b"\n"):
                return
            self._server.commands.append(line[:-1])
            try:
                answer = self._command(line[:-1].split(b" "))
            except Refusal as error:
                _frame(self._socket, 1, str(error).encode())
                return
            if answer is not None and not self._server.silent:
                _frame(self._socket, 0, answer)

    def _command(self, words: list[bytes]) -> bytes | None:
        server = self._server
        match words:
            case [b"NOP"]:
                server.nops += 1
                return None
            case [b"IDENTIFY"]:
                asked = json.loads(self._body())
                server.clients.append(asked)
                tls = bool(server.tls and asked.get("tls_v1"))
                answer = {
                    "max_rdy_count": 2500,
                    "version": "1.3.0",
                    "tls_v1": tls,
                    "auth_required": bool(server.secret),
                }
                if tls:
                    assert server.tls is not None
                    _frame(self._socket, 0, json.dumps(answer).encode())
                    server._connections.discard(self._socket)
                    self._socket = server.tls.wrap_socket(self._socket, server_side=True)
                    server._connections.add(self._socket)
                    self._read = self._socket.makefile("rb")
                    return b"OK"
                return json.dumps(answer).encode()
            case [b"AUTH"]:
                if self._body().decode() != server.secret:
                    raise Refusal("E_AUTH_FAILED AUTH failed")
                return b'{"identity":"frontier"}'
            case [b"PUB", topic]:
                body = self._body()
                server.keep(topic.decode(), body)
                server.messages.append((topic.decode(), body))
                return b"OK"
            case [b"MPUB", topic]:
                whole = self._body()
                (count,) = struct.unpack_from(">I", whole)
                at, bodies = 4, []
                for _ in range(count):
                    (size,) = struct.unpack_from(">I", whole, at)
                    bodies.append(whole[at + 4 : at + 4 + size])
                    at += 4 + size
                if at != len(whole):
                    raise Refusal("E_BAD_BODY MPUB invalid body size")
                for body in bodies:
                    server.keep(topic.decode(), body)
                server.messages.extend((topic.decode(), body) for body in bodies)
                return b"OK"
        raise Refusal(f"E_INVALID invalid command {words[0]!r}")

    def _exactly(self, count: int) -> bytes:
        data = self._read.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def _body(self) -> bytes:
        (size,) = struct.unpack(">I", self._exactly(4))
        return self._exactly(size)


def _frame(connection: socket.socket, kind: int, body: bytes) -> None:
    connection.sendall(struct.pack(">II", len(body) + 4, kind) + body)
