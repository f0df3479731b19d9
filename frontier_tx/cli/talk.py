"""``call``, ``pub``, ``sub`` and ``serve``, as a service that speaks to edges."""

from typing import Any

import click

from frontier_tx.cli.main import Command
from frontier_tx.cli.payload import DATA_HELP, payload
from frontier_tx.cli.session import CALL_SECONDS, Session

#: The name that a service of the command has where nothing else is said.
NAME = "frontier-cli"

pass_session = click.make_pass_decorator(Session)
data_argument = click.argument("data", required=False)
count_option = click.option("--count", "-n", type=click.IntRange(1), help="End after so many messages.")
name_option = click.option("--name", default=NAME, show_default=True, help="Name of this service.")


def complete_edge(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """IDs of edges that are online, where a control plane answers at once."""
    from frontier_tx.cli.control import Control
    from frontier_tx.cli.failures import Failure

    session = context.find_object(Session) or Session()
    try:
        control = Control(session.settings, 1.0)
        records, *_ = control.page("edges", "/edges", page=1, page_size=1000, cursor=0, count=1000)
    except Failure:
        return []
    return [str(each["edge_id"]) for each in records if str(each.get("edge_id", "")).startswith(incomplete)]


edge_argument = click.argument("edge", shell_complete=complete_edge)


@click.command("call", cls=Command, help=f"Call METHOD of EDGE and print what it answers.\n\n{DATA_HELP}")
@edge_argument
@click.argument("method")
@data_argument
@click.option("--http", is_flag=True, help="By the control plane, where no port for services can be reached.")
@pass_session
def call_command(session: Session, edge: str, method: str, data: str | None, http: bool) -> None:
    edge_id, sent = session.edge_id(edge), payload(data)
    timeout = session.settings.timeout(CALL_SECONDS)
    if http:
        from frontier_tx.cli.through import call_through

        answer = call_through(session, edge_id, method, sent, timeout)
    else:

        async def call() -> bytes:
            async with session.service(NAME) as service:
                return await service.call(edge_id, method, sent, timeout=timeout)

        answer = session.run(call)
    print_answer(session, answer, edge_id=edge_id, method=method)


def print_answer(session: Session, answer: bytes, **about: Any) -> None:
    """Print what a peer answered."""
    from frontier_tx.cli.text import data_fields

    if session.output.as_json:
        session.output.document({**about, **data_fields(answer)})
    else:
        session.output.data(answer)


@click.command("pub", cls=Command, help=f"Send EDGE a message, and wait until it has acknowledged it.\n\n{DATA_HELP}")
@edge_argument
@data_argument
@click.option("--topic", default="", help="A topic that the edge reads with it.")
@click.option("--lines", is_flag=True, help="Each line of the data is a message of its own.")
@click.option("--http", is_flag=True, help="By the control plane, where no port for services can be reached.")
@pass_session
def pub_command(session: Session, edge: str, data: str | None, topic: str, lines: bool, http: bool) -> None:
    edge_id = session.edge_id(edge)
    timeout = session.settings.timeout(CALL_SECONDS)
    if http:
        from frontier_tx.cli.payload import messages
        from frontier_tx.cli.through import publish_through

        sent = publish_through(session, edge_id, messages(data, lines), topic, timeout)
    else:
        from frontier_tx.cli.messages import published

        async def publish() -> int:
            async with session.service(NAME) as service:
                return await published(
                    lambda one: service.publish(edge_id, one, topic=topic, timeout=timeout), data, lines
                )

        sent = session.run(publish)
    print_sent(session, sent)


def print_sent(session: Session, sent: int) -> None:
    """Say how many messages were acknowledged."""
    if session.output.as_json:
        session.output.document({"acknowledged": sent})
    elif session.output.terminal:
        session.output.text("acknowledged" if sent == 1 else f"{sent} messages acknowledged")


@click.command("sub", cls=Command)
@click.argument("topics", nargs=-1, required=True)
@name_option
@count_option
@click.option("--raw", is_flag=True, help="Only the messages' bytes, each with a line end.")
@pass_session
def sub_command(session: Session, topics: tuple[str, ...], name: str, count: int | None, raw: bool) -> None:
    """Print the messages that edges publish to TOPICS.

    A message is acknowledged when it is printed. Other services that take the topic get their share, not a copy,
    unless the gateway is told otherwise (`mqm.deliver`). --timeout is for all --count messages together.
    """
    from frontier_tx.cli.messages import print_messages

    async def subscribe() -> None:
        async with session.service(name, topics, stays=True) as service:
            session.output.note(f"frontier: service {service.service_id} takes {', '.join(topics)}; Ctrl-C ends it")
            await print_messages(session, service, count, raw)

    session.run(subscribe)


@click.command("serve", cls=Command)
@click.argument("method")
@click.argument("command", nargs=-1, required=True)
@name_option
@click.option("--parallel", type=click.IntRange(1, 1000), default=8, show_default=True, help="Commands at a time.")
@pass_session
def serve_command(session: Session, method: str, command: tuple[str, ...], name: str, parallel: int) -> None:
    """Answer calls of METHOD by edges with COMMAND.

    Write `frontier serve METHOD -- COMMAND ARG...`. The request is its standard input, its standard output is the
    answer. An exit status other than 0 is an error, whose text is the last line of its standard error.
    FRONTIER_EDGE_ID and FRONTIER_METHOD are in its environment. --timeout ends a command that takes longer.
    """
    from frontier_tx.cli.handler import CommandHandler, idle

    handler = CommandHandler(session, command, parallel)

    async def serve() -> None:
        async with session.service(name, stays=True) as service:
            await service.register(method, handler)
            session.output.note(f"frontier: service {service.service_id} answers {method}; Ctrl-C ends it")
            await idle(service)

    session.run(serve)
