"""The programs as an operator starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from frontier_tx import __version__

from .certificates import Authority

ROOT = Path(__file__).resolve().parents[2]
#: A process that takes longer to start than this is stuck.
PATIENCE = 30.0


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **more}


TWISTD = "from twisted.scripts.twistd import run; run()"


def command(*args: str, code: str = TWISTD) -> list[str]:
    return [sys.executable, "-c", code, *args]


def default_signals() -> None:
    """Called in a new process: whoever runs the tests may ignore some, such as nohup and what a shell puts aside."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*args),
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Running:
    """A server in the foreground, its lines in files."""

    #: Those of this test; what is left of them goes with it.
    started: ClassVar[list[subprocess.Popen[Any]]] = []

    def __init__(self, folder: Path, *args: str, code: str = TWISTD) -> None:
        self.out = folder / "out"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                command("-n", "--pidfile=", *args, code=code),
                cwd=folder, env=environment(), stdout=out, stderr=subprocess.STDOUT, preexec_fn=default_signals,
            )  # fmt: skip
        self.started.append(self.process)

    def wait_for(self, text: str, path: Path | None = None) -> str:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            seen = (path or self.out).read_text() if (path or self.out).exists() else ""
            if text in seen:
                return seen
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.out.read_text()}"
            time.sleep(0.02)
        raise AssertionError(f"{text!r} never came:\n{self.out.read_text()}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@pytest.fixture
def busy() -> Iterator[str]:
    """The address of a port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def configured(folder: Path, **sections: object) -> str:
    """A file with ports of the system's choice, plus ``sections``."""
    content: dict[str, Any] = {
        "edgebound": {"listen": {"addr": "127.0.0.1:0"}},
        "servicebound": {"listen": {"addr": "127.0.0.1:0"}},
        "observability": {"enable": False},
        **sections,
    }
    content["edgebound"]["edgeid_alloc_when_no_idservice_on"] = True
    (folder / "f.yaml").write_text(yaml.safe_dump(content))
    return "f.yaml"


def registry(folder: Path, **sections: object) -> str:
    """The same for Frontlas."""
    listen = {"listen": {"addr": "127.0.0.1:0"}}
    content = {"control_plane": listen, "frontier_plane": listen, "observability": {"enable": False}, **sections}
    (folder / "f.yaml").write_text(yaml.safe_dump(content))
    return "f.yaml"


def test_twistd_lists_both(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert "frontier   " in done.stdout
    assert "frontlas   " in done.stdout


@pytest.mark.parametrize("name", ["frontier", "frontlas"])
def test_plugins_bring_in_neither_the_reactor_nor_the_packages(name: str) -> None:
    code = (
        f"import sys, twisted.plugins.{name}_plugin\n"
        "print([name for name in sys.modules if name == 'twisted.internet.reactor'"
        " or name.split('.')[0] in ('frontier_tx', 'frontlas_tx', 'yaml', 'OpenSSL')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("module", ["frontier_tx.tap", "frontlas_tx.tap"])
def test_the_command_line_leaves_the_choice_of_reactor(module: str) -> None:
    code = f"import sys, {module}; print('twisted.internet.reactor' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "False\n"


def test_help_and_version(tmp_path: Path) -> None:
    assert run(tmp_path, "frontier", "--version").stdout.startswith(f"frontier {__version__} (Twisted ")
    shown = run(tmp_path, "frontier", "--help").stdout
    for flag in ("--config", "--check", "--log-file", "--daemon-rlimit-nofile"):
        assert flag in shown


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("--nope",), "option --nope not recognized; see twistd frontier --help"),
        (("-c",), "option -c requires argument; see twistd frontier --help"),
        (("extra",), "unexpected argument; see twistd frontier --help"),
        (("-n",), "-n is an option of twistd and stands before 'frontier': twistd -n … frontier …"),
        (
            ("--pidfile=",),
            "--pidfile is an option of twistd and stands before 'frontier': twistd --pidfile … frontier …",
        ),
    ],
)
def test_a_command_line_that_cannot_be_used_is_one_line(tmp_path: Path, args: tuple[str, ...], line: str) -> None:
    done = run(tmp_path, "frontier", *args)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"frontier: {line}\n")


