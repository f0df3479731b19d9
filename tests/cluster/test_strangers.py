"""The door of Frontlas for Frontiers asks for certificates where that is configured."""

from pathlib import Path
from typing import Any

from tests.cluster.processes import Frontier, Frontlas, wait_until
from tests.launch.certificates import Authority
from tests.redis.servers import free_ports


class SecureFrontlas(Frontlas):
    """A Frontlas with its registry in memory that hears holders of a certificate alone."""

    def __init__(self, folder: Path, ports: list[int], tls: dict[str, Any]) -> None:
        super().__init__(folder, "frontlas", 1, ports)
        del self.config["redis"]
        self.config["frontier_plane"]["listen"]["tls"] = tls
        self.write()


def listed(frontlas: Frontlas) -> list[str]:
    answer = frontlas.ask("/cluster/v1/frontiers")
    return sorted(each["frontierId"] for each in answer["frontiers"]) if isinstance(answer, dict) else []


def test_only_holders_of_a_certificate_are_heard(tmp_path: Path) -> None:
    folder = tmp_path
    ours, theirs = Authority(folder), Authority(folder, "theirs")
    ports = free_ports(9)
    cert, key = ours.issue("frontlas", "localhost", "frontlas.example")
    tls = {"enable": True, "mtls": True, "certs": [{"cert": cert, "key": key}], "ca_certs": [ours.file]}
    frontlas = SecureFrontlas(folder, ports[:3], tls)

    def gateway(name: str, at: list[int], authority: Authority | None) -> Frontier:
        client: dict[str, Any] = {"enable": True, "ca_certs": [ours.file], "server_name": "frontlas.example"}
        if authority is not None:
            cert, key = authority.issue(name, f"{name}.example")
            client |= {"mtls": True, "certs": [{"cert": cert, "key": key}]}
        made = Frontier(folder, name, [frontlas], at)
        made.config["frontlas"]["dial"]["tls"] = client
        made.write()
        return made

    servers = [
        frontlas,
        gateway("known", ports[3:5], ours),
        gateway("stranger", ports[5:7], theirs),
        gateway("bare", ports[7:9], None),
    ]
    try:
        for server in servers:
            server.start()
        wait_until(lambda: listed(frontlas) == ["known"], "the gateway with a certificate is listed", 30)
        for stranger in servers[2:]:
            wait_until(lambda stranger=stranger: "Frontlas: " in stranger.log(), f"{stranger.name} is refused", 30)
        assert listed(frontlas) == ["known"]
    finally:
        for server in servers:
            server.close()
