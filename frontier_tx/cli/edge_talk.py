"""The same as ``talk``, as an edge that speaks to services."""

import os
from collections.abc import Callable
from typing import Any

import click

from frontier_tx.cli.main import Command
from frontier_tx.cli.payload import DATA_HELP, payload
from frontier_tx.cli.session import CALL_SECONDS, Session
from frontier_tx.cli.talk import count_option, data_argument, pass_session, print_answer, print_sent

META = "frontier-cli"


def edge_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Who the edge is."""
    for option in (
        click.option("--id", "wanted_id", type=click.IntRange(0), default=0, help="The ID that it asks for."),
        click.option("--meta", default=META, show_default=True, help="What it says of itself."),
    ):
        function = option(function)
    return function


@click.command("call", cls=Command, help=f"Call METHOD of a service that has it, and print the answer.\n\n{DATA_HELP}")
@click.argument("method")
@data_argument
@edge_options
@pass_session
def call_command(session: Session, method: str, data: str | None, meta: str, wanted_id: int) -> None:
    sent, timeout = payload(data), session.settings.timeout(CALL_SECONDS)

    async def call() -> bytes:
        async with session.edge(os.fsencode(meta), wanted_id) as edge:
            return await edge.call(method, sent, timeout=timeout)

    print_answer(session, session.run(call), method=method)


@click.command(
    "pub", cls=Command, help=f"Publish to TOPIC, and wait until a service or queue has acknowledged it.\n\n{DATA_HELP}"
)
@click.argument("topic")
@data_argument
@click.option("--lines", is_flag=True, help="Each line of the data is a message of its own.")
@edge_options
@pass_session
def pub_command(session: Session, topic: str, data: str | None, lines: bool, meta: str, wanted_id: int) -> None:
    from frontier_tx.cli.messages import published

    timeout = session.settings.timeout(CALL_SECONDS)

    async def publish() -> int:
        async with session.edge(os.fsencode(meta), wanted_id) as edge:
            return await published(lambda one: edge.publish(topic, one, timeout=timeout), data, lines)

    print_sent(session, session.run(publish))


@click.command("sub", cls=Command)
@edge_options
@count_option
@click.option("--raw", is_flag=True, help="Only the messages' bytes, each with a line end.")
@pass_session
def sub_command(session: Session, count: int | None, raw: bool, meta: str, wanted_id: int) -> None:
    """Print the messages that services send to this edge; one is acknowledged when it is printed."""
    from frontier_tx.cli.messages import print_messages

    async def subscribe() -> None:
        async with session.edge(os.fsencode(meta), wanted_id, stays=True) as edge:
            session.output.note(f"frontier: edge {edge.edge_id} is online; Ctrl-C ends it")
            await print_messages(session, edge, count, raw)

    session.run(subscribe)


@click.command("serve", cls=Command)
@click.argument("method")
@click.argument("command", nargs=-1, required=True)
@click.option("--parallel", type=click.IntRange(1, 1000), default=8, show_default=True, help="Commands at a time.")
@edge_options
@pass_session
def serve_command(
    session: Session, method: str, command: tuple[str, ...], parallel: int, meta: str, wanted_id: int
) -> None:
    """Answer calls of METHOD by services with COMMAND, as `frontier serve` does.

    Write `frontier edge serve METHOD -- COMMAND ARG...`.
    """
    from frontier_tx.cli.handler import CommandHandler, idle

    handler = CommandHandler(session, command, parallel)

    async def serve() -> None:
        async with session.edge(os.fsencode(meta), wanted_id, stays=True) as edge:
            await edge.register(method, handler)
            session.output.note(f"frontier: edge {edge.edge_id} answers {method}; Ctrl-C ends it")
            await idle(edge)

    session.run(serve)