def test_a_folder_that_cannot_hold_the_pid_file_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "-n", "--pidfile=nowhere/t.pid", "frontier", "-c", configured(tmp_path))
    line = "frontier: twistd cannot write its pid file nowhere/t.pid; --pidfile= means none\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_check_refuses_what_a_start_would_refuse(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(
        "mqm: {own: [{name: a, class: nowhere.A, topics: [t]}, {name: b, class: nowhere.B, topics: [t]}]}"
    )
    said = "".join(
        f"frontier: mqm.own[{index}].class: 'nowhere.{name}': cannot be imported: No module named 'nowhere'\n"
        for index, name in enumerate("AB")
    )
    for args in (("frontier", "--check"), ("-n", "--pidfile=", "frontier")):
        done = run(tmp_path, *args, "-c", "f.yaml")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_file_names_are_relative_to_where_the_program_was_started(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("gw", "gw.example")
    (tmp_path / "elsewhere").mkdir()
    tls = {"enable": True, "certs": [{"cert": "gw.pem", "key": "gw.key"}]}
    path = configured(tmp_path, edgebound={"listen": {"addr": "127.0.0.1:0", "tls": tls}})
    server = Running(tmp_path, "--rundir=elsewhere", "frontier", "-c", path)
    server.wait_for("edgebound listens on")
    server.stop()


def test_check_prints_what_would_take_effect(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(
        "log: {level: warn}\nedgebound: {edgeid_alloc_when_no_idservice_on: true}\n"
        "mqm: {redis: {password: hunter2}}\nxlog: 1\n"
    )
    flags = ("-c", "f.yaml", "--daemon-rlimit-nofile", "--log-format=json")
    done = run(tmp_path, "frontier", "--check", *flags, LOG_OUTPUT="stderr")
    shown = yaml.safe_load(done.stdout)
    assert done.returncode == 0
    assert shown["log"] | {"file": 0} == {"level": "warn", "output": "stderr", "format": "json", "file": 0}
    assert shown["daemon"]["rlimit"] == {"enable": True, "nofile": 1048576}
    assert "hunter2" not in done.stdout
    assert done.stderr == "frontier: f.yaml:4: unknown key xlog is ignored; did you mean log?\n"


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (
            "edgebound: {listen: {addr: '127.0.0.1:99999'}}\nexchange: {hashby: x}",
            [
                "frontier: f.yaml:1: edgebound.listen.addr: '127.0.0.1:99999' is not allowed "
                "('99999' is not a port from 0 to 65535); expected host:port, such as 0.0.0.0:30012 or [::]:30012",
                "frontier: f.yaml:2: exchange.hashby: x is not allowed; expected edgeid, srcip or random",
            ],
        ),
        (
            "edgebound: {listen: {tls: {enable: true, certs: {cert: a.pem, key: a.key}}}}",
            [
                "frontier: edgebound.listen.tls.certs[0].cert: cannot read a.pem: No such file or directory",
            ],
        ),
        (None, ["frontier: f.yaml: No such file or directory"]),
        (
            "a: [1",
            [
                "frontier: f.yaml:2:1: not readable as YAML: while parsing a flow sequence "
                "did not find expected ',' or ']'",
            ],
        ),
    ],
)
def test_a_configuration_that_cannot_be_used(tmp_path: Path, content: str | None, lines: list[str]) -> None:
    if content is not None:
        (tmp_path / "f.yaml").write_text(content)
    done = run(tmp_path, "-n", "--pidfile=", "frontier", "-c", "f.yaml")
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (1, "", lines)


def test_a_server_starts_and_stops(tmp_path: Path) -> None:
    server = Running(tmp_path, "frontier", "-c", configured(tmp_path, loq={}), "--log-format=json")
    server.wait_for("edgebound listens on")
    assert server.stop() in (0, -signal.SIGTERM)
    records = [json.loads(line) for line in server.out.read_text().splitlines()]
    messages = [record["message"] for record in records]
    assert f"frontier {__version__}, configured by f.yaml" in messages
    assert any(each.endswith(": unknown key loq is ignored; did you mean log?") for each in messages)
    assert all(record["level"] in ("info", "warn") for record in records), messages
    assert {record["component"] for record in records} == {"twisted", "frontier", "frontier.launch"}
    assert not [each for each in messages if "actory" in each or "Port " in each]


def test_frontlas_starts_with_the_registry_in_memory(tmp_path: Path) -> None:
    server = Running(tmp_path, "frontlas", "-c", registry(tmp_path))
    server.wait_for("control_plane listens on")
    assert server.stop() in (0, -signal.SIGTERM)
    assert "Traceback" not in server.out.read_text()


