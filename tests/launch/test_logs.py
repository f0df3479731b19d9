"""Log lines, levels, and the file that rotates."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, LogLevel
from twisted.logger import Logger as TwistedLogger
from zope.interface.verify import verifyObject

from frontier_tx.config import Log, LogFile
from frontier_tx.errors import ConfigError
from frontier_tx.runtime.logfile import LOOK_SECONDS, RETRY_SECONDS, RotatingFile
from frontier_tx.runtime.lograte import PERIOD, LogRates
from frontier_tx.runtime.logs import (
    MAX_MESSAGE,
    Logger,
    Observer,
    Stream,
    clean,
    json_line,
    observer,
    set_level,
    text_line,
)
from frontier_tx.runtime.logstream import lost_lines
from frontier_tx.runtime.program import log_under_twistd


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    before = Logger.threshold
    yield
    Logger.threshold = before


def event(format: str = "hello {who}", **more: Any) -> dict[str, Any]:
    return {
        "log_time": 1767225600.25,
        "log_level": LogLevel.info,
        "log_namespace": "frontier.test",
        "log_format": format,
        **more,
    }


def test_a_line_of_text() -> None:
    assert text_line(event(who="you")) == "2026-01-01T00:00:00.250Z INFO  frontier.test  hello you"


def test_a_line_of_json() -> None:
    line = json.loads(json_line(event(who="you\n", count=3, thing=object(), log_source=self_source)))
    assert line == {
        "time": "2026-01-01T00:00:00.250Z",
        "level": "info",
        "component": "frontier.test",
        "message": "hello you",
        "fields": {"who": "you\n", "count": 3},
    }


self_source = object()


def test_a_failure_stays_on_one_line() -> None:
    lines: list[dict[str, Any]] = []
    logger = Logger("frontier.test", observer=lines.append)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logger.failure("while trying")
    text = text_line(lines[0])
    assert "while trying: ValueError: first\\nsecond [test_logs.py:" in text
    assert text.split()[1] == "CRITICAL"
    record = json.loads(json_line(lines[0]))
    assert record["error"] == "ValueError: first\nsecond"
    assert record["places"][0].endswith("test_a_failure_stays_on_one_line")


@given(st.text(), st.text())
def test_any_text_stays_on_its_line(who: str, namespace: str) -> None:
    line = text_line(event(who=who, log_namespace=namespace))
    assert line.isprintable() or not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in line)
    assert len(line.splitlines()) == 1
    record = json_line(event(who=who, log_namespace=namespace))
    assert len(record.encode().splitlines()) == 1
    json.loads(record)


def test_control_characters_become_escapes() -> None:
    assert clean("a\x1b[31m\r\n\t\x9b\u202eb") == "a\\x1b[31m\\r\\n\\t\\x9b\\u202eb"


def test_a_long_message_is_cut() -> None:
    line = text_line(event(who="x" * 1_000_000))
    assert len(line) < MAX_MESSAGE + 100
    assert line.endswith("… (1000006 characters)")


def test_undecodable_names_do_not_stop_a_line() -> None:
    stream = io.BytesIO()
    out = Observer([Stream(stream)], json_line)
    out(event(who="\udce9"))
    Observer([Stream(stream)], text_line)(event(who="\udce9"))
    assert stream.getvalue().count(b"\\udce9") >= 2


@pytest.mark.parametrize("level", ["debug", "info", "warn", "error"])
def test_levels(level: str) -> None:
    names = ["debug", "info", "warn", "error", "critical"]
    set_level(level)
    stream = io.BytesIO()
    out = Observer([Stream(stream)], text_line)
    verifyObject(ILogObserver, out)
    made: list[object] = []
    watched = Logger("ours", observer=made.append)
    for logger in (Logger("ours", observer=out), watched, TwistedLogger("t", observer=out)):
        for name in names:
            getattr(logger, name)("said {name}", name=name)
    expected = names[names.index(level) :]
    written = [line.split()[-1].decode() for line in stream.getvalue().splitlines()]
    assert written == expected * 2
    assert len(made) == len(expected)
    assert Logger.enabled(LogLevel.debug) == (level == "debug")


def test_a_level_that_is_off_makes_no_event() -> None:
    set_level("info")
    Logger("ours", observer=_never).debug("{x}", x=1)


def _never(_: object) -> None:
    raise AssertionError("an event was made")


def until(happened: Callable[[], object]) -> None:
    end = monotonic() + 20
    while not happened():
        assert monotonic() < end
        sleep(0.002)


def test_a_reader_that_went_away_costs_lines_only() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as broken:
        stream = Stream(broken)
        stream.write(b"x\n")
        until(lambda: stream.lost == 1)
        stream.write(b"x\n")
        until(lambda: stream.lost == 2 or stream.lost_in_all == 2)
        until(lambda: stream.waiting_bytes == 0)


def test_a_reader_that_stands_still_is_never_waited_for_and_hears_what_was_lost() -> None:
    """A pipe with one free page is writable, and a line that is longer than a page blocks."""
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as pipe, os.fdopen(read, "rb") as reader:
        pipe.write(b"-" * (65_536 - 4096 - 1) + b"\n")
        stream = Stream(pipe, most=100_000)
        line = b"x" * 8190 + b"\n"
        began = monotonic()
        for _ in range(1000):
            stream.write(line)
        assert monotonic() - began < 5
        assert stream.waiting_bytes <= 100_000 + len(line)
        lost = stream.lost
        assert lost > 900 and lost_lines() >= lost
        assert reader.readline()[:1] == b"-"
        got = [reader.readline() for _ in range(1000 - lost)]
        assert set(got) == {line}
        # Said without another line that would carry it.
        assert reader.readline() == b"%d log lines were lost because nobody read them\n" % lost
        until(lambda: stream.lost == 0)
        stream.write(b"again\n")
        assert reader.readline() == b"again\n"


def test_a_reader_that_is_slow_gets_every_line_and_its_descriptor_stays_as_it_is() -> None:
    read, write = os.pipe()
    got: list[bytes] = []

    def slowly(reader: io.BufferedReader) -> None:
        while data := reader.read(16_384):
            got.append(data)
            sleep(0.005)

    with os.fdopen(read, "rb") as reader:
        thread = threading.Thread(target=slowly, args=(reader,))
        thread.start()
        with os.fdopen(write, "wb") as pipe:
            stream = Stream(pipe)
            for number in range(900):
                stream.write(b"%4d" % number + b"x" * 1019 + b"\n")
            until(lambda: not stream.waiting_bytes)
            assert os.get_blocking(pipe.fileno())
        thread.join()
    lines = b"".join(got).splitlines()
    assert stream.lost == 0 and [int(line[:4]) for line in lines] == list(range(900))


def test_a_descriptor_that_another_process_made_non_blocking() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with os.fdopen(write, "wb", buffering=0) as pipe, os.fdopen(read, "rb") as reader:
        stream = Stream(pipe)
        for _ in range(100):
            stream.write(b"x" * 4095 + b"\n")
        assert {len(reader.readline()) for _ in range(100)} == {4096}


def test_lines_to_a_named_pipe_that_nobody_reads(tmp_path: Path) -> None:
    """It is a log file to the configuration, and a reader that stands still to the process."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    made = observer(Log(output="file", file=LogFile(path=str(path))))
    began = monotonic()
    for number in range(2000):
        made(event(f"{number % 20} {{who}}", who="x" * 5000))
    assert monotonic() - began < 10
    (sink,) = made.sinks
    assert isinstance(sink, Stream) and sink.lost > 100
    with path.open("rb") as reader:
        assert reader.readline().startswith(b"2026-01-01")


