"""Where a Redis server listens."""

from __future__ import annotations

from typing import NamedTuple


class Address(NamedTuple):
    """Where a server listens: host and port, or the path of a Unix socket as host with port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, default_port: int = 6379) -> Address:
        """From ``host:port``, ``[v6]:port``, ``host`` or ``/path``; raises ``ValueError`` naming the text."""
        text = text.strip()
        if text.startswith("/"):
            return cls(text, 0)
        host, colon, port = text.rpartition(":")
        if not colon or (":" in host and not host.startswith("[")):
            host, port = text, str(default_port)
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} is not an address: write host:port with a port from 1 to 65535")
        return cls(host.strip("[]") or "localhost", int(port))
