"""Servers of a cluster as real processes on free ports of the loopback."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.redis.servers import wait_until

TWISTD = Path(sys.executable).parent / "twistd"


class Server:
    """A twistd process with a configuration in a folder of its own."""

    def __init__(self, folder: Path, program: str, name: str, config: dict[str, Any]) -> None:
        self.name = name
        self._program = program
        self._folder = folder / name
        self._folder.mkdir()
        self.config = config
        self.write()
        self._process: subprocess.Popen[bytes] | None = None

    def write(self) -> None:
        """Write its file, before it starts."""
        (self._folder / "config.yaml").write_text(json.dumps(self.config))

    def start(self) -> None:
        """Start it; its log goes to a file."""
        command = [sys.executable, str(TWISTD), "-n", "--pidfile=", self._program, "-c", "config.yaml"]
        environ = {**os.environ, "FRONTIER_DRAIN_SECONDS": "1"}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, env=environ)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that ends it is waited for."""
        assert self._process is not None
        self._process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._process.wait(15)

    def wait(self, seconds: float) -> int:
        """Its exit status, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    def log(self) -> str:
        """What it has logged so far."""
        return (self._folder / "log").read_text()

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Frontlas(Server):
    """A Frontlas over a Redis server."""

    def __init__(self, folder: Path, name: str, redis_port: int, ports: list[int]) -> None:
        self.api, self.plane, observe = ports
        super().__init__(
            folder,
            "frontlas",
            name,
            {
                "control_plane": {"listen": {"addr": f"127.0.0.1:{self.api}"}},
                "frontier_plane": {"listen": {"addr": f"127.0.0.1:{self.plane}"}},
                "observability": {"addr": f"127.0.0.1:{observe}"},
                "redis": {"mode": "standalone", "standalone": {"addr": f"127.0.0.1:{redis_port}"}},
            },
        )

    def ask(self, path: str) -> Any:
        """GET a path of its REST API; the parsed answer, or the status where it is an error."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.api}{path}", timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def edges(self) -> int:
        """The number of edges that it counts; -1 while it does not answer."""
        answer = self.ask("/cluster/v1/edges/count")
        return int(answer["count"]) if isinstance(answer, dict) else -1

    def holder(self, edge_id: int) -> str:
        """The Frontier of an edge; empty where there is none."""
        answer = self.ask(f"/cluster/v1/frontier?edge_id={edge_id}")
        return str(answer["fontier"]["frontierId"]) if isinstance(answer, dict) else ""


class Frontier(Server):
    """A gateway that reports to some Frontlas; ``options`` are those of the section ``frontlas``."""

    def __init__(self, folder: Path, name: str, frontlas: list[Frontlas], ports: list[int], **options: Any) -> None:
        self.edge_port, self.service_port = ports
        super().__init__(
            folder,
            "frontier",
            name,
            {
                "daemon": {"frontier_id": name},
                "edgebound": {
                    "listen": {"addr": f"127.0.0.1:{self.edge_port}"},
                    "edgeid_alloc_when_no_idservice_on": True,
                },
                "servicebound": {"listen": {"addr": f"127.0.0.1:{self.service_port}"}},
                "observability": {"enable": False},
                "frontlas": {
                    "enable": True,
                    "dial": {"addr": [f"127.0.0.1:{each.plane}" for each in frontlas]},
                    **options,
                },
            },
        )


__all__ = ["Frontier", "Frontlas", "Server", "wait_until"]