def test_one_kind_of_line_is_logged_so_often_and_the_rest_is_counted() -> None:
    now = [0.0]
    stream = io.BytesIO()
    out = Observer([Stream(stream)], text_line, per_second=2)
    out._rates = LogRates(int(2 * PERIOD), now=lambda: now[0])
    for number in range(100):
        out(event("{who} knocked", who=number))
        out(event("{who} is rare", who=number)) if number < 3 else None
    assert stream.getvalue().count(b"knocked") == 20 and stream.getvalue().count(b"rare") == 3
    now[0] = PERIOD
    out(event("another"))
    said = stream.getvalue().splitlines()[-2:]
    assert b"80 lines like this one were left out within 10 s: {who} knocked" in said[0] and b"another" in said[1]
    out(event("{who} knocked", who="she"))
    assert stream.getvalue().splitlines()[-1].endswith(b"she knocked")
    assert stream.getvalue().count(b"left out") == 1


def test_json_lines_escape_what_turns_text_or_ends_lines() -> None:
    who = "a\u202eb\x9b31m\u2028\x7f\u200fé\n\u2066"
    line = json_line(event(who=who, log_namespace=who))
    assert line.isprintable() and "é" in line
    assert json.loads(line)["message"] == f"hello {who}"


@pytest.mark.parametrize("output", ["stdout", "stderr", "both"])
def test_a_process_without_that_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    made = observer(Log(output=output, file=LogFile(path=str(tmp_path / "f.log"))))
    made(event())
    assert [type(sink) for sink in made.sinks] == ([RotatingFile] if output == "both" else [])


