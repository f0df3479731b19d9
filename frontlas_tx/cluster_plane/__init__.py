"""The cluster plane of Frontlas (usual port 40011): who is where, asked by services and operators, over gRPC and REST."""