def test_a_port_with_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("gw", "gw.example")
    tls = {"enable": True, "certs": [{"cert": cert, "key": key}]}
    path = configured(tmp_path, edgebound={"listen": {"addr": "127.0.0.1:0", "tls": tls}})
    server = Running(tmp_path, "frontier", "-c", path)
    told = re.search(r"edgebound listens on 127\.0\.0\.1:(\d+) with TLS\n", server.wait_for(" with TLS\n"))
    assert told
    trust = ssl.create_default_context(cafile=authority.file)
    with (
        socket.create_connection(("127.0.0.1", int(told[1])), PATIENCE) as plain,
        trust.wrap_socket(plain, server_hostname="gw.example") as secure,
    ):
        assert secure.version() == "TLSv1.3"
    server.stop()
    assert " WARN " not in server.out.read_text()


def test_a_port_in_use_is_one_line(tmp_path: Path, busy: str) -> None:
    path = configured(tmp_path, edgebound={"listen": {"addr": busy}})
    done = run(tmp_path, "-n", "--pidfile=", "frontier", "-c", path)
    line = (
        f"frontier: cannot listen on edgebound {busy}: address already in use; another frontier running? "
        "change edgebound.listen.addr"
    )
    assert done.returncode == 1
    assert done.stderr == ""
    (told,) = [each for each in done.stdout.splitlines() if " INFO " not in each]
    assert told.split("  ", 1)[1] == line
    assert "Traceback" not in done.stdout


