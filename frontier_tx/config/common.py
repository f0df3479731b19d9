"""Sections that both servers have."""

from __future__ import annotations

from dataclasses import dataclass

from frontier_tx.config.address import split_host_port
from frontier_tx.config.kinds import (
    Choice,
    Flag,
    ListenAddress,
    Number,
    PeerAddress,
    PeerAddresses,
    Text,
    Texts,
    Whole,
)
from frontier_tx.config.schema import section, sections, setting

_UDP = "frames need an ordered byte stream, and datagrams are not one; no edge ever got through a handshake over udp"
_NETWORK = Choice("tcp", refused={"udp": _UDP})


@dataclass(frozen=True, slots=True, kw_only=True)
class CertKey:
    """A certificate and its private key."""

    cert: str = setting("", Text("path of a PEM file"), "certificate, followed by intermediate ones if there are any")
    key: str = setting("", Text("path of a PEM file"), "private key, without a passphrase")


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """TLS 1.2 or 1.3, of a listener or of a connection that the server makes."""

    enable: bool = setting(False, Flag(), "speak TLS")
    mtls: bool = setting(
        False, Flag(), "listener: require a client certificate from `ca_certs`; dialler: present `certs`"
    )
    ca_certs: tuple[str, ...] = setting(
        (), Texts("a list of paths of PEM files"), "authorities that vouch for the peer"
    )
    certs: tuple[CertKey, ...] = sections(
        CertKey, "own certificates; a listener with several picks by the name the peer asks for"
    )
    insecure_skip_verify: bool = setting(False, Flag(), "dialler: accept any certificate of the server")
    server_name: str = setting(
        "", Text("a host name"), "dialler: name expected in the certificate; the address's host if empty"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """One listening port."""

    network: str = setting("tcp", _NETWORK, "kind of network")
    addr: str = setting("", ListenAddress(), "address to listen on; without a host every address, port 0 any free port")
    advertised_addr: str = setting(
        "", PeerAddress(), "address told to others instead of `addr`, for ports behind a translation or a name"
    )
    tls: TLS = section(TLS())

    @property
    def host(self) -> str:
        """The host of `addr`, empty for every address. An IPv6 address comes without brackets."""
        return split_host_port(self.addr)[0]

    @property
    def port(self) -> int:
        """The port of `addr`."""
        return split_host_port(self.addr)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """Where and how to connect."""

    network: str = setting("tcp", _NETWORK, "kind of network")
    addrs: tuple[str, ...] = setting((), PeerAddresses(), "addresses to connect to", "addr")
    advertised_addr: str = setting("", Text(), "accepted for existing files, no effect")
    tls: TLS = section(TLS())


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """The log file and its rotation."""

    path: str = setting("", Text("a path", empty_is_default=True), "the file")
    max_size: int = setting(100, Whole(1, 1_048_576, "MiB", zero_is_default=True), "size at which a new file is begun")
    max_backups: int = setting(5, Whole(0, 100_000), "old files kept; 0 keeps all")
    max_age: int = setting(30, Whole(0, 36_500, "days"), "age at which old files are deleted; 0 never")
    compress: bool = setting(False, Flag(), "compress old files with gzip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is logged, where and how."""

    level: str = setting(
        "info",
        Choice("debug", "info", "warn", "error", also={"warning": "warn", "critical": "error", "fatal": "error"}),
        "least level that is logged",
    )
    output: str = setting("stdout", Choice("stdout", "stderr", "file", "both"), "`both` is stdout and the file")
    format: str = setting("text", Choice("text", "json"), "one readable line per event, or one JSON object per line")
    file: LogFile = section(LogFile(), "used when `output` is `file` or `both`")


@dataclass(frozen=True, slots=True, kw_only=True)
class RLimit:
    """The limit of open files, hence of connections."""

    enable: bool = setting(
        False, Flag(), "set the limit to `nofile`; otherwise it is raised as far as the system allows"
    )
    nofile: int = setting(1_048_576, Whole(-1, 1 << 30), "open files; -1 leaves the limit alone", "num_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class PProf:
    """A listener with diagnostics of the process. This version has none: the port stays closed."""

    enable: bool = setting(False, Flag(), "serve diagnostics")
    addr: str = setting("", ListenAddress(), "address of the diagnostics listener")
    cpu_profile_rate: int = setting(
        0, Whole(0, 1_000_000, "Hz"), "accepted for existing files; a Python profiler has no such rate"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Observability:
    """Health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`."""

    enable: bool = setting(True, Flag(), "serve health and metrics")
    addr: str = setting("", ListenAddress(), "address of the listener")


_SECONDS = Number(0.05, 3600)
_COUNT = Whole(1, 100_000_000)
_FRAME = Whole(4096, 1 << 30, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """What one connection may cost."""

    frame_bytes: int = setting(10_485_760, _FRAME, "largest frame body taken from a peer that said nothing of sizes")
    peer_frame_bytes: int = setting(
        16_777_216, _FRAME, "largest frame body taken from a peer that declared it takes as much itself"
    )
    handshake_bytes: int = setting(1_048_576, _FRAME, "largest frame body taken before the handshake is done")
    handshake_seconds: float = setting(10.0, _SECONDS, "time for TLS and handshake together")
    frame_stall_seconds: float = setting(
        20.0, _SECONDS, "a peer in the middle of a frame must send `frame_stall_bytes` within this time"
    )
    frame_stall_bytes: int = setting(4096, Whole(1, 1 << 30, "bytes"), "see `frame_stall_seconds`")
    open_seconds: float = setting(30.0, _SECONDS, "time for opening a stream")
    dismiss_seconds: float = setting(30.0, _SECONDS, "time for closing a stream in order")
    close_seconds: float = setting(5.0, _SECONDS, "time for closing a connection in order; then it is aborted")
    stream_hold_seconds: float = setting(
        0.015, Number(0, 1), "a stream that ends at once is closed this late, for Go clients that would miss the end"
    )
    sessions_per_connection: int = setting(100_000, _COUNT, "streams open at once per connection")
    write_high_bytes: int = setting(
        8_388_608, _FRAME, "bytes waiting for a receiver from which its senders are no longer read from"
    )
    write_buffer_bytes: int = setting(33_554_432, _FRAME, "bytes waiting for a receiver at most; more is refused")
    write_stall_seconds: float = setting(
        30.0,
        _SECONDS,
        "a receiver that has taken nothing of what waits for it for so long is disconnected, and one that has kept "
        "senders of streams stopped for so long",
    )
    connections: int = setting(100_000, _COUNT, "connections per listener at once; further ones are closed")
    drain_seconds: float = setting(
        30.0, Number(0, 86_400), "time that a stop in order may take, goodbyes included; then connections are cut"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneLimits:
    """What the callers of the control plane may cost. An IPv6 address counts by its first 64 bits."""

    connections: int = setting(
        10_000, Whole(1, 1_000_000), "connections at once; when all are taken idle ones make room"
    )
    connections_per_address: int = setting(2_000, Whole(1, 1_000_000), "the same from one address")
    arrivals: int = setting(5_000, Whole(1, 1_000_000), "connections that one address may open at once")
    arrivals_per_second: float = setting(500.0, Number(0.1, 1_000_000, ""), "and as many more each second")
    body_bytes: int = setting(
        4_194_304, Whole(1024, 1 << 30, "bytes"), "one gRPC message, or what REST hands to an edge or a service"
    )
    request_bytes: int = setting(
        67_108_864,
        Whole(65_536, 1 << 40, "bytes"),
        "bodies of requests that are not complete, in all, and half of it for one address",
    )
    answer_bytes: int = setting(
        268_435_456,
        Whole(1_048_576, 1 << 40, "bytes"),
        "answers that are not read, in all, and a quarter of it for one address; larger ones are refused then",
    )
