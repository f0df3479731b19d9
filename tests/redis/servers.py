"""Real Redis processes for tests: single servers, a watched master with replicas, clusters."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


def need(program: str) -> str:
    """The path of a program; skips the test where it is missing, fails it under CI."""
    found = shutil.which(program)
    if found is None:
        reason = f"{program} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, below the range of outgoing connections and with room for cluster bus
    ports."""
    found: list[int] = []
    candidate = 20_000 + (os.getpid() * 37) % 2_000 * 2
    while len(found) < count:
        candidate = candidate + 1 if candidate < 31_000 else 20_000
        with contextlib.ExitStack() as stack:
            try:
                for port in (candidate, candidate + 10_000):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(candidate)
    return found


def wait_until(done: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    """Poll another process until something holds."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.03)


class RedisServer:
    """One redis-server process without persistence."""

    def __init__(self, port: int, *options: str, sentinel: bool = False, tls: Sequence[str] = ()) -> None:
        self.port = port
        self.addr = f"127.0.0.1:{port}"
        self.options = list(options)
        self.tls = list(tls)
        self._sentinel = sentinel
        self._folder = Path(tempfile.mkdtemp(prefix="redis-test-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RedisServer:
        """Start, and wait until it answers."""
        listen = ["--port", "0", "--tls-port", str(self.port)] if self.tls else ["--port", str(self.port)]
        if self._sentinel:
            (self._folder / "sentinel.conf").touch()
            words = [need("redis-server"), str(self._folder / "sentinel.conf"), "--sentinel"]
        else:
            words = [need("redis-server"), "--save", "", "--appendonly", "no"]
        words += [*listen, "--bind", "127.0.0.1", "--dir", str(self._folder), *self.tls, *self.options]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, f"redis-server on {self.addr} answers")
        return self

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def cli(self, *words: str | int) -> str:
        """One command by redis-cli, its answer without the final newline."""
        command = [need("redis-cli"), "-p", str(self.port), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.rstrip("\n")

    def close(self) -> None:
        """Kill and clean up."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class Watched:
    """A master with replicas under three sentinels that take 0.5 s of silence for death."""

    NAME = "site"

    def __init__(self, replicas: int = 1, sentinels: int = 3) -> None:
        ports = free_ports(1 + replicas + sentinels)
        self.servers = [RedisServer(port, "--repl-diskless-sync-delay", "0") for port in ports[: 1 + replicas]]
        self.sentinels = [RedisServer(port, sentinel=True) for port in ports[1 + replicas :]]

    def start(self) -> Watched:
        """Start everything and wait until the sentinels know each other and the replicas follow."""
        master = self.servers[0].start()
        for server in self.servers[1:]:
            server.options += ["--replicaof", "127.0.0.1", str(master.port)]
            server.start()
        for sentinel in self.sentinels:
            sentinel.start()
            sentinel.cli("SENTINEL", "MONITOR", self.NAME, "127.0.0.1", master.port, 2)
            for key, value in (("down-after-milliseconds", 500), ("failover-timeout", 3000)):
                sentinel.cli("SENTINEL", "SET", self.NAME, key, value)

        def settled() -> bool:
            fields = self.sentinels[0].cli("SENTINEL", "MASTER", self.NAME).splitlines()
            known = dict(zip(fields[::2], fields[1::2], strict=False))
            wanted = (str(len(self.servers) - 1), str(len(self.sentinels) - 1))
            online = "state=online" in master.cli("INFO", "replication") or len(self.servers) == 1
            return (known.get("num-slaves"), known.get("num-other-sentinels")) == wanted and online

        wait_until(settled, "sentinels know the replicas and each other")
        return self

    @property
    def addrs(self) -> tuple[str, ...]:
        return tuple(sentinel.addr for sentinel in self.sentinels)

    def master(self) -> RedisServer:
        """Whoever the sentinels name now."""
        port = self.sentinels[0].cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME).splitlines()[1]
        return next(server for server in self.servers if str(server.port) == port)

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.close()


class Clustered:
    """A Redis Cluster of three masters, each with ``replicas``; 1 s of silence is death."""

    def __init__(self, replicas: int = 0, spare: int = 0) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")
        options += ("--cluster-replica-validity-factor", "0")
        ports = free_ports(3 + 3 * replicas + spare)
        self.servers = [RedisServer(port, *options) for port in ports]
        self.masters = self.servers[:3]
        self.replicas = self.servers[3 : 3 + 3 * replicas]
        self.spare = self.servers[3 + 3 * replicas :]

    def start(self) -> Clustered:
        """Start everything and wait until all nodes agree that the cluster is well."""
        for server in self.servers:
            server.start()
        for index, master in enumerate(self.masters):
            master.cli("CLUSTER", "ADDSLOTSRANGE", 16384 * index // 3, 16384 * (index + 1) // 3 - 1)
            master.cli("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for server in self.servers[1:]:
            self.servers[0].cli("CLUSTER", "MEET", "127.0.0.1", server.port)

        def known(server: RedisServer) -> bool:
            info = server.cli("CLUSTER", "INFO")
            return "cluster_state:ok" in info and f"cluster_known_nodes:{len(self.servers)}" in info

        wait_until(lambda: all(known(server) for server in self.servers), "the cluster is complete")
        for index, replica in enumerate(self.replicas):
            master = self.masters[index % 3]
            replica.cli("CLUSTER", "REPLICATE", master.cli("CLUSTER", "MYID"))
        wait_until(
            lambda: all("master_link_status:up" in replica.cli("INFO", "replication") for replica in self.replicas),
            "the replicas follow",
        )
        return self

    @property
    def addrs(self) -> tuple[str, ...]:
        return tuple(server.addr for server in self.servers)

    def move_slot(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Move one slot with its keys, as an operator's tool does."""
        source_id, target_id = source.cli("CLUSTER", "MYID"), target.cli("CLUSTER", "MYID")
        target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := source.cli("CLUSTER", "GETKEYSINSLOT", slot, 100).splitlines():
            source.cli("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for server in (target, source, *self.masters):
            server.cli("CLUSTER", "SETSLOT", slot, "NODE", target_id)

    def close(self) -> None:
        for server in self.servers:
            server.close()
