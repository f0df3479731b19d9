"""A Frontier process with an edge and a service."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.gateways import free_ports
from tests.cluster.processes import Server


def start_peers(edge_port: int, service_port: int) -> tuple[subprocess.Popen[str], int, int]:
    """The process of both peers, and the ids of the edge and the service, once they are online."""
    command = [sys.executable, "-m", "tests.control_plane.peers", str(edge_port), str(service_port)]
    peers = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert peers.stdout is not None
    edge_id, service_id = map(int, peers.stdout.readline().split())
    return peers, edge_id, service_id


class Running:
    """A Frontier with one edge and one service."""

    def __init__(self, folder: Path) -> None:
        self.edge_port, self.service_port, self.port, self.status_port = free_ports(4)
        self.server = Server(
            folder,
            "frontier",
            "gateway",
            {
                "edgebound": {
                    "listen": {"addr": f"127.0.0.1:{self.edge_port}"},
                    "edgeid_alloc_when_no_idservice_on": True,
                },
                "servicebound": {"listen": {"addr": f"127.0.0.1:{self.service_port}"}},
                "controlplane": {"enable": True, "listen": {"addr": f"127.0.0.1:{self.port}"}},
                "observability": {"enable": True, "addr": f"127.0.0.1:{self.status_port}"},
            },
        )
        self.server.start()
        self.address = f"127.0.0.1:{self.port}"
        self.peers, self.edge_id, self.service_id = start_peers(self.edge_port, self.service_port)

    def close(self) -> None:
        """End both."""
        self.peers.kill()
        self.peers.communicate()
        self.server.close()

    def get(self, path: str, port: int = 0) -> tuple[int, bytes]:
        """Status and body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