def test_a_port_in_use_under_a_daemon(tmp_path: Path, busy: str) -> None:
    path = configured(tmp_path, edgebound={"listen": {"addr": busy}})
    done = run(tmp_path, "frontier", "-c", path)
    assert done.returncode == 1
    # twistd shows a hundred characters of it.
    assert f"cannot listen on edgebound {busy}: address already in use" in done.stderr
    assert "Traceback" not in done.stderr
    # The daemon tells its parent first, and tidies up then.
    deadline = time.monotonic() + PATIENCE
    while (tmp_path / "twistd.pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    logged = (tmp_path / "twistd.log").read_text()
    assert logged.count("cannot listen on edgebound") == 1
    assert "Traceback" not in logged
    assert not (tmp_path / "twistd.pid").exists()


def test_one_of_each_as_daemons_in_one_folder(tmp_path: Path) -> None:
    """As they are typed: without options of twistd."""
    (tmp_path / "frontlas.yaml").write_text(
        "control_plane: {listen: {addr: 127.0.0.1:0}}\nfrontier_plane: {listen: {addr: 127.0.0.1:0}}\n"
        "observability: {enable: false}\n"
    )
    pids = []
    try:
        for name, words, pid in (
            ("frontier", ("-c", configured(tmp_path)), "twistd.pid"),
            ("frontlas", ("-c", "frontlas.yaml"), "frontlas.pid"),
        ):
            done = run(tmp_path, name, *words)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            pids.append(int((tmp_path / pid).read_text()))
        again = run(tmp_path, "frontlas", "-c", "frontlas.yaml")
        assert (again.returncode, again.stdout) == (1, "")
        assert "Another twistd server is running" in again.stderr
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while list(tmp_path.glob("*.pid")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sorted(path.name for path in tmp_path.glob("*.pid")) == []
    assert "edgebound listens on" in (tmp_path / "twistd.log").read_text()
    assert "control_plane listens on" in (tmp_path / "frontlas.log").read_text()
    assert "frontlas" not in (tmp_path / "twistd.log").read_text()


def test_a_log_file_is_opened_anew_on_a_signal(tmp_path: Path) -> None:
    path = tmp_path / "own.log"
    server = Running(tmp_path, "frontier", "-c", configured(tmp_path), "--log-output=file", f"--log-file={path}")
    server.wait_for("edgebound listens on", path)
    path.rename(tmp_path / "moved.log")
    server.process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + PATIENCE
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    server.stop()
    assert "Received SIGTERM" in path.read_text()
    assert server.out.read_text() == ""


#: twistd with a wall clock that a signal sets: an hour back, then an hour forward.
CLOCK = """
import signal, time
real, jumps, offset = time.time, [-3600.0, 3600.0], [0.0]
time.time = lambda: real() + offset[0]
def jump(*_):
    offset[0] = jumps.pop(0)
signal.signal(signal.SIGUSR2, jump)
from twisted.scripts.twistd import run
run()
"""


@pytest.mark.parametrize("program", ["frontier", "frontlas"])
def test_a_clock_that_is_set_moves_no_timer(tmp_path: Path, program: str) -> None:
    key = "edgebound" if program == "frontier" else "frontier_plane"
    limits = {"handshake_seconds": 1}
    if program == "frontier":
        config = configured(tmp_path, limits=limits)
    else:
        config = registry(tmp_path, limits=limits)
    server = Running(tmp_path, program, "-c", config, code=CLOCK)
    said = re.search(rf"{key} listens on 127\.0\.0\.1:(\d+)", server.wait_for(f"{key} listens on"))
    assert said
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", int(said[1])), PATIENCE) as silent:
            server.process.send_signal(signal.SIGUSR2)
            began = time.monotonic()
            silent.settimeout(PATIENCE)
            assert silent.recv(1) == b""
            assert time.monotonic() - began > 0.5
    server.stop()


def test_twistd_may_do_the_logging(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from twisted.logger import textFileLogObserver\n"
        "def make():\n    return textFileLogObserver(open('made.log', 'w', 1))\n"
    )
    server = Running(tmp_path, "--logger=own.make", "frontier", "-c", configured(tmp_path), "--loglevel=warn")
    server.wait_for("starting on", tmp_path / "made.log")
    server.stop()
    assert "[frontier.launch#info]" not in (tmp_path / "made.log").read_text()


def test_l_says_where_and_the_configuration_how(tmp_path: Path) -> None:
    server = Running(tmp_path, "-l", "l.log", "frontier", "-c", configured(tmp_path), "--log-format=json")
    seen = server.wait_for("edgebound listens on", tmp_path / "l.log")
    server.stop()
    assert all(json.loads(line)["component"] for line in seen.splitlines())
    assert server.out.read_text() == ""


TAC = """
from twisted.application.service import Application
{imports}
server = make_service({load}({file!r}).config)
application = Application("mine")
server.setServiceParent(application)
"""


@pytest.mark.parametrize("name", ["frontier", "frontlas"])
def test_a_tac_file_keeps_the_log_section(tmp_path: Path, name: str) -> None:
    log = {"output": "file", "format": "json", "level": "debug", "file": {"path": "own.log"}}
    if name == "frontier":
        file = configured(tmp_path, log=log)
        imports = "from frontier_tx.config import load_frontier\nfrom frontier_tx.gateway import make_service"
    else:
        file = registry(tmp_path, log=log, registry="memory")
        imports = "from frontlas_tx.config import load_frontlas\nfrom frontlas_tx.service import make_service"
    (tmp_path / "my.tac").write_text(TAC.format(imports=imports, load=f"load_{name}", file=file))
    running = Running(tmp_path, "-y", "my.tac")
    seen = running.wait_for("listens on", tmp_path / "own.log")
    assert all(json.loads(line)["time"] for line in seen.splitlines())
    running.stop()
    assert running.out.read_text() == ""
    told = Running(tmp_path, "-l", "told.log", "-y", "my.tac")
    assert json.loads(told.wait_for("listens on", tmp_path / "told.log").splitlines()[0])["level"]
    told.stop()


def test_a_reader_of_stdout_that_stands_still_stops_neither_serving_nor_stopping(tmp_path: Path) -> None:
    read, write = os.pipe()
    # One page is free: the pipe is writable, and a line that is longer would block.
    os.write(write, b"-" * (65_536 - 4096))
    file = configured(tmp_path, log={"level": "debug"})
    process = subprocess.Popen(
        command("-n", "--pidfile=frontier.pid", "frontier", "-c", file),
        cwd=tmp_path, env=environment(), stdout=write, stderr=write, preexec_fn=default_signals,
    )  # fmt: skip
    Running.started.append(process)
    os.close(write)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (found := _listening(process.pid)):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        for port in found:
            for _ in range(60):
                with socket.create_connection(("127.0.0.1", port)) as peer:
                    peer.sendall(b"GET / HTTP/1.1\r\n" * 10)
                    peer.settimeout(PATIENCE)
                    while peer.recv(1000):
                        pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == -signal.SIGTERM
    finally:
        os.close(read)


def _listening(pid: int) -> list[int]:
    """The TCP ports that a process listens on, once there are two."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    found = [int(line[1].partition(":")[2], 16) for line in lines if line[3] == "0A" and line[9] in inodes]
    return found if len(found) == 2 else []
