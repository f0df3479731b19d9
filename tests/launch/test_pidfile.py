"""A pid file that a crash left keeps no server from starting."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from frontier_tx.runtime.pidfile import discard_stale, is_held

from .test_twistd import PATIENCE, configured, default_signals, environment

#: twistd in a process whose number stands in the file already, as after the restart of a container.
OWN_NUMBER = "import os; open({path!r}, 'w').write(str(os.getpid())); from twisted.scripts.twistd import run; run()"


def started(folder: Path, code: str, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, "-n", *args, "frontier", "-c", configured(folder)],
        cwd=folder, env=environment(), stdout=(folder / "out").open("wb"), stderr=subprocess.STDOUT,
        preexec_fn=default_signals,
    )  # fmt: skip


@pytest.mark.parametrize("content", ["own", "", "nonsense\n", "0", "-1", "99999999999999999999", "1"])
@pytest.mark.parametrize("args", [(), ("--pidfile=frontier.pid",)], ids=["default", "named"])
def test_a_server_starts_over_what_a_crash_left(tmp_path: Path, content: str, args: tuple[str, ...]) -> None:
    path = tmp_path / ("frontier.pid" if args else "twistd.pid")
    code = "from twisted.scripts.twistd import run; run()"
    if content == "own":
        code = OWN_NUMBER.format(path=str(path))
    else:
        path.write_text(content)
    process = started(tmp_path, code, *args)
    try:
        end = time.monotonic() + PATIENCE
        while "edgebound listens" not in (said := (tmp_path / "out").read_text()):
            assert process.poll() is None and time.monotonic() < end, said
            time.sleep(0.02)
        assert path.read_text() == str(process.pid)
        assert f"{path.name} was left behind" in said
    finally:
        process.kill()
        process.wait()


def test_the_file_of_a_server_that_runs_stays(tmp_path: Path) -> None:
    path = tmp_path / "twistd.pid"
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as other:
        path.write_text(f"{other.pid}\n")
        assert discard_stale(str(path), "frontier") == [] and is_held(str(path)) and path.exists()
        other.kill()
    assert not is_held(str(path))
    path.write_text(str(os.getpid()))
    assert not is_held(str(path))


def test_a_folder_is_no_pid_file(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"frontier: cannot read the pid file .*: is a directory"):
        discard_stale(str(tmp_path), "frontier")
