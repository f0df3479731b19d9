"""``edge connect``: one edge that does several things at a time."""

import os
import shlex

import click

from frontier_tx.cli.edge_talk import edge_options
from frontier_tx.cli.failures import Exit, fail
from frontier_tx.cli.main import Command
from frontier_tx.cli.session import Session
from frontier_tx.cli.talk import pass_session


@click.command("connect", cls=Command)
@click.option("--echo", is_flag=True, help="Answer calls of `echo` with what they bring.")
@click.option("--serve", multiple=True, metavar="METHOD=COMMAND", help="Answer calls of METHOD as `serve` does.")
@click.option("--expose", multiple=True, metavar="[NAME=][HOST:]PORT", help="As `expose`.")
@click.option("--receive", metavar="FOLDER", help="As `receive`, with its usual bounds.")
@click.option("--offer", metavar="FOLDER", help="As `offer`.")
@edge_options
@pass_session
def edge_connect_command(
    session: Session, echo: bool, serve: tuple[str, ...], expose: tuple[str, ...], receive: str | None,
    offer: str | None, meta: str, wanted_id: int,
) -> None:  # fmt: skip
    """Be an edge that stays: it prints the messages that come, and does what the options say."""
    from frontier_tx.cli.bench import answer_with_request
    from frontier_tx.cli.folder import Folder
    from frontier_tx.cli.handler import CommandHandler
    from frontier_tx.cli.messages import print_messages
    from frontier_tx.cli.roles import Roles
    from frontier_tx.cli.transfer import FileServer
    from frontier_tx.cli.tunnel import Exposed

    handlers = {}
    for text in serve:
        method, mark, command = text.partition("=")
        try:
            words = shlex.split(command)
        except ValueError as error:
            fail(Exit.USAGE, f"--serve {text!r}: {error}")
        if not (method and mark and words):
            fail(Exit.USAGE, f"--serve {text!r}: expected METHOD=COMMAND")
        handlers[method] = CommandHandler(session, words, 8)
    exposed = Exposed(session, expose) if expose else None
    taking = Folder(receive, 10**9, 10**10) if receive else None
    files = FileServer(session, taking, Folder(offer) if offer else None) if receive or offer else None

    async def stay() -> None:
        async with session.edge(os.fsencode(meta), wanted_id, stays=True) as edge:
            for method, handler in handlers.items():
                await edge.register(method, handler)
            if echo:
                await edge.register("echo", answer_with_request)
            edge.on_stream(Roles(session, exposed, files).take)
            if session.output.as_json:
                session.output.record({"event": "online", "edge_id": edge.edge_id})
            session.output.note(f"frontier: edge {edge.edge_id} is online; Ctrl-C ends it")
            await print_messages(session, edge, None, False)

    session.run(stay)
