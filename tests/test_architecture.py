"""docs/architecture.md says what is so: the layers, and a word for each module of the rooms that it goes through."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def test_the_layers_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    checked = {
        contract["containers"][0]: [layer.split(" | ") for layer in contract["layers"]]
        for contract in contracts
        if contract["type"] == "layers"
    }
    drawing = PAGE.split("```\n")[1].splitlines()
    edge = drawing[0].index("frontlas_tx")
    halves = {
        "frontier_tx": [line[:edge] for line in drawing[1:]],
        "frontlas_tx": [line[edge:] for line in drawing[1:]],
    }
    assert {name: [line.split() for line in lines if line.split()] for name, lines in halves.items()} == checked


@pytest.mark.parametrize("room", ["wire", "switch", "control_plane"])
def test_each_module_has_a_word(room: str) -> None:
    modules = {path.stem for path in (ROOT / "frontier_tx" / room).glob("*.py")} - {"__init__", "errors"}
    rows = "".join(re.findall(rf"^\| `frontier_tx/{room}` .*\n(?:\| \| .*\n)*", PAGE, re.MULTILINE))
    assert modules <= set(re.findall(r"`(\w+)`", rows))


def test_each_file_of_a_hop_is_there() -> None:
    """In a cell the first file is named from the package, those behind it from the folder of the one before."""
    cells = re.findall(r"\| (`[a-z0-9_/]+\.py`(?:, `[a-z0-9_/]+\.py`)*) \|\n", PAGE)
    assert len(cells) > 30
    for cell in cells:
        folder = ROOT / "frontier_tx"
        for name in re.findall("`(.+?)`", cell):
            tried = (folder / name, ROOT / name, ROOT / "frontier_tx" / name, ROOT / "frontlas_tx" / name)
            found = next((path for path in tried if path.exists()), None)
            assert found is not None, f"{name} in {cell}"
            folder = found.parent
