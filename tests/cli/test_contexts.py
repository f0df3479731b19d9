"""Contexts, addresses, and what comes before what."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from frontier_tx.cli.failures import Failure
from frontier_tx.cli.settings import Settings

from .runner import run


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FRONTIER_CONTROL_ADDR")
    return tmp_path / "contexts.yaml"


def address(door: str, environment: dict[str, str] | None = None, **options: object) -> str:
    return str(Settings(options, environment or {}).address(door))


def test_a_context_is_added_used_listed_shown_and_removed(file: Path) -> None:
    assert run("context", "add", "prod", "--server", "gw.example.com", "--token", "secret").code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run("context", "add", "lab", "--frontlas", "lab:40011", "--no-use").code == 0
    assert [line.split() for line in run("context", "list").out.splitlines()[1:]] == [
        ["lab", "lab:40011"],
        ["*", "prod", "gw.example.com", "token"],
    ]
    shown = run("context", "show", "--json")
    assert shown.json == {"name": "prod", "server": "gw.example.com", "token": "***"}
    assert "secret" not in run("context", "list", "--json").out
    assert address("service") == "gw.example.com:30011"
    assert Settings({}, {}).token == "secret"
    assert run("context", "use", "lab").code == 0
    assert Settings({}, {}).clustered
    assert run("context", "remove", "lab").code == 0
    assert address("service") == "127.0.0.1:30011"
    assert run("context", "use", "lab").code == 2


def test_what_comes_before_what(file: Path) -> None:
    run("context", "add", "prod", "--server", "prod", "--service-addr", "inner:1")
    environment = {"FRONTIER_SERVER": "variable"}
    assert address("service") == "inner:1"
    assert address("edge") == "prod:30012"
    assert address("service", environment) == "variable:30011"
    assert address("service", environment, server="option") == "option:30011"
    # It was asked for.
    assert address("service", environment, context="prod") == "inner:1"
    assert address("service", server="127.0.0.1:7") == "127.0.0.1:7"


@pytest.mark.parametrize(
    ("text", "found", "tls"),
    [
        ("gw", "gw:30012", False),
        ("tls://gw", "gw:30012", True),
        ("https://gw:443/", "gw:443", True),
        ("::1", "[::1]:30012", False),
        ("[::1]:4", "[::1]:4", False),
        ("unix:/run/edge.sock", "unix:/run/edge.sock", False),
        (":4", "127.0.0.1:4", False),
    ],
)
def test_addresses(file: Path, text: str, found: str, tls: bool) -> None:
    parsed = Settings({"edge_addr": text}, {}).address("edge")
    assert (str(parsed), parsed.tls) == (found, tls)


@pytest.mark.parametrize("text", ["ftp://gw", "gw:port", "gw:99999", "gw:0", "a@b", "gw/x", "gw:1?x", "tls://"])
def test_addresses_that_are_none(file: Path, text: str) -> None:
    with pytest.raises(Failure, match="is no address"):
        Settings({"edge_addr": text}, {}).address("edge")


def test_a_file_that_is_none(file: Path) -> None:
    for text in ("[", "contexts: 4", "contexts: {a: {sever: x}}", "- a", "contexts: {a: b}"):
        file.write_text(text)
        done = run("context", "list")
        assert (done.code, done.err.count("\n")) == (2, 1)


def test_a_file_that_others_can_read(file: Path) -> None:
    file.write_text("current: a\ncontexts: {a: {server: '127.0.0.1:1', token: secret}}\n")
    os.chmod(file, 0o644)
    assert f"chmod 600 {file}" in run("edges").err


def test_a_context_names_its_server(file: Path) -> None:
    for arguments in (("a",), ("a\x1b", "--server", "x"), ("a", "--server", "x", "--ca", "/nowhere")):
        assert run("context", "add", *arguments).code == 2


def test_the_token_comes_from_standard_input(file: Path) -> None:
    run("context", "add", "a", "--server", "x", "--token-from-stdin", stdin=b"secret\n")
    assert Settings({}, {}).token == "secret"
