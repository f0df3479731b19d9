"""The commands of an edge, so that a demonstration needs no program."""

import click

from frontier_tx.cli.main import Group

CHAPTERS = {
    "As an edge": {
        "connect": "edge_connect", "call": "edge_talk", "pub": "edge_talk", "sub": "edge_talk", "serve": "edge_talk",
        "forward": "streams", "expose": "streams", "send": "streams", "get": "streams", "receive": "streams",
        "offer": "streams",
    },
}  # fmt: skip


@click.group("edge", cls=Group, chapters=CHAPTERS, short_help="Be an edge: call, pub, sub, serve, ...")
def edge_command() -> None:
    """Be an edge: the counterpart of the commands for services."""
