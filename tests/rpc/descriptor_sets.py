"""Compiles the .proto files to the descriptor sets that are installed; run as a script it writes them.

python tests/rpc/descriptor_sets.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parents[2] / "frontier_tx" / "rpc" / "protos"
STANDARD = (
    "google/api/annotations.proto",
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto",
    "kratos/api/metadata.proto",
    "rest_error.proto",
)
SETS = {
    "frontier.binpb": ("controlplane.proto", "frontier_v1.proto", *STANDARD),
    "frontlas.binpb": ("cluster.proto", "health.proto", "cluster_watch.proto", "frontlas_v1.proto", *STANDARD),
}


def compile_set(files: tuple[str, ...]) -> bytes:
    """The serialised FileDescriptorSet of these files with all their imports."""
    wellknown = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        status = protoc.main(
            ["protoc", f"-I{PROTOS}", f"-I{wellknown}", "--include_imports", f"--descriptor_set_out={out}", *files]
        )
        if status:
            raise SystemExit(f"protoc ended with status {status}")
        return out.read_bytes()


if __name__ == "__main__":
    for name, files in SETS.items():
        (PROTOS / name).write_bytes(compile_set(files))
        sys.stdout.write(f"wrote {name}\n")
