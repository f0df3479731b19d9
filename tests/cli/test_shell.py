"""The shell, the benchmark, an edge that does several things, and what stands on a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from frontier_tx.aio import Request
from frontier_tx.cli.bench import Latencies

from .runner import World, process, run
from .terminal import Terminal


async def echo(request: Request) -> bytes:
    return request.data


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for each in opened:
        each.close()


def test_lines_from_a_pipe_go_over_one_connection(world: World) -> None:
    edge = world.edge(echo=echo)
    connected = len(world.gateway.core.connections())
    lines = f"call {edge.edge_id} echo 'a b' # why\n\ncall {edge.edge_id} echo c --json\ncall 17 x\nbad\n'\n"
    done = run("shell", stdin=(lines + f"call {edge.edge_id} none\n").encode())
    assert done.code == 4
    assert done.out == f'a b{{"edge_id": {edge.edge_id}, "method": "echo", "data": "c"}}\n'
    assert done.err.count("\n") == 4
    assert len(world.gateway.core.connections()) == connected
    assert run("shell", stdin=b"exit\nbad\n").code == 0


def test_a_person_at_the_prompt(world: World, tmp_path: Path, terminals: list[Terminal]) -> None:
    edge = world.edge(echo=echo)
    shell = Terminal("shell", XDG_STATE_HOME=str(tmp_path))
    terminals.append(shell)
    shell.until("frontier> ")
    shell.type(f"call {edge.edge_id} echo hello\n")
    assert "\r\nhello\r\n" in shell.until("\r\nhello\r\n")
    shell.until("frontier> ")
    shell.type("ser\t")
    # There are several: a bell.
    shell.until("\x07")
    # Python does not see one that comes while readline works on a key.
    while "frontier> " not in shell.seen:
        shell.type("\x03")
        shell.wait("frontier> ", 0.5)
    shell.until("frontier> ")
    shell.type("sub news\n")
    shell.until("takes news; Ctrl-C ends it")
    shell.type("\x03")
    shell.until("frontier> ")
    shell.type(f"call {edge.edge_id} echo again\n")
    shell.until("\r\nagain\r\n")
    shell.until("frontier> ")
    shell.type("\x04")
    shell.rest()
    assert shell.process.returncode == 0
    history = tmp_path / "frontier" / "history"
    assert history.read_text().splitlines()[0] == f"call {edge.edge_id} echo hello"
    assert history.stat().st_mode & 0o077 == 0


def test_what_an_edge_answers_does_nothing_to_a_terminal(world: World, terminals: list[Terminal]) -> None:
    edge = world.edge(echo=echo)
    for arguments in (
        ("call", str(edge.edge_id), "echo", "\x1b[2J\x07 x\u202e"),
        ("call", str(edge.edge_id), "no\x1b[2J"),
    ):
        at = Terminal(*arguments)
        terminals.append(at)
        said = at.rest()
        assert "\\x1b[2J" in said and "\x1b" not in said.replace("\x1b[?", "") and "\u202e" not in said


def test_ctrl_c_at_a_terminal_leaves_no_traceback(world: World, terminals: list[Terminal]) -> None:
    at = Terminal("sub", "news")
    terminals.append(at)
    at.until("Ctrl-C ends it")
    at.type("\x03")
    assert "Traceback" not in at.rest()
    assert at.process.returncode == 130


def test_colours_only_where_they_are_wanted(world: World, terminals: list[Terminal]) -> None:
    coloured, plain = Terminal("context", "list"), Terminal("context", "list", NO_COLOR="1")
    terminals += [coloured, plain]
    assert "\x1b[" in coloured.rest()
    assert "\x1b[" not in plain.rest()
    assert "\x1b[" not in run("context", "list").out


def test_a_file_has_a_bar_at_a_terminal(world: World, tmp_path: Path, terminals: list[Terminal]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "f").write_bytes(bytes(3_000_000))
    with process("edge", "receive", str(tmp_path / "in")) as (_, said):
        at = Terminal("send", said.split("edge ")[1].split()[0], str(tmp_path / "f"))
        terminals.append(at)
        said = at.rest()
    assert at.process.returncode == 0
    assert "3.0/3.0 MB" in said and "sha256 " in said


def test_an_edge_that_does_it_all(world: World, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "f").write_text("file")
    arguments = ("--json", "edge", "connect", "--echo", "--serve", "up=tr a-z A-Z", "--offer", str(tmp_path / "out"))
    with process(*arguments, "--expose", "1") as (edge, said):
        edge_id = said.split("edge ")[1].split()[0]
        assert run("call", edge_id, "echo", "x").raw == b"x"
        assert run("call", edge_id, "up", "x").raw == b"X"
        assert run("get", edge_id, "f", "-o", "-").raw == b"file"
        assert run("pub", edge_id, "hello").code == 0
        assert edge.stdout is not None
        lines = [json.loads(edge.stdout.readline()) for _ in range(4)]
    told = [line.get("event") or line.get("method") or line["data"] for line in lines]
    assert told == ["online", "up", "gave", "hello"]
    for wrong in ("up", "=x", "up=", "up='"):
        assert run("edge", "connect", "--serve", wrong).code == 2


def test_bench(world: World) -> None:
    edge = world.edge(echo=echo)
    found = run("bench", str(edge.edge_id), "--duration", "300ms", "--json").json
    assert found["calls"] > 10 and found["errors"] == 0 and 0 < found["p50_ms"] <= found["p99_ms"]
    assert re.match(
        r"[\d,.]+ calls/s of 5 bytes, 2 at a time", run("bench", "--size", "5", "-c", "2", "--duration", "0.2").out
    )
    assert run("bench", "17", "--duration", "0.2").code == 4
    assert run("bench", "--duration", "2h").code == 2


def test_quantiles() -> None:
    found = Latencies()
    assert found.quantile(0.5) == 0
    for each in range(1, 1001):
        found.add(each / 1000)
    assert found.quantile(0.5) == pytest.approx(0.5, rel=0.03)
    assert found.quantile(0.99) == pytest.approx(0.99, rel=0.03)
