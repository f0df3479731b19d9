"""Real curl and openssl at a control port: TLS, client certificates, bodies, slow and odd clients."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from frontier_tx.config.access import AccessControl, ClientIdentity, Token
from frontier_tx.config.common import TLS, CertKey, Listen
from frontier_tx.rpc.access import Access
from frontier_tx.rpc.listener import ALPN
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.runtime.tls import server_context
from tests.launch.certificates import Authority
from tests.rpc.live import Live
from tests.rpc.support import THROUGH, Echo

if shutil.which("curl") is None or shutil.which("openssl") is None:
    pytest.skip("needs curl and openssl", allow_module_level=True)

ECHO = "/v1/edges/7/rpcs/pkg%2FEcho"


@asynccontextmanager
async def serving(access: Access | None = None, tls: Any = None) -> AsyncIterator[tuple[Live, Echo]]:
    from twisted.internet import reactor

    echo = Echo()
    table = MethodTable(echo.contract, reactor, access=access)
    table.add(THROUGH, echo, "call")
    live = await Live(table=table).open(tls)
    try:
        yield live, echo
    finally:
        await live.close()


async def curl(*args: str) -> tuple[str, bytes]:
    """Status and body."""

    def run() -> tuple[str, bytes]:
        done = subprocess.run(
            ["curl", "-s", "-w", "\n%{http_code}", *args], capture_output=True, timeout=30, check=False
        )
        body, _, status = done.stdout.rpartition(b"\n")
        return status.decode(), body

    answer: tuple[str, bytes] = await deferToThread(run)
    return answer


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
@pytest_twisted.ensureDeferred
async def test_bodies(tmp_path: Path, version: str) -> None:
    async with serving() as (live, echo):
        url = f"http://{live.address}{ECHO}"
        for size in (0, 1, 70_000, 4_000_000):
            file = tmp_path / "body"
            file.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
            assert await curl(version, "--data-binary", f"@{file}", url) == ("200", file.read_bytes())
        assert {seen[1] for seen in echo.seen} == {"pkg/Echo"}
        file.write_bytes(bytes(5_000_000))
        for extra in (["-H", "Transfer-Encoding: chunked"], ["-H", "Expect:"], []):
            status, body = await curl(version, *extra, "--data-binary", f"@{file}", url)
            assert (status, json.loads(body)["reason"]) == ("413", "TOO_LARGE")
        typed = ["-H", "Content-Type: application/json", "-i", "-d", '{"a":1}', url]
        assert b"application/json" in (await curl(version, *typed))[1].lower()
        assert (await curl(version, "-X", "PUT", "-d", "x", url))[0] == "404"
        assert (await curl(version, "-d", "x", f"{url}?timeout=soon"))[0] == "400"
        assert live.factory.budget.held == 0


@pytest_twisted.ensureDeferred
async def test_client_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server", "localhost")
    ours, theirs = authority.issue("ops", "ops.example.org"), authority.issue("other", "other.example.org")
    tls = TLS(enable=True, mtls=True, certs=(CertKey(cert=cert, key=key),), ca_certs=(authority.file,))
    listen = Listen(addr="127.0.0.1:0", tls=tls)
    identity = ClientIdentity(name="operator", subject="ops.example.org", roles=("call",))
    token = Token(name="script", token="script-0123456789", roles=("call",))
    access = Access(AccessControl(identities=(identity,), tokens=(token,)), listen, "controlplane.access")
    async with serving(access, server_context(tls, "controlplane.listen.tls", ALPN)) as (live, echo):
        url = f"https://localhost:{live.port}{ECHO}"
        for version in ("--http1.1", "--http2"):
            base = (version, "--cacert", authority.file, "-d", "x", url)
            assert await curl("--cert", ours[0], "--key", ours[1], *base) == ("200", b"x")
            assert (await curl("--cert", theirs[0], "--key", theirs[1], *base))[0] == "401"
            shown = ("-H", f"Authorization: Bearer {token.token}")
            assert (await curl("--cert", theirs[0], "--key", theirs[1], *shown, *base))[0] == "200"
            # Without any the handshake fails.
            assert (await curl(*base))[0] == "000"
        assert [seen[3] for seen in echo.seen] == ["operator", "script"] * 2


@pytest_twisted.ensureDeferred
async def test_alpn_and_old_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server", "localhost")
    tls = TLS(enable=True, certs=(CertKey(cert=cert, key=key),))
    async with serving(None, server_context(tls, "controlplane.listen.tls", ALPN)) as (live, _):

        def ask(*args: str) -> str:
            command = ["openssl", "s_client", "-connect", live.address, *args]
            done = subprocess.run(command, input=b"", capture_output=True, timeout=20, check=False)
            return (done.stdout + done.stderr).decode("latin-1")

        assert "ALPN protocol: h2" in await deferToThread(ask, "-alpn", "h2,http/1.1")
        assert "ALPN protocol: http/1.1" in await deferToThread(ask, "-alpn", "http/1.1")
        assert "No ALPN negotiated" in await deferToThread(ask)
        assert "alert" in await deferToThread(ask, "-tls1_1")