class Time:
    def __init__(self) -> None:
        self.now = 1_767_225_600.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def rotating(path: Path, time: Time, **more: Any) -> RotatingFile:
    return RotatingFile(str(path), max_bytes=more.pop("max_bytes", 20), now=time, steady=lambda: time.now, **more)


def old_files(path: Path) -> list[Path]:
    return sorted(each for each in path.parent.iterdir() if each != path)


def test_rotation_by_size_keeps_every_line(tmp_path: Path) -> None:
    path, time = tmp_path / "logs" / "f.log", Time()
    file = rotating(path, time)
    lines = [b"line %02d\n" % number for number in range(20)]
    for line in lines:
        file.write(line)
    file.close()
    parts = [*old_files(path), path]
    assert b"".join(part.read_bytes() for part in parts) == b"".join(lines)
    assert all(part.stat().st_size <= 20 for part in parts)
    assert len(parts) == 10
    assert parts[0].name.startswith("f-20260101T0000")


def test_a_file_that_exists_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "f.log"
    path.write_bytes(b"before 0123456789\n")
    file = rotating(path, Time())
    file.write(b"after\n")
    file.close()
    assert [each.read_bytes() for each in (*old_files(path), path)] == [b"before 0123456789\n", b"after\n"]


def test_old_files_go_by_number_and_age_and_others_stay(tmp_path: Path) -> None:
    path, time = tmp_path / "f.log", Time()
    (tmp_path / "f-notes.log").write_text("mine")
    (tmp_path / "g-20260101T000000.000000.log").write_text("not mine")
    file = rotating(path, time, max_backups=3)
    for number in range(30):
        file.write(b"line %02d 0123456789\n" % number)
    file.close()
    file.tidy()
    kept = [each for each in old_files(path) if each.name.startswith("f-2")]
    assert [each.read_bytes()[5:7] for each in kept] == [b"26", b"27", b"28"]
    ageing = rotating(path, time, max_age_seconds=3600)
    for each in kept[:2]:
        os.utime(each, (time.now - 4000, time.now - 4000))
    os.utime(kept[2], (time.now, time.now))
    ageing.tidy()
    ageing.close()
    assert [each.name for each in old_files(path)] == [
        kept[2].name, "f-notes.log", "g-20260101T000000.000000.log",
    ]  # fmt: skip


def test_old_files_are_compressed(tmp_path: Path) -> None:
    path, time = tmp_path / "f.log", Time()
    file = rotating(path, time, compress=True)
    file.write(b"first 0123456789\n")
    file.write(b"second 0123456789\n")
    file.close()
    file.tidy()
    (old,) = old_files(path)
    assert old.suffix == ".gz"
    assert gzip.decompress(old.read_bytes()) == b"first 0123456789\n"


def test_reopening_after_something_else_moved_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f.log"
    file = rotating(path, Time())
    file.write(b"one\n")
    path.rename(tmp_path / "moved")
    file.write(b"two\n")
    Observer([file], text_line).reopen()
    file.write(b"three\n")
    file.close()
    assert (tmp_path / "moved").read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


