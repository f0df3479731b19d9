"""What every demonstration stands on: lines of the story, free ports, and the processes of the servers."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.task import deferLater, react

from frontier_tx.clients import Canceled

HOST = "127.0.0.1"
START_SECONDS = 20.0


def say(who: str, text: str) -> None:
    """One line of the story."""
    print(f"{who:>10} | {text}", flush=True)


def chapter(title: str) -> None:
    """What the next lines are about."""
    print(f"\n{title}", flush=True)


def play(story: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run a story to its end; Ctrl-C and SIGTERM let it tidy up first. Exit statuses are the usual ones."""

    async def played(reactor: Any) -> None:
        telling = ensureDeferred(story(reactor))
        came: list[int] = []

        def stop(number: int, frame: object) -> None:
            came.append(number)
            reactor.callFromThread(telling.cancel)

        def listen() -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, stop)

        # The reactor takes these signals when it starts.
        reactor.callWhenRunning(listen)
        try:
            await telling
        except BrokenPipeError:
            # Nobody reads on (`| head`); the interpreter would complain once more when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise SystemExit(128 + signal.SIGPIPE) from None
        except (CancelledError, Canceled):
            if not came:
                raise
        if came:
            if sys.stdout.isatty():
                print()  # behind a bar that is not full
            say("demo", "interrupted; all processes stopped")
            raise SystemExit(128 + came[0])

    react(played)


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of the loopback."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on, all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def environment() -> dict[str, str]:
    """That of this process, without what would configure a server (docs/configuration.md, "Environment")."""
    configures = ("FRONTIER_", "FRONTLAS_", "LOG_", "REDIS_", "NODE_NAME", "MASTER_NAME")
    return {name: value for name, value in os.environ.items() if not name.startswith(configures)}


class Servers:
    """The processes of the demonstration, in a folder that goes with them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="frontier-demo-")
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str]) -> None:
        """Start one; its log goes into the folder."""
        with self._log(name).open("wb") as log:
            self.running[name] = subprocess.Popen(  # noqa: S603 - our own words
                command, stdout=log, stderr=log, cwd=self._folder.name, env=environment()
            )

    def twistd(self, name: str, program: str, config: dict[str, Any]) -> None:
        """Start a server of this distribution."""
        file = Path(self._folder.name) / f"{name}.yaml"
        file.write_text(json.dumps(config))
        twistd = Path(sys.executable).parent / "twistd"
        command = str(twistd) if twistd.exists() else shutil.which("twistd") or "twistd"
        self.start(name, [sys.executable, command, "-n", "--pidfile=", program, "-c", str(file)])

    def _log(self, name: str) -> Path:
        return Path(self._folder.name) / f"{name}.log"

    async def ready(self, reactor: Any, name: str, port: int) -> None:
        """Wait until a server's port is open."""
        until = reactor.seconds() + START_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    return
            if self.running[name].poll() is not None or reactor.seconds() > until:
                print(self._log(name).read_text(errors="replace"), file=sys.stderr)
                raise SystemExit(f"demo: {name} did not start; its log is above")
            await deferLater(reactor, 0.05)

    def kill(self, name: str) -> None:
        """End one at once, without a goodbye."""
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def close(self) -> None:
        """End all of them."""
        for name in list(self.running):
            self.kill(name)
        self._folder.cleanup()


async def with_servers(story: Callable[[Servers], Coroutine[Any, Any, None]]) -> None:
    """Tell a story that needs servers, and leave nothing behind."""
    servers = Servers()
    try:
        await story(servers)
    finally:
        servers.close()
    chapter("The end")
    say("demo", "all processes stopped")
