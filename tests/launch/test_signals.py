"""What a server does on the signals that others send it."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

from .certificates import Authority
from .test_twistd import PATIENCE, Running, command, configured, default_signals, environment


def serial(authority: Authority, port: int) -> int:
    """The serial number of the certificate that a port shows."""
    trust = ssl.create_default_context(cafile=authority.file)
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        trust.wrap_socket(plain, server_hostname="gw.example") as secure,
    ):
        shown = secure.getpeercert()
        assert shown is not None
        return int(str(shown["serialNumber"]), 16)


def with_tls(folder: Path) -> tuple[Authority, Running, int]:
    authority = Authority(folder)
    cert, key = authority.issue("gw", "gw.example")
    tls = {"enable": True, "certs": [{"cert": cert, "key": key}]}
    server = Running(
        folder, "frontier", "-c", configured(folder, edgebound={"listen": {"addr": "127.0.0.1:0", "tls": tls}})
    )
    told = re.search(r"edgebound listens on 127\.0\.0\.1:(\d+) with TLS\n", server.wait_for(" with TLS\n"))
    assert told
    return authority, server, int(told[1])


def test_hup_reads_certificates_again(tmp_path: Path) -> None:
    authority, server, port = with_tls(tmp_path)
    before = serial(authority, port)
    authority.issue("gw", "gw.example")
    assert serial(authority, port) == before
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("edgebound has read its certificates again")
    assert serial(authority, port) != before
    server.stop()


def test_certificates_that_cannot_be_used_leave_the_old_ones_in_use(tmp_path: Path) -> None:
    authority, server, port = with_tls(tmp_path)
    before = serial(authority, port)
    (tmp_path / "gw.key").write_text("half of a key")
    server.process.send_signal(signal.SIGHUP)
    said = server.wait_for("edgebound goes on with the certificates it has: edgebound.listen.tls.certs[0].key: no ")
    assert " ERROR " in said and "Traceback" not in said
    assert serial(authority, port) == before
    server.stop()


def test_hup_opens_log_files_anew(tmp_path: Path) -> None:
    path = tmp_path / "own.log"
    server = Running(tmp_path, "frontier", "-c", configured(tmp_path), "--log-output=file", f"--log-file={path}")
    server.wait_for("edgebound listens on", path)
    path.rename(tmp_path / "moved.log")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("SIGHUP", tmp_path / "moved.log")
    server.stop()
    assert "Received SIGTERM" in path.read_text()


def test_a_log_file_that_cannot_be_opened_anew_is_one_line_and_certificates_are_read_all_the_same(
    tmp_path: Path,
) -> None:
    path = tmp_path / "own.log"
    server = Running(tmp_path, "frontier", "-c", configured(tmp_path), "--log-output=file", f"--log-file={path}")
    server.wait_for("edgebound listens on", path)
    path.rename(tmp_path / "moved.log")
    path.mkdir()
    server.process.send_signal(signal.SIGHUP)
    said = server.wait_for("cannot open the log file anew", tmp_path / "moved.log")
    assert f"the one that is open stays in use: {path}: Is a directory\n" in said and " CRITICAL " not in said
    path.rmdir()
    server.process.send_signal(signal.SIGHUP)
    server.stop()
    assert "Server Shut Down" in path.read_text()


def test_closing_the_terminal_is_a_stop_in_order(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            command("-n", "--pidfile=", "frontier", "-c", configured(tmp_path)),
            cwd=tmp_path, env=environment(), stdin=theirs, stdout=file, stderr=file, preexec_fn=default_signals,
        )  # fmt: skip
    os.close(theirs)
    server = Running.__new__(Running)
    server.out, server.process = out, process
    server.wait_for("edgebound listens on")
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE) == 0
    os.close(ours)
    assert "Server Shut Down" in out.read_text()


def test_who_ignores_hup_is_left_alone(tmp_path: Path) -> None:
    nohup = shutil.which("nohup")
    assert nohup
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [nohup, *command("-n", "--pidfile=", "frontier", "-c", configured(tmp_path))],
            cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    server = Running.__new__(Running)
    server.out, server.process = out, process
    server.wait_for("edgebound listens on")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    assert "SIGHUP" not in out.read_text() and "Received SIGTERM" in out.read_text()
