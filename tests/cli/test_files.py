"""send, get, receive and offer; and peers that mean harm."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontier_tx.cli.folder import Folder, Unusable, checked

from .runner import World, process, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


def test_files_go_both_ways_from_both_sides(world: World, tmp_path: Path, folder: Path) -> None:
    data = os.urandom(2_000_000)
    (tmp_path / "big.bin").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    with process("edge", "receive", str(folder)) as (_, said):
        edge_id = said.split("edge ")[1].split()[0]
        sent = run("send", edge_id, str(tmp_path / "big.bin"), "--json")
        assert sent.json == {"name": "big.bin", "size": len(data), "sha256": digest}
        assert (folder / "big.bin").read_bytes() == data
        again = run("send", edge_id, str(tmp_path / "big.bin"))
        assert (again.code, "there is a file 'big.bin' already" in again.err) == (1, True)
        assert run("send", edge_id, "-", "--as", "in", stdin=b"\0\1").code == 0
        assert (folder / "in").read_bytes() == b"\0\1"
    with process("offer", str(folder), "--name", "store"):
        listed = run("edge", "get", "store", "--json").json
        assert listed == {"files": [{"name": "big.bin", "size": len(data)}, {"name": "in", "size": 2}]}
        out = tmp_path / "copy"
        assert run("edge", "get", "store", "big.bin", "-o", str(out)).code == 0
        assert out.read_bytes() == data
        taken = run("edge", "get", "store", "big.bin", "-o", str(out))
        assert (taken.code, "--replace" in taken.err) == (2, True)
        assert run("edge", "get", "store", "in", "-o", str(out), "--replace").code == 0
        assert run("edge", "get", "store", "in", "-o", "-").raw == b"\0\1"
        small = run("edge", "get", "store", "big.bin", "-o", str(tmp_path / "no"), "--max-size", "1M")
        assert (small.code, (tmp_path / "no").exists()) == (2, False)
        missing = run("edge", "get", "store", "none")
        assert (missing.code, missing.err) == (1, "frontier: the other side says no: there is no file 'none'\n")
    assert sorted(path.name for path in folder.iterdir()) == ["big.bin", "in"]


def test_names_that_lead_elsewhere_are_refused_here_and_there(world: World, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / ".hidden").write_text("x")
    (folder / "sub").mkdir()
    with process("edge", "offer", str(folder)) as (_, said):
        edge_id = said.split("edge ")[1].split()[0]
        assert run("get", edge_id, "--json").json == {"files": []}
        for name in ("../secret", "/etc/passwd", "link", ".hidden", "sub", "..", "a\\b", "a\nb"):
            done = run("get", edge_id, name, "-o", str(tmp_path / "out"))
            assert done.code in (1, 2) and not (tmp_path / "out").exists()
    assert run("get", edge_id, "../x").code == 2
    assert run("send", edge_id, str(tmp_path / "secret"), "--as", "../x").code == 2
    assert run("send", edge_id, "-").code == 2


def put(world: World, edge_id: int, *parts: bytes, **asked: Any) -> list[dict[str, Any]]:
    """What a hostile service does to an edge that receives: any request, any bytes; and the answers to it."""

    async def done() -> list[dict[str, Any]]:
        stream = await world.gateway.service_for_tests.open_stream(edge_id, b"frontier-file")  # type: ignore[attr-defined]
        stream.write(b"frontier-file\n" + json.dumps({"do": "put", **asked}).encode() + b"\n")
        for part in parts:
            if stream.open:
                stream.write(part)
                await asyncio.sleep(0.02)
        answers = b""
        try:
            while data := await asyncio.wait_for(stream.read(), 5):
                answers += data
        except Exception:
            pass
        return [json.loads(line) for line in answers.splitlines()]

    return world.do(done())


def block(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


def test_a_hostile_sender_writes_nothing_outside_and_fills_no_disk(world: World, tmp_path: Path, folder: Path) -> None:
    world.gateway.service_for_tests = world.service()  # type: ignore[attr-defined]
    (folder / "link").symlink_to(tmp_path / "outside")
    with process("edge", "receive", str(folder), "--max-size", "100", "--max-total", "150") as (_, said):
        edge_id = int(said.split("edge ")[1].split()[0])
        end = bytes(4)
        for name in ("../x", "/tmp/x", ".bashrc", "", "..", "a/b", "x" * 300, "a\0b", "a\x1b[2J", 7, None, "link"):
            answers = put(world, edge_id, block(b"x"), end + hashlib.sha256(b"x").digest(), name=name)
            if name == 7:
                assert answers[-1]["ok"]
                continue
            assert name is None or "error" in answers[-1], name
        # Larger than one may be, than all may be together, a lie of a checksum, a block without end, no end at all.
        assert "larger than 100" in put(world, edge_id, block(b"x" * 101), name="a")[-1]["error"]
        good = hashlib.sha256(b"y" * 90).digest()
        assert put(world, edge_id, block(b"y" * 90), end + good, name="b")[-1]["sha256"] == good.hex()
        assert "no more" in put(world, edge_id, block(b"z" * 90), end + good, name="c")[-1]["error"]
        put(world, edge_id, block(b"z"), end + bytes(32), name="d")
        put(world, edge_id, (1 << 31).to_bytes(4), name="e")
        put(world, edge_id, b"[" * 300_000 + b"\n", name="f", do=[])
        assert put(world, edge_id, do="get", name="b")[-1] == {"error": "no files are given here"}
    assert sorted(path.name for path in folder.iterdir()) == ["7", "None", "b", "link"]
    assert not (tmp_path / "outside").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


def test_a_hostile_giver(world: World, tmp_path: Path) -> None:
    """An edge that is asked for a file and gives too much, too little, something else or a screen full of escapes."""
    answers = {
        "much": b'{"ok":true,"size":1}\n' + block(b"x" * 200),
        "cut": b'{"ok":true,"size":10}\n' + block(b"x"),
        "lie": b'{"ok":true,"size":1}\n' + block(b"x") + bytes(36),
        "text": b'{"error":"\\u001b[2J gone"}\n',
        "junk": b"\x1b[2J\n",
        "list": b'{"files":[{"name":"\\u001b[2J","size":1},4,{"name":3,"size":1}]}\n',
    }
    edge = world.edge()

    async def serve(stream: Any) -> None:
        line = b""
        while line.count(b"\n") < 2:
            line += await stream.read(1)
        stream.write(answers[json.loads(line.splitlines()[1]).get("name", "list")])
        await stream.close()

    async def begin() -> None:
        edge.on_stream(serve)

    world.do(begin())
    codes = {}
    for name in ("much", "cut", "lie", "text", "junk"):
        done = run("get", str(edge.edge_id), name, "-o", str(tmp_path / name), "--max-size", "100")
        assert "\x1b" not in done.err and done.err.count("\n") == 1, done.err
        codes[name] = done.code
    assert codes == {"much": 2, "cut": 8, "lie": 1, "text": 1, "junk": 1}
    assert "\x1b" not in run("get", str(edge.edge_id)).out
    assert list(tmp_path.iterdir()) == []


def test_an_edge_that_is_not_there_or_takes_no_files(world: World, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    assert run("send", "17", str(tmp_path / "f")).code == 4
    assert run("get", "17", "f", "-o", str(tmp_path / "g")).code == 4
    assert run("send", "17", str(tmp_path / "none")).err == (
        "frontier: cannot read or write the file: No such file or directory\n"
    )
    with process("edge", "expose", "80") as (_, said):
        done = run("send", said.split("edge ")[1].split()[0], str(tmp_path / "f"))
    assert done.code in (1, 8)
    assert "nobody takes such streams here" in done.err
    assert run("edge", "receive", str(tmp_path / "none")).code == 2
    assert run("get", "17", "f", "--max-size", "many").code == 2


@given(st.text())
def test_a_checked_name_is_one_component(name: str) -> None:
    try:
        checked(name)
    except Unusable:
        return
    assert os.path.basename(name) == name and os.path.normpath(name) == name and name.isprintable()


def test_what_is_not_kept_is_gone_and_a_file_that_came_meanwhile_stays(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    with folder.incoming("a") as arriving:
        arriving.write(b"x")
    assert (list(tmp_path.iterdir()), folder.taken) == ([], 0)
    with folder.incoming("a") as arriving:
        (tmp_path / "a").write_text("mine")
        with pytest.raises(Unusable):
            arriving.keep()
    assert (tmp_path / "a").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1
