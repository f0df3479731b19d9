"""call, pub, sub, serve, from both sides."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from frontier_tx.aio import HandlerError, Request

from .runner import World, process, run


async def upper(request: Request) -> bytes:
    return request.data.upper()


async def refusing(request: Request) -> bytes:
    raise HandlerError("no \x1b[2Jfun")


def test_a_call_prints_the_answer_as_it_is(world: World) -> None:
    edge = world.edge(upper=upper)
    done = run("call", str(edge.edge_id), "upper", "hello")
    assert (done.code, done.raw, done.err) == (0, b"HELLO", "")


def test_data_comes_from_a_file_from_standard_input_or_not_at_all(world: World, tmp_path: Path) -> None:
    edge_id = str(world.edge(upper=upper).edge_id)
    (tmp_path / "f").write_bytes(b"\xff\x00file")
    assert run("call", edge_id, "upper", f"@{tmp_path / 'f'}").raw == b"\xff\x00FILE"
    assert run("call", edge_id, "upper", "-", stdin=b"\x00in").raw == b"\x00IN"
    assert run("call", edge_id, "upper").raw == b""
    missing = run("call", edge_id, "upper", "@nowhere")
    assert (missing.code, missing.err) == (2, "frontier: cannot read nowhere: No such file or directory\n")


def test_json_of_a_call_says_whether_it_is_text(world: World) -> None:
    edge = world.edge(upper=upper)
    assert run("--json", "call", str(edge.edge_id), "upper", "a").json == {
        "edge_id": edge.edge_id, "method": "upper", "data": "A",
    }  # fmt: skip
    assert run("call", str(edge.edge_id), "upper", "-", "--json", stdin=b"\xff").json["data_base64"] == "/w=="


def test_errors_have_statuses_and_no_control_characters(world: World) -> None:
    edge_id = str(world.edge(no=refusing).edge_id)
    peer = run("call", edge_id, "no")
    assert (peer.code, peer.raw) == (1, b"")
    assert peer.err == "frontier: no \\x1b[2Jfun\n"
    assert run("call", edge_id, "none").code == 4
    assert run("call", "12345", "none").code == 4
    assert run("call", edge_id).code == 2
    assert run("call", str(1 << 64), "none").code == 2
    assert run("nonsense").code == 2
    assert run("edge", "call", "none").code == 4
    assert run("edge", "pub", "none", "x").code == 4
    assert run("--json", "call", edge_id, "none").err == '{"error": {"code": 4, "message": "no such rpc: none"}}\n'


def test_nobody_listens() -> None:
    done = run("call", "1", "m", "--service-addr", "127.0.0.1:1")
    assert done.code == 3
    assert "cannot reach the gateway's port for services at 127.0.0.1:1: Connection refused." in done.err
    assert run("edge", "call", "m", "--server", "127.0.0.1:1").code == 3


def test_a_call_that_takes_too_long(world: World) -> None:
    async def never(request: Request) -> bytes:
        import asyncio

        await asyncio.Event().wait()
        return b""

    edge_id = str(world.edge(never=never).edge_id)
    began = time.monotonic()
    done = run("call", edge_id, "never", "--timeout", "300ms")
    assert (done.code, time.monotonic() - began < 5) == (6, True)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1d", "nan"])
def test_times_that_are_none(text: str) -> None:
    done = run("call", "1", "m", f"--timeout={text}")
    assert (done.code, "is no time" in done.err) == (2, True)


def test_an_edge_publishes_and_a_service_subscribes(world: World) -> None:
    with process("sub", "readings", "-n", "3") as (subscriber, _):
        done = run("--json", "edge", "pub", "readings", "-", "--lines", stdin=b"a\nb\x1b[2J\n\xff\n")
        assert (done.code, done.json) == (0, {"acknowledged": 3})
        out, _ = subscriber.communicate(timeout=20)
    assert subscriber.returncode == 0
    assert [line.split("readings  ")[1] for line in out.splitlines()] == ["a", "b\\x1b[2J", "\\xff"]


def test_a_service_publishes_and_an_edge_reads(world: World) -> None:
    with process("--json", "edge", "sub", "-n", "1") as (edge, said):
        edge_id = said.split("edge ")[1].split()[0]
        assert run("pub", edge_id, "close the valve", "--topic", "orders").code == 0
        out, _ = edge.communicate(timeout=20)
    assert '"topic": "orders"' in out and '"data": "close the valve"' in out


def test_messages_that_do_not_come(world: World) -> None:
    done = run("sub", "silence", "-n", "1", "--timeout", "0.2")
    assert (done.code, done.err.splitlines()[-1]) == (6, "frontier: 0 of 1 messages came in time")


def test_a_command_answers_calls(world: World) -> None:
    with process("serve", "upper", "--", "tr", "a-z", "A-Z") as (serving, _):
        assert run("edge", "call", "upper", "hello").raw == b"HELLO"
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(10) == 143


def test_a_command_that_fails_is_the_callers_error(world: World) -> None:
    script = 'cat >/dev/null; echo "edge has $FRONTIER_METHOD" >&2; echo nothing for you >&2; exit 3'
    with process("edge", "serve", "m", "--", "sh", "-c", script) as (_, said):
        edge_id = said.split("edge ")[1].split()[0]
        done = run("call", edge_id, "m", "x" * 100_000)
    assert (done.code, done.err) == (1, "frontier: nothing for you (exit status 3)\n")


def test_a_command_that_takes_too_long_is_ended_with_its_children(world: World, tmp_path: Path) -> None:
    script = f"sleep 30 & echo $! >{tmp_path}/child; wait"
    with process("edge", "serve", "m", "--timeout", "1s", "--", "sh", "-c", script) as (_, said):
        edge_id = said.split("edge ")[1].split()[0]
        done = run("call", edge_id, "m")
    assert (done.code, done.err) == (1, "frontier: the command took longer than 1s\n")
    child = int((tmp_path / "child").read_text())
    status = Path(f"/proc/{child}/status")
    deadline = time.monotonic() + 5
    while status.exists() and "zombie" not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not status.exists() or "zombie" in status.read_text()


def test_there_is_no_such_program(world: World) -> None:
    done = run("serve", "m", "--", "no-such-program")
    assert (done.code, done.err) == (2, "frontier: there is no program 'no-such-program'\n")


def test_who_serves_takes_no_messages(world: World) -> None:
    with process("edge", "serve", "m", "--", "cat") as (_, said):
        edge_id = said.split("edge ")[1].split()[0]
        done = run("pub", edge_id, "hello")
    assert (done.code, done.err) == (1, "frontier: nobody takes messages here\n")


def test_interrupted(world: World) -> None:
    with process("sub", "topic") as (subscriber, _):
        subscriber.send_signal(signal.SIGINT)
        out, err = subscriber.communicate(timeout=10)
    assert (subscriber.returncode, out, err) == (130, "", "")


def test_who_reads_is_gone(world: World) -> None:
    with process("sub", "topic") as (subscriber, _):
        assert subscriber.stdout is not None
        subscriber.stdout.close()
        done = run("edge", "pub", "topic", "x")
        # It was not printed, so it is not acknowledged.
        assert done.code == 1
        assert subscriber.wait(10) == 141
        assert subscriber.stderr is not None
        assert subscriber.stderr.read() == ""
        subscriber.stdout = None
