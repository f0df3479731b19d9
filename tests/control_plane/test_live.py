"""A Frontier process and what people have: curl, generated Python stubs, schemathesis; and its end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.control_plane.running import Running
from tests.rpc.conformance import conform

PROTOS = Path(__file__).parents[2] / "frontier_tx" / "rpc" / "protos"
STUBS = """
import sys
sys.path.insert(0, sys.argv[1])
import grpc, controlplane_pb2 as pb, controlplane_pb2_grpc, frontier_v1_pb2 as v1, frontier_v1_pb2_grpc
channel = grpc.insecure_channel(sys.argv[2])
edge_id, service_id = int(sys.argv[3]), int(sys.argv[4])
plane = controlplane_pb2_grpc.ControlPlaneStub(channel)
assert plane.ListEdges(pb.ListEdgesRequest(meta="plant", rpc="echo")).count == 1
assert plane.GetEdge(pb.GetEdgeRequest(edge_id=edge_id)).meta == "plant-1/robot-a"
assert list(plane.ListEdgeRPCs(pb.ListEdgeRPCsRequest()).rpcs) == ["echo"]
assert plane.ListServices(pb.ListServicesRequest(topic="orders")).services[0].service == "billing"
assert plane.GetService(pb.GetServiceRequest(service_id=service_id)).service == "billing"
assert list(plane.ListServiceRPCs(pb.ListServiceRPCsRequest()).rpcs) == ["echo"]
assert list(plane.ListServiceTopics(pb.ListServiceTopicsRequest()).topics) == ["orders"]
try:
    plane.KickService(pb.KickServiceRequest(service_id=5))
except grpc.RpcError as error:
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "service not online")
through = frontier_v1_pb2_grpc.ThroughStub(channel)
assert through.CallEdge(v1.CallEdgeRequest(edge_id=edge_id, method="echo", data=b"hi"), timeout=5).data == b"hi"
events = frontier_v1_pb2_grpc.EventsStub(channel).Watch(v1.WatchRequest(snapshot=True))
assert [next(events).kind for _ in range(3)] == ["edge_online", "service_online", "snapshot_end"]
events.cancel()
plane.KickEdge(pb.KickEdgeRequest(edge_id=edge_id))
try:
    plane.GetEdge(pb.GetEdgeRequest(edge_id=edge_id))
except grpc.RpcError as error:
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "not found")
else:
    raise AssertionError("it is still there")
"""


def test_generated_python_stubs(running: Running, tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    wellknown = Path(protoc.__file__).parent / "_proto"
    files = ["controlplane.proto", "frontier_v1.proto", "google/api/annotations.proto", "google/api/http.proto"]
    out = [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
    assert protoc.main(["protoc", f"-I{PROTOS}", f"-I{wellknown}", *out, *files]) == 0
    # A process of its own: the names of both servers' contracts are the same.
    command = [sys.executable, "-c", STUBS, str(tmp_path), running.address]
    command += [str(running.edge_id), str(running.service_id)]
    subprocess.run(command, check=True, timeout=50)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
def test_the_end(running: Running) -> None:
    """While the gateway drains it is not ready, and can be asked; then its process ends."""
    watching = subprocess.Popen(
        ["curl", "-sN", f"http://{running.address}/v1/events?kinds=draining"], stdout=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    time.sleep(0.5)
    assert running.get("/readyz", running.status_port) == (200, b"ready")
    request = urllib.request.Request(f"http://{running.address}/v1/server/drain", method="POST")
    # An edge that is stopped keeps it waiting.
    running.peers.send_signal(signal.SIGSTOP)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.read() == b"{}"
        assert watching.stdout.readline() == "event: draining\n"
        assert running.get("/readyz", running.status_port) == (503, b"not ready: draining")
        assert json.loads(running.get("/v1/edges")[1])["count"] == 1
    finally:
        running.peers.send_signal(signal.SIGCONT)
        watching.kill()
        watching.communicate()
    assert running.server.wait(15) == 0


def test_schemathesis(running: Running) -> None:
    assert conform(running.address, "/v1/events", "/v1/server/drain") > 15
    assert running.get("/v1/services")[0] == 200
