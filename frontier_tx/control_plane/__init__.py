"""Frontier's control plane, usually port 30010: gRPC and REST for operators (docs/control-plane.md)."""