def test_a_full_disk_costs_lines_and_says_so_afterwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, time = tmp_path / "f.log", Time()
    file = rotating(path, time, max_bytes=1000)
    with open("/dev/full", "wb", buffering=0) as full:
        working, file._file = file._file, full
        file.write(b"lost\n")
        file.write(b"lost too\n")
        assert file.lost == 2
        file._file = working
    file.write(b"too early\n")
    time.now += RETRY_SECONDS
    file.write(b"kept\n")
    file.close()
    assert path.read_bytes() == b"3 log lines were lost because the file could not be written\nkept\n"


def test_what_a_full_disk_left_of_a_line_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    path, time = tmp_path / "f.log", Time()
    file = rotating(path, time, max_bytes=1000)
    working = file._file

    class Short:
        def write(self, data: bytes) -> int:
            return working.write(data[:3])

    file._file = Short()  # type: ignore[assignment]
    file.write(b"a whole line\n")
    assert file.lost == 1
    file._file = working
    time.now += RETRY_SECONDS
    file.write(b"kept\n")
    file.close()
    assert path.read_bytes() == b"a w\n1 log lines were lost because the file could not be written\nkept\n"


def test_a_clock_that_is_set_back_does_not_prolong_the_loss(tmp_path: Path) -> None:
    path, wall, steady = tmp_path / "f.log", Time(), Time()
    file = RotatingFile(str(path), max_bytes=1000, now=wall, steady=steady)
    with open("/dev/full", "wb", buffering=0) as full:
        working, file._file = file._file, full
        file.write(b"lost\n")
        file._file = working
    wall.now -= 3600
    steady.now += RETRY_SECONDS
    file.write(b"kept\n")
    file.close()
    assert path.read_bytes().endswith(b"\nkept\n")


@pytest.mark.parametrize("what", ["the file", "its folder"])
def test_a_file_that_somebody_deleted_is_begun_anew(tmp_path: Path, what: str) -> None:
    path, time = tmp_path / "logs" / "f.log", Time()
    file = rotating(path, time, max_bytes=1000)
    file.write(b"one\n")
    if what == "the file":
        path.unlink()
    else:
        shutil.rmtree(path.parent)
    time.now += LOOK_SECONDS
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"two\n"


def test_a_file_that_somebody_emptied_is_not_full(tmp_path: Path) -> None:
    path, time = tmp_path / "f.log", Time()
    file = rotating(path, time)
    file.write(b"first 0123456789\n")
    os.truncate(path, 0)
    time.now += LOOK_SECONDS
    file.write(b"second 0123456789\n")
    file.close()
    assert old_files(path) == [] and path.read_bytes() == b"second 0123456789\n"


def test_a_file_that_was_deleted_just_before_it_is_full(tmp_path: Path) -> None:
    path = tmp_path / "f.log"
    file = rotating(path, Time())
    file.write(b"first 0123456789\n")
    path.unlink()
    file.write(b"second 0123456789\n")
    file.close()
    assert path.read_bytes() == b"second 0123456789\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_go_on_where_no_file_can_be_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    path, time = tmp_path / "f.log", Time()
    file = rotating(path, time)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    broken = open(tmp_path / "closed", "w")  # noqa: SIM115
    broken.close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        patch.setattr(sys, "__stderr__", sys.stderr if terminal else broken)
        for number in range(2):
            file.write(b"line %d 0123456789\n" % number)
    assert file.lost == 0
    told = f"log file {path}: Permission denied"
    assert path.read_text() == (
        f"line 0 0123456789\n{told}; lines go on into the file that is open\nline 1 0123456789\n"
    )
    assert capsys.readouterr().err == (f"{told}\n" if terminal else "")
    file.write(b"goes into a new file\n")
    file.close()
    assert path.read_bytes() == b"goes into a new file\n"


