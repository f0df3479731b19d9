"""What a command prints: answers on standard output, everything else on standard error."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import click

from frontier_tx.cli.text import json_text, shown, shown_lines

MOST_WIDTH = 100
"""Of a column, in columns of a terminal."""


class Output:
    """Writes tables and texts for people, or JSON.

    :param as_json: JSON on standard output: one document, or one in a line where a command goes on for long.
    :param colour: None: where standard output is a terminal and NO_COLOR is not set.
    """

    def __init__(self, as_json: bool = False, colour: bool | None = None) -> None:
        self.as_json = as_json
        if colour is None and os.environ.get("NO_COLOR"):
            colour = False
        self.colour = colour
        self.quiet = False

    @property
    def terminal(self) -> bool:
        """Whether a person reads standard output."""
        return sys.stdout.isatty()

    @property
    def bar_wanted(self) -> bool:
        """Whether a progress bar has somebody to look at it."""
        return sys.stderr.isatty() and not self.quiet and not self.as_json

    def styled(self, text: str, **style: Any) -> str:
        """Return text in a colour, where there are colours."""
        wanted = self.terminal if self.colour is None else self.colour
        return click.style(text, **style) if wanted else text

    def text(self, line: str) -> None:
        """Print a line; what others wrote in it was escaped by whoever made it."""
        click.echo(line, color=self.colour)

    def document(self, value: Any) -> None:
        """Print one JSON document, set for reading where a terminal is."""
        click.echo(json_text(value, 2 if self.terminal else None))

    def record(self, value: Any) -> None:
        """Print one JSON document in one line, at once."""
        click.echo(json_text(value))

    def note(self, line: str) -> None:
        """Tell how it goes, on standard error; ``--quiet`` leaves it out."""
        if not self.quiet:
            click.echo(shown_lines(line), err=True, color=self.colour)

    def data(self, data: bytes) -> None:
        """Print bytes of a peer: as they are into a file or a pipe, escaped on a terminal."""
        if self.terminal:
            text = data.decode("utf-8", "backslashreplace")
            click.echo(shown_lines(text.removesuffix("\n")))
        else:
            raw = self.binary()
            raw.write(data)
            raw.flush()

    def binary(self) -> BinaryIO:
        """Standard output for bytes."""
        return sys.stdout.buffer

    def table(self, titles: Sequence[str], rows: Iterable[Sequence[object]], most: int = 48) -> None:
        """Print columns under titles; a cell is escaped and, on a terminal, cut to ``most`` characters.

        Elsewhere a longer one is whole and stands out of its column, so that one long text makes no other line long.
        """
        cells = [[shown(str(cell), most if self.terminal else 0) for cell in row] for row in rows]
        widths = [len(title) for title in titles]
        for row in cells:
            for column, cell in enumerate(row):
                width = min(_width(cell), MOST_WIDTH)
                if width > widths[column]:
                    widths[column] = width
        self.text(self.styled(_line([title.upper() for title in titles], widths), bold=True))
        for row in cells:
            self.text(_line(row, widths))

    def pairs(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Print names and values, one pair in a line."""
        listed = [(name, shown(str(value))) for name, value in pairs]
        width = max((len(name) for name, _ in listed), default=0) + 2
        for name, value in listed:
            self.text(f"{self.styled((name + ':').ljust(width), bold=True)}{value}")


def _width(cell: str) -> int:
    """Columns of a terminal."""
    if cell.isascii():
        return len(cell)
    from rich.cells import cell_len

    return cell_len(cell)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()
