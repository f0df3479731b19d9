"""The cluster plane of Frontlas (usual port 40011): who is where, asked over gRPC and REST."""
