"""grpcurl, and Go programs whose stubs are made from our contracts, against a Frontier and a whole cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cluster.processes import Frontier, Frontlas, wait_until
from tests.control_plane.running import Running, start_peers
from tests.go_modules import BUILD_SECONDS, NoGo, build
from tests.redis.servers import RedisServer, free_ports

# The first test builds everything: grpcurl's own requirements alone are a minute of both cores where nothing is cached.
pytestmark = pytest.mark.timeout(3 * BUILD_SECONDS)
SOURCE = Path(__file__).parent / "gostubs"
PROTOS = Path(__file__).parents[2] / "frontier_tx" / "rpc" / "protos"
TOOLS = (
    "github.com/fullstorydev/grpcurl/cmd/grpcurl",
    "google.golang.org/protobuf/cmd/protoc-gen-go",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
)
ANNOTATIONS = "google.golang.org/genproto/googleapis/api/annotations"
#: The files of a Frontier, those of a Frontlas. Both name the same things: no program has both, and no run of protoc.
CONTRACTS = (
    ("controlplane.proto", "frontier_v1.proto"),
    ("cluster.proto", "cluster_watch.proto", "frontlas_v1.proto"),
)
PACKAGES = {
    "controlplane.proto": "gostubs/pb/controlplane",
    "frontier_v1.proto": "gostubs/pb/frontierv1",
    "cluster.proto": "gostubs/pb/cluster",
    "cluster_watch.proto": "gostubs/pb/cluster",
    "frontlas_v1.proto": "gostubs/pb/frontlasv1",
    "google/api/annotations.proto": ANNOTATIONS,
    "google/api/http.proto": ANNOTATIONS,
}


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of grpcurl, protoc's plug-ins and both of our programs."""
    folder = tmp_path_factory.mktemp("go")
    module, built = folder / "gostubs", folder / "bin"
    shutil.copytree(SOURCE, module)
    try:
        build(module, built, *TOOLS)
    except NoGo as why:
        pytest.skip(str(why))
    generate(module, built)
    build(module, built, "./frontier", "./frontlas")
    return built


def generate(module: Path, plugins: Path) -> None:
    """Go stubs of all contracts, into the module."""
    protoc = find_spec("grpc_tools")
    assert protoc is not None and protoc.origin is not None, "pip install grpcio-tools"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{Path(protoc.origin).parent / '_proto'}"]
    for plugin in ("go", "go-grpc"):
        command += [f"--plugin={plugins / f'protoc-gen-{plugin}'}", f"--{plugin}_out={module}"]
        command += [f"--{plugin}_opt=module=gostubs"]
        command += [f"--{plugin}_opt=M{proto}={package}" for proto, package in PACKAGES.items()]
    for protos in CONTRACTS:
        done = subprocess.run([*command, *protos], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def run(program: Path, *arguments: object) -> str:
    """What a program writes, which has to end well."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return done.stdout


def test_grpcurl(programs: Path, running: Running) -> None:
    def grpcurl(*arguments: str) -> str:
        return run(programs / "grpcurl", "-plaintext", *arguments)

    named = grpcurl(running.address, "list").split()
    assert {"controlplane.ControlPlane", "frontier.v1.Through", "grpc.health.v1.Health"} <= set(named)
    for name in named:
        assert f"service {name.split('.')[-1]} {{" in grpcurl(running.address, "describe", name)
    assert "rpc KickEdge" in grpcurl(running.address, "describe", "controlplane.ControlPlane")
    listed = json.loads(grpcurl("-d", '{"meta":"plant"}', running.address, "controlplane.ControlPlane/ListEdges"))
    assert listed["edges"][0]["edge_id"] == str(running.edge_id)
    call = {"edge_id": running.edge_id, "method": "echo", "data": "aGk="}
    assert (
        json.loads(grpcurl("-d", json.dumps(call), running.address, "frontier.v1.Through/CallEdge"))["data"] == "aGk="
    )
    assert "SERVING" in grpcurl(running.address, "grpc.health.v1.Health/Check")


def test_go_stubs_at_a_frontier(programs: Path, running: Running) -> None:
    run(programs / "frontier", running.address, running.edge_id, running.service_id)


def test_go_stubs_at_a_frontlas(programs: Path, tmp_path: Path) -> None:
    ports = free_ports(6)
    redis = RedisServer(ports[0])
    frontlas = Frontlas(tmp_path, "a", redis.port, ports[1:4])
    frontier = Frontier(tmp_path, "one", [frontlas], ports[4:6])
    peers: subprocess.Popen[str] | None = None
    try:
        for server in (redis, frontlas, frontier):
            server.start()
        peers, edge_id, service_id = start_peers(frontier.edge_port, frontier.service_port)
        wait_until(lambda: frontlas.edges() == 1, "Frontlas counts the edge", 30)
        wait_until(lambda: frontlas.ask("/cluster/v1/services/count") == {"count": "1"}, "and the service")
        address = f"127.0.0.1:{frontlas.api}"
        assert "controlplane.ClusterService" in run(programs / "grpcurl", "-plaintext", address, "list")
        run(programs / "frontlas", address, edge_id, service_id)
    finally:
        if peers is not None:
            peers.kill()
            peers.communicate()
        for each in (frontier, frontlas, redis):
            each.close()
