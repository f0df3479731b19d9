"""TCP over streams, through real processes at both ends."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from frontier_tx.cli.failures import Failure
from frontier_tx.cli.tunnel import forwarding, host_and_port

from .runner import World, process, run


@contextmanager
def answering() -> Iterator[int]:
    """A TCP server that reads to the end and then answers with the checksum and all of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(peer: socket.socket) -> None:
            with peer:
                data = b"".join(iter(lambda: peer.recv(65536), b""))
                peer.sendall(hashlib.sha256(data).digest() + data)

        def accept() -> None:
            try:
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def forwarded(target: str, exposed: str, edge_forwards: bool = False) -> Iterator[int]:
    """A port that leads to ``target`` at the other side, which exposes something."""
    exposing = ("expose", exposed, "--name", "inner") if edge_forwards else ("edge", "expose", exposed)
    with process(*exposing) as (_, said):
        who = "inner" if edge_forwards else said.split("edge ")[1].split()[0]
        forward = ("edge", "forward") if edge_forwards else ("forward",)
        with process(*forward, f"0:{who}:{target}") as (_, said):
            found = re.search(r"127\.0\.0\.1:(\d+) leads to", said)
            assert found
            yield int(found[1])


def exchange(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as near:
        threading.Thread(target=lambda: (near.sendall(data), near.shutdown(socket.SHUT_WR)), daemon=True).start()
        return b"".join(iter(lambda: near.recv(65536), b""))


@pytest.mark.parametrize("edge_forwards", [False, True])
def test_connections_keep_their_halves(world: World, edge_forwards: bool) -> None:
    with answering() as inner, forwarded("80", f"80=127.0.0.1:{inner}", edge_forwards) as port:
        data = os.urandom(3_000_000)
        assert exchange(port, data) == hashlib.sha256(data).digest() + data
        assert exchange(port, b"") == hashlib.sha256(b"").digest()
        got: dict[int, bytes] = {}
        several = [
            threading.Thread(target=lambda n=n: got.update({n: exchange(port, b"%d" % n * 10_000)}))  # type: ignore[misc]
            for n in range(12)
        ]
        for thread in several:
            thread.start()
        for thread in several:
            thread.join(20)
        assert {n: data[32:] for n, data in got.items()} == {n: b"%d" % n * 10_000 for n in range(12)}


def test_a_server_that_ends_first_is_read_to_its_end(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        inner = listener.getsockname()[1]
        with forwarded(str(inner), str(inner)) as port, socket.create_connection(("127.0.0.1", port)) as near:
            near.settimeout(20)
            near.sendall(b"question")
            peer = listener.accept()[0]
            assert peer.recv(100) == b"question"
            peer.sendall(b"answer")
            peer.close()
            assert near.recv(100) == b"answer"
            assert near.recv(100) == b""


def test_what_is_cut_does_not_look_complete(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        inner = listener.getsockname()[1]
        with forwarded(str(inner), str(inner)) as port, socket.create_connection(("127.0.0.1", port)) as near:
            near.settimeout(20)
            near.sendall(b"question")
            peer = listener.accept()[0]
            assert peer.recv(100) == b"question"
            # A reset.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()
            with pytest.raises(ConnectionResetError):
                near.recv(100)


def test_only_what_is_exposed_can_be_reached(world: World) -> None:
    with (
        answering() as inner,
        forwarded(f"127.0.0.2:{inner}", "1") as port,
        pytest.raises(ConnectionResetError),
    ):
        exchange(port, b"x")


def test_nobody_listens_where_it_leads_and_the_edge_is_gone(world: World) -> None:
    with forwarded("1", "1") as port, pytest.raises(ConnectionResetError):
        exchange(port, b"x")
    with process("forward", "0:17:80") as (forward, said):
        found = re.search(r"127\.0\.0\.1:(\d+) leads to", said)
        assert found
        with pytest.raises(ConnectionResetError):
            exchange(int(found[1]), b"x")
        assert forward.stderr is not None
        assert "edge 17: force closed: edge not online" in forward.stderr.readline()


def test_a_port_that_is_taken(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = run("forward", f"{port}:42:80")
    assert (done.code, done.err) == (2, f"frontier: cannot listen on 127.0.0.1:{port}: Address already in use\n")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("8080:42:80", ("127.0.0.1", 8080, "42", "80")),
        ("8080:42:db:5432", ("127.0.0.1", 8080, "42", "db:5432")),
        ("0.0.0.0:8080:42:80", ("0.0.0.0", 8080, "42", "80")),
        ("[::1]:8080:robot:[::1]:80", ("::1", 8080, "robot", "[::1]:80")),
    ],
)
def test_forwardings(text: str, found: tuple[str, int, str, str]) -> None:
    assert forwarding(text) == found


@pytest.mark.parametrize(
    "text", ["", "8080", "8080:42", "8080:42:", ":42:80", "x:42:80", "8080::80", "99999:4:80", "1:2:x"]
)
def test_forwardings_that_are_none(text: str) -> None:
    with pytest.raises(Failure):
        forwarding(text)


@pytest.mark.parametrize("text", ["", "x", ":80", "a:", "80:", "-1", "70000"])
def test_ports_that_are_none(text: str) -> None:
    with pytest.raises(Failure):
        host_and_port(text)
