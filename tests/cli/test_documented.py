"""The commands of the manual and of the README, run as they stand, one after the other."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from frontier_tx.cli.failures import Exit
from frontier_tx.cli.main import CHAPTERS
from frontier_tx.cli.settings import ENVIRONMENT
from tests.launch.test_twistd import ROOT

from .test_operators import Server, server

__all__ = ["server"]

MANUAL = (ROOT / "docs" / "command-line.md").read_text()


def script(folder: Path, lines: str) -> str:
    """Run lines in a shell that ends with the first one that fails; what it started in the background ends with it."""
    tools = folder / "bin"
    tools.mkdir()
    command = tools / "frontier"
    command.write_text(f"#!{sys.executable}\nfrom frontier_tx.cli.main import main\nmain()\n")
    command.chmod(0o755)
    process = subprocess.Popen(
        ["bash", "-eu", "-o", "pipefail", "-c", lines], cwd=folder, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        out = ""
        assert process.stdout is not None
        for line in process.stdout:
            out += line
            if line == "end of the script\n":
                break
        else:
            raise AssertionError(out)
        return out
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.timeout(120)
def test_the_manual(server: Server, tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", MANUAL, re.S | re.M)
    out = script(tmp_path, "\n".join([*blocks, "sleep 1", "cat readings.txt", "echo end of the script"]))
    assert (tmp_path / "notes.txt").read_text() == "version 7\n"
    for expected in (
        "robot-7", "hello there", "close the valve", "notes.txt", "calls/s", "ready", "HELLO", "readings  21.5",
        "readings  21.7", "no such method", "edges", "leads to 8000 of edge shop",
    ):  # fmt: skip
        assert expected in out, f"{expected}:\n{out}"
    assert "Traceback" not in out


@pytest.mark.timeout(60)
def test_the_readme(server: Server, tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().partition("## Talk to an edge from a shell\n")[2].partition("\n## ")[0]
    found = re.search(r"^```sh\n(.*?)^```", section, re.S | re.M)
    assert found
    edge, _, others = found[1].partition("\n\n")
    others = others.replace("frontier top", "frontier top -n 1")
    out = script(tmp_path, f"{edge} &\nsleep 3\n{others}\necho end of the script")
    assert "robot-7" in out and "close the valve" in out and "1 edges" in out


def test_the_manual_knows_every_command_status_and_variable() -> None:
    for name in (name for chapter in CHAPTERS.values() for name in chapter):
        assert re.search(rf"\b{name}\b", MANUAL), name
    for status in Exit:
        assert re.search(rf"^\|.*\b{status.value}\b.*\|", MANUAL, re.M), status
    for variable in (
        "FRONTIER_SERVER",
        "FRONTIER_TOKEN",
        "FRONTIER_CONTEXT",
        "FRONTIER_TIMEOUT",
        "FRONTIER_FRONTLAS_ADDR",
    ):
        assert variable in MANUAL and variable in ENVIRONMENT.values()
