"""Traces: spans of a gateway, and what joins those of clients to them (docs/observability.md, "Traces")."""
