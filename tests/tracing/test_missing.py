"""A gateway that is to trace and cannot says what to install; one that is not loads nothing of it."""

from __future__ import annotations

from pathlib import Path

from tests.launch.test_twistd import configured, run

WITHOUT = "import sys; sys.modules['opentelemetry'] = None\n"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    path = configured(tmp_path, tracing={"enable": True})
    for words in ((), ("--check",)):
        done = run(tmp_path, "-n", "--pidfile=", "frontier", "-c", path, *words, PYTHONPATH=str(tmp_path))
        assert done.returncode == 1, words
        assert "pip install 'frontier-tx[traces]'" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_a_gateway_without_traces_does_without_the_library(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    path = configured(tmp_path)
    done = run(tmp_path, "-n", "--pidfile=", "frontier", "-c", path, "--check", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
