"""TLS at every door, tokens, and calls by the control plane."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.launch.certificates import Authority
from tests.launch.test_twistd import Running, configured

from .runner import process, run


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secured(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A gateway with TLS and client certificates everywhere, and tokens at its control plane."""
    certificate, key = authority.issue("localhost", "localhost")
    tls: dict[str, Any] = {
        "enable": True, "mtls": True, "ca_certs": [authority.file], "certs": [{"cert": certificate, "key": key}],
    }  # fmt: skip
    listen = {"network": "tcp", "addr": "127.0.0.1:0", "tls": tls}
    tokens = [
        {"name": "ops", "token": "all-of-it-0123456789abcdef", "roles": ["read", "act", "call"]},
        {"name": "eyes", "token": "read-only-0123456789abcdef", "roles": ["read"]},
    ]
    control = {"enable": True, "listen": {**listen, "tls": {**tls, "mtls": False}}, "access": {"tokens": tokens}}
    path = configured(
        tmp_path, edgebound={"listen": listen}, servicebound={"listen": listen}, controlplane=control
    )  # fmt: skip
    running = Running(tmp_path, "frontier", "-c", path)
    for side, variable in (("edgebound", "EDGE"), ("servicebound", "SERVICE"), ("controlplane", "CONTROL")):
        said = running.wait_for(f"{side} listens on")
        found = re.search(rf"{side} listens on 127\.0\.0\.1:(\d+)", said)
        assert found
        monkeypatch.setenv(f"FRONTIER_{variable}_ADDR", f"localhost:{found[1]}")
    yield running
    running.process.kill()
    running.process.wait()


def test_every_door_with_a_certificate_and_a_token(
    secured: Running, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = authority.issue("me", "me")
    with monkeypatch.context() as patch:
        patch.setenv("FRONTIER_CA", authority.file)
        patch.setenv("FRONTIER_CERT", certificate)
        patch.setenv("FRONTIER_KEY", key)
        patch.setenv("FRONTIER_TOKEN", "all-of-it-0123456789abcdef")
        with process("edge", "serve", "up", "--meta", "robot", "--", "tr", "a-z", "A-Z") as (_, said):
            edge_id = said.split("edge ")[1].split()[0]
            assert run("call", "robot", "up", "x").raw == b"X"
            assert run("call", edge_id, "up", "-", "--http", stdin=b"\xff\x00x").raw == b"\xff\x00X"
            assert run("call", edge_id, "none", "--http").code == 4
            assert run("call", "17", "up", "--http").code == 4
            refused = run("pub", edge_id, "x", "--http")
            assert (refused.code, "nobody takes messages here" in refused.err) == (1, True)
            # A token that may look and not touch.
            assert run("edges", "--token", "read-only-0123456789abcdef").code == 0
            for act in (("kick", edge_id), ("call", edge_id, "up", "--http"), ("drain", "--yes")):
                assert run(*act, "--token", "read-only-0123456789abcdef").code == 5
            wrong = run("edges", "--token", "wrong")
            assert (wrong.code, "FRONTIER_TOKEN" in wrong.err) == (5, True)
            assert run("edges", "--token", "w→ng").code == 2
    # Without a certificate, with one that nobody trusts, without TLS.
    assert run("edge", "call", "x", "--ca", authority.file).code == 3
    done = run("edges", "--tls")
    assert (done.code, "--ca names the authority to trust" in done.err) == (3, True)
    assert run("edges", "--ca", authority.file).code == 5
    assert run("edges", "--insecure").code == 5
    assert run("edges", "--timeout", "3s").code in (3, 6)
    assert run("call", "17", "x", "--timeout", "3s").code == 3
    assert (
        run("edges", "--ca", "/nowhere").code == run("edges", "--ca", key).code == run("edges", "--key", key).code == 2
    )
