"""Gateway processes: started here with a configuration and ports of their own, or running already."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TEMPLATE = HERE / "frontier.yaml.in"
START_SECONDS = 30.0


class Trouble(Exception):
    """Something that the user must know and that ends the run; its text is the whole message."""


class Gateway(Protocol):
    """What a load needs to know of a gateway. Addresses are `host:port`."""

    name: str
    edge: str
    service: str
    folder: Path

    @property
    def pid(self) -> int | None:
        """The process whose CPU and memory are read; None where it is not known."""

    def start(self) -> None: ...
    def alive(self) -> bool: ...
    def ask_to_stop(self) -> None: ...
    def stop(self, grace: float) -> None: ...
    def last_words(self) -> list[str]: ...


def own_command() -> str:
    """The command that starts this project's gateway with the Python that runs this."""
    beside = Path(sys.executable).with_name("twistd")
    twistd = str(beside) if beside.exists() else shutil.which("twistd")
    if twistd is None:
        raise Trouble("twistd is not installed: run `pip install -e .` in the project, or give --command")
    return f"{shlex.quote(twistd)} -n --pidfile= frontier -c {{config}}"


def free_ports(count: int) -> list[int]:
    """Free loopback ports below 32768, as the kernel picks the local ports of clients above it."""
    held: list[socket.socket] = []
    ports: list[int] = []
    try:
        for port in random.sample(range(20000, 32000), 2000):
            candidate = socket.socket()
            held.append(candidate)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    finally:
        for candidate in held:
            candidate.close()
    raise Trouble(f"no {count} free ports between 20000 and 32000")


def stand_apart() -> None:
    """Runs in the child: as many files as allowed, and an end when the parent is killed (Linux)."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        return


def process_table() -> dict[int, list[str]]:
    """By process id: /proc/PID/stat after the name (0 state, 1 parent, 3 session, 11-14 CPU ticks)."""
    table: dict[int, list[str]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                table[int(entry)] = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
    return table


def cpu_ticks(root: int) -> int:
    """User and system time of a process and all its descendants, in clock ticks."""
    table = process_table()
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        if pid in table:
            total += sum(int(word) for word in table[pid][11:15])
            todo += [child for child, words in table.items() if int(words[1]) == pid]
    return total


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), 1).close()
    except OSError:
        return False
    return True


class StartedGateway:
    """A gateway process of our own, with its own configuration, ports, folder and log.

    `command` is split as a shell would, without running one; `{config}`, `{edge}`, `{service}`, `{dir}` in it
    are replaced. In `template` stand `{{EDGE_ADDR}}`, `{{SERVICE_ADDR}}`, `{{CONTROL_ADDR}}`, and the like.
    """

    def __init__(
        self,
        name: str,
        command: str,
        folder: Path,
        template: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = command
        self.folder = folder
        self.template = TEMPLATE.read_text() if template is None else template
        self.environment = dict(environment or {})
        self.edge = self.service = self.control = self.observability = ""
        self.log = folder / "gateway.log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it and wait until both ports accept; raises Trouble with its last log lines otherwise."""
        self.edge, self.service, self.control, self.observability = (f"127.0.0.1:{p}" for p in free_ports(4))
        text = self.template
        for key, value in (
            ("EDGE_ADDR", self.edge),
            ("SERVICE_ADDR", self.service),
            ("CONTROL_ADDR", self.control),
            ("OBSERVABILITY_ADDR", self.observability),
        ):
            text = text.replace("{{" + key + "}}", value)
        config = self.folder / "frontier.yaml"
        config.write_text(text)
        words = []
        for word in shlex.split(self.command):
            for key, value in (
                ("config", str(config)),
                ("edge", self.edge),
                ("service", self.service),
                ("dir", str(self.folder)),
            ):
                word = word.replace("{" + key + "}", value)
            words.append(word)
        with self.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=stand_apart,
                    env=self._environment(),
                )
            except OSError as error:
                raise Trouble(f"{self.name} does not start: {error}") from error
        until = time.monotonic() + START_SECONDS
        for address in (self.service, self.edge):
            while not listens(address):
                if not self.alive():
                    raise Trouble(
                        "\n  ".join([f"{self.name} ended before it listened on {address}:", *self.last_words()])
                    )
                if time.monotonic() > until:
                    raise Trouble(f"{self.name} does not listen on {address} after {START_SECONDS:g} s: {self.log}")
                time.sleep(0.02)

    def _environment(self) -> dict[str, str]:
        # the plugin is found in a checkout that is not installed too
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        return {**os.environ, "PYTHONPATH": path, **self.environment}

    def alive(self) -> bool:
        # looked at without being reaped, so that the process id stays ours until stop()
        return (
            self._process is not None
            and os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        )

    def ask_to_stop(self) -> None:
        if self.alive() and self._process is not None:
            os.kill(self._process.pid, signal.SIGTERM)

    def stop(self, grace: float) -> None:
        """Wait `grace` seconds for its end, then kill whatever is left of what was started."""
        if self._process is None:
            return
        until = time.monotonic() + grace
        while self.alive() and time.monotonic() < until:
            time.sleep(0.02)
        leader = self._process.pid
        for pid, words in process_table().items():
            if int(words[3]) == leader:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        process, self._process = self._process, None
        process.wait()

    def last_words(self) -> list[str]:
        """The end of its log."""
        try:
            return self.log.read_bytes()[-2000:].decode("utf-8", "replace").splitlines()[-5:]
        except OSError:
            return []


class RunningGateway:
    """A gateway that somebody else started; it is never stopped here."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        words = address.split(",")
        if len(words) not in (2, 3) or not all(":" in word for word in words[:2]):
            raise Trouble(f"--address wants EDGE:PORT,SERVICE:PORT[,PID], got {address!r}")
        if len(words) == 3 and not words[2].isdigit():
            raise Trouble(f"--address: not a process id: {words[2]!r}")
        self.name = name
        self.edge, self.service = words[:2]
        self.folder = folder
        self._pid = int(words[2]) if len(words) == 3 else None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int | None:
        return self._pid

    def start(self) -> None:
        for address in (self.edge, self.service):
            if not listens(address):
                raise Trouble(f"nothing listens on {address}: start {self.name} first")

    def alive(self) -> bool:
        return listens(self.edge)

    def ask_to_stop(self) -> None:
        """Nothing: it is not ours."""

    def stop(self, grace: float) -> None:
        """Nothing: it is not ours."""

    def last_words(self) -> list[str]:
        return []


def stop_all(gateways: Sequence[Gateway], grace: float = 3.0) -> None:
    """End gateways by process id; one that takes longer than `grace` seconds over SIGTERM is killed."""
    for gateway in gateways:
        gateway.ask_to_stop()
    for gateway in gateways:
        gateway.stop(grace)


def settle(gateways: Sequence[Gateway], longest: float = 10.0) -> None:
    """Wait until no gateway works any more on what the last case left behind."""
    pids = [gateway.pid for gateway in gateways if gateway.pid is not None]
    until = time.monotonic() + longest
    before = [cpu_ticks(pid) for pid in pids]
    while pids and time.monotonic() < until:
        time.sleep(0.4)
        now = [cpu_ticks(pid) for pid in pids]
        if all(after - earlier <= 1 for earlier, after in zip(before, now, strict=True)):
            return
        before = now