def test_a_device_is_never_put_aside(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    file = rotating(pipe, Time(), max_bytes=10)
    for line in (b"first 0123456789\n", b"second 0123456789\n"):
        file.write(line)
    file.close()
    assert os.read(reader, 100) == b"first 0123456789\nsecond 0123456789\n"
    os.close(reader)
    assert old_files(pipe) == []


@pytest.mark.parametrize(
    ("namespace", "shown"),
    [
        ("frontier_tx.gateway.core._Diary", "frontier.gateway"),
        ("frontlas_tx.registry.memory.MemoryRegistry", "frontlas.registry"),
        ("twisted.scripts._twistd_unix.UnixAppLogger", "twisted"),
        ("log_legacy", "twisted"),
        ("frontier.launch", "frontier.launch"),
        ("own.module.Class", "own.module.Class"),
    ],
)
def test_the_component_is_the_part_that_speaks(namespace: str, shown: str) -> None:
    assert json.loads(json_line(event(who="you", log_namespace=namespace)))["component"] == shown


def test_what_twisted_says_of_each_port_is_debugging() -> None:
    lines: list[bytes] = []

    class Kept:
        def write(self, line: bytes) -> None:
            lines.append(line)

    out = Observer([Kept()], text_line)
    set_level("info")
    out(event(who="Factory starting on 30011", log_namespace="log_legacy"))
    assert not lines
    out(event(who="failed", log_namespace="log_legacy", log_level=LogLevel.critical))
    set_level("debug")
    out(event(who="Factory starting on 30011", log_namespace="log_legacy"))
    assert len(lines) == 2
    set_level("info")


def test_the_observer_of_a_section(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = tmp_path / "f.log"
    out = observer(Log(level="warn", output="both", format="json", file=LogFile(path=str(path))))
    assert len(out.sinks) == 2
    out(event(who="you"))
    out(event(who="you", log_level=LogLevel.error))
    assert json.loads(path.read_bytes())["level"] == "error"
    with pytest.raises(ConfigError, match=r"^log\.file\.path: cannot write /dev/null/x: File exists \(/dev/null\)$"):
        observer(Log(output="file", file=LogFile(path="/dev/null/x")))


LOG = Log(level="warn", output="stdout")


@pytest.mark.parametrize(
    ("parent", "output", "path"),
    [
        ({"nodaemon": True}, "stdout", None),
        ({"debug": True}, "stdout", None),
        ({"nodaemon": True, "logfile": "-"}, "stdout", None),
        ({"nodaemon": True, "logfile": "x.log"}, "file", "x.log"),
        ({"logfile": "x.log"}, "file", "x.log"),
        ({}, "file", "twistd.log"),
        ({"pidfile": "frontier.pid"}, "file", "frontier.log"),
    ],
)
def test_twistd_options_on_where_lines_go(parent: dict[str, Any], output: str, path: str | None) -> None:
    settings = log_under_twistd(LOG, parent, "frontier")
    assert settings is not None
    assert (settings.level, settings.output) == ("warn", output)
    assert path is None or settings.file.path == path


@pytest.mark.parametrize("parent", [{"logger": print}, {"syslog": True}, {"logfile": "-"}])
def test_twistd_options_that_leave_logging_to_twistd(parent: dict[str, Any]) -> None:
    assert log_under_twistd(LOG, parent, "frontier") is None


def test_a_daemon_with_both_writes_its_file_only() -> None:
    both = Log(output="both", file=LogFile(path="own.log"))
    settings = log_under_twistd(both, {}, "frontier")
    assert settings == Log(output="file", file=LogFile(path="own.log"))


def test_a_process_without_files_says_so_now_and_then_and_what_to_do() -> None:
    lines: list[str] = []
    observe = Observer([Lines(lines)], text_line)

    def says(format: str, when: float, **more: str) -> None:
        observe(event(format, log_namespace="twisted.internet.tcp.Port", log_time=1767225600.0 + when, **more))

    for when in (0, 1, 9, 11):
        says("EMFILE encountered; releasing reserved file descriptor.", when)
        says("EMFILE recovery: Closed socket from {address}", when, address="x")
        says("Could not accept new connection ({acceptError})", when, acceptError="EMFILE")
    says("Could not accept new connection ({acceptError})", 12, acceptError="EPERM")
    assert len(lines) == 3
    assert "open files are in use, newcomers are turned away; raise daemon.rlimit.nofile" in lines[0]
    assert lines[1].startswith("2026-01-01T00:00:11") and "EPERM" in lines[2]


class Lines:
    """A sink that keeps them."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def write(self, line: bytes) -> None:
        self.lines.append(line.decode())
