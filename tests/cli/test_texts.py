"""What others wrote cannot do anything to a terminal; and the command as such."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontier_tx.cli.output import Output
from frontier_tx.cli.text import amount, json_text, shown, shown_bytes, span

from .runner import run


@given(st.text() | st.binary())
def test_everything_shown_prints_as_itself(value: str | bytes) -> None:
    text = shown(value) if isinstance(value, str) else shown_bytes(value)
    assert text.isprintable()


@pytest.mark.parametrize("text", ["\x1b[31m", "a\rb", "\u202egnp", "\u200b", "\x9b2J", "\ud800", "\ue000", "\x7f"])
def test_what_moves_or_hides_is_escaped(text: str) -> None:
    assert "\\" in shown(text)


@given(st.text(st.characters()))
def test_json_escapes_and_means_the_same(text: str) -> None:
    written = json_text({"a": [text]})
    assert written.isprintable()
    assert json.loads(written) == {"a": [text]}
    written.encode()


def test_plain_text_stays_as_it_is() -> None:
    assert shown("Grüße 東京 🙂 [bold]x[/]") == "Grüße 東京 🙂 [bold]x[/]"
    assert shown("abcdef", 4) == "abc…"


def test_wide_characters_keep_columns_straight(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(["a", "b"], [["東京", 1], ["x\n", 2]])
    assert capsys.readouterr().out.splitlines() == ["A     B", "東京  1", "x\\n   2"]


def test_one_long_text_makes_no_other_line_long(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(["a", "b"], [["x" * 60_000, "1"], ["y", "2"]])
    title, long, short = capsys.readouterr().out.splitlines()
    assert long == "x" * 60_000 + "  1"
    assert short.split() == ["y", "2"]
    assert max(len(title), len(short)) < 200


def test_amounts_and_times() -> None:
    assert [amount(value) for value in (0, 999, 1500, 2_000_000, 5e15)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.0 MB",
        "5000 TB",
    ]
    assert [span(value) for value in (0.25, 3, 65, 3600, 90_000)] == ["250ms", "3s", "1m5s", "1h", "1d1h"]


def test_help_is_there_at_once_and_loads_no_clients() -> None:
    code = (
        "import sys\nfrom frontier_tx.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n"
        "    print([name for name in sys.modules if name.split('.')[0] in ('twisted', 'rich', 'yaml')])"
    )
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Whatever else this machine does: the time of the process alone.
        took.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert "Operate a server" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
    assert min(took) < 0.5


def test_every_command_has_help_in_whole_lines() -> None:
    from frontier_tx.cli.main import CHAPTERS

    listed = run("--help").out
    for name in (name for chapter in CHAPTERS.values() for name in chapter):
        assert run(name, "--help").code == 0
        assert name in listed
    chapters = listed.partition("Talk to edges:")[2].partition("Options:")[0]
    assert "..." not in chapters.replace("serve, ...", "")


def test_no_command_and_one_that_is_none() -> None:
    for arguments in ((), ("edge",), ("context",)):
        done = run(*arguments)
        assert (done.code, done.err.startswith(f"Usage: {' '.join(('frontier', *arguments))} ")) == (2, True)
    done = run("cal")
    assert (done.code, done.err) == (
        2,
        "frontier: there is no command 'cal' (did you mean 'call'?); see `frontier --help`\n",
    )
    assert "did you mean" not in run("xyz").err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_FRONTIER_COMPLETE" in run("completion", shell).out


def test_completion_completes() -> None:
    import os

    done = subprocess.run(
        [sys.executable, "-c", "from frontier_tx.cli.main import main; main()"],
        env={**os.environ, "_FRONTIER_COMPLETE": "bash_complete", "COMP_WORDS": "frontier ser", "COMP_CWORD": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["plain,services", "plain,serve"] or sorted(done.stdout.split()) == [
        "plain,serve", "plain,services",
    ]  # fmt: skip
