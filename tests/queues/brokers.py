"""Real brokers on free ports, each in a folder of its own, and consumers that share no code with the producers."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.redis.servers import free_ports, need, wait_until


class Taken(NamedTuple):
    """What a consumer got."""

    topic: str
    value: bytes
    headers: dict[str, str]


class Broker:
    """A process that listens on a port; subclasses say how it is started."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.addr = f"127.0.0.1:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix="broker-test-"))
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Start, with what it kept on disk from the last time, and wait until it takes connections."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder)
        wait_until(self.answers, f"{self.command()[0]} on {self.addr} answers", 60)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self, on: bool) -> None:
        """Let it stand still, or go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)


class NatsServer(Broker):
    """nats-server, with JetStream on disk."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self.options = options

    def command(self) -> Sequence[str]:
        stored = str(self.folder / "jetstream")
        return [need("nats-server"), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", stored, *self.options]


class NatsConsumer:
    """A subscriber made of a socket: the protocol is lines of text and counted bytes."""

    def __init__(self, port: int, subject: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        options = {"verbose": False, "headers": True, "no_responders": True}
        self.say(f"CONNECT {json.dumps(options)}\r\nSUB {subject} 1\r\nPING\r\n")
        while self._file.readline().strip() != b"PONG":
            pass

    def say(self, text: str, body: bytes = b"") -> None:
        self._socket.sendall(text.encode() + body)

    def take(self, seconds: float = 10) -> Taken:
        """The next message."""
        self._socket.settimeout(seconds)
        while True:
            words = self._file.readline().split()
            if words[0] == b"PING":
                self.say("PONG\r\n")
            elif words[0] == b"MSG":
                body = self._file.read(int(words[-1]))
                self._file.readline()
                return Taken(words[1].decode(), body, {})
            elif words[0] == b"HMSG":
                head, total = int(words[-2]), int(words[-1])
                whole = self._file.read(total)
                self._file.readline()
                lines = whole[:head].decode().split("\r\n")[1:]
                headers = dict(line.split(": ", 1) if ": " in line else line.split(":", 1) for line in lines if line)
                return Taken(words[1].decode(), whole[head:], headers)

    def close(self) -> None:
        self._file.close()
        self._socket.close()
