"""``forward``, ``expose``, ``send``, ``get``, ``receive`` and ``offer``, for services and for edges."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import click

from frontier_tx.cli.edge_talk import edge_options
from frontier_tx.cli.failures import Exit, fail
from frontier_tx.cli.main import Command
from frontier_tx.cli.session import Session
from frontier_tx.cli.talk import NAME, edge_argument, name_option, pass_session
from frontier_tx.cli.text import amount
from frontier_tx.errors import FrontierError

if TYPE_CHECKING:
    from frontier_tx.aio import Stream

#: Makes the client of a command, which stays or does not.
Client = Callable[[bool], AbstractAsyncContextManager[Any]]


def _size(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """A number of bytes: ``500M``, ``2G``, ``0`` for no bound."""
    text = value.strip().upper().removesuffix("B")
    units = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    try:
        found = float(text[:-1]) * units[text[-1]] if text[-1:] in units else float(text)
        if 0 <= found < 1 << 62:
            return int(found)
    except ValueError:
        pass
    raise click.BadParameter(
        f"{value!r} is no size: expected a number with K, M or G, such as 500M", context, parameter
    )


def as_service(session: Session, name: str) -> Client:
    """Be a service."""
    return lambda stays: session.service(name, stays=stays)


def as_edge(session: Session, meta: str, wanted_id: int) -> Client:
    """Be an edge."""
    return lambda stays: session.edge(os.fsencode(meta), wanted_id, stays=stays)


most_option = click.option(
    "--max-size", "most", callback=_size, metavar="SIZE", default="1G", show_default=True, help="Of one file."
)
replace_option = click.option("--replace", "replacing", is_flag=True, help="Replace a file that is there.")


def _who(client: Any) -> str:
    return f"edge {client.edge_id}" if hasattr(client, "edge_id") else f"service {client.service_id}"


# -- forwarding -------------------------------------------------------------------------------------------


def _forward(session: Session, client: Client, what: tuple[str, ...], by_edge: bool) -> None:
    from frontier_tx.cli.roles import open_for
    from frontier_tx.cli.tunnel import Forwarder, forwarding

    wanted = [forwarding(text) for text in what]
    peers = {peer: peer if by_edge else str(session.edge_id(peer)) for _, _, peer, _ in wanted}

    async def forward() -> None:
        async with client(True) as end:
            servers = []
            for bind, port, peer, target in wanted:

                async def opening(meta: bytes, who: str = peers[peer]) -> "Stream":
                    return await open_for(end, who, meta)

                kind = "service" if by_edge else "edge"
                server = await Forwarder(session, f"{kind} {peer}", target, opening).listen(bind, port)
                servers.append(server)
                near = server.sockets[0].getsockname()
                place = f"[{near[0]}]:{near[1]}" if ":" in near[0] else f"{near[0]}:{near[1]}"
                if session.output.as_json:
                    session.output.record({"listen": place, "to": peer, "target": target})
                session.output.note(f"frontier: {place} leads to {target} of {kind} {peer}; Ctrl-C ends it")
            await asyncio.Event().wait()

    session.run(forward)


@click.command("forward", cls=Command)
@click.argument("what", nargs=-1, required=True, metavar="[BIND:]PORT:EDGE:[HOST:]PORT...")
@pass_session
def forward_command(session: Session, what: tuple[str, ...]) -> None:
    """Let a port of this machine lead to one at an edge.

    `frontier forward 8080:42:80` listens on 127.0.0.1:8080; each connection becomes a stream to edge 42, which runs
    `frontier edge expose 80`. Port 0 is any free one.
    """
    _forward(session, as_service(session, NAME), what, by_edge=False)


@click.command("forward", cls=Command)
@click.argument("what", nargs=-1, required=True, metavar="[BIND:]PORT:SERVICE:[HOST:]PORT...")
@edge_options
@pass_session
def edge_forward_command(session: Session, what: tuple[str, ...], meta: str, wanted_id: int) -> None:
    """Let a port of this machine lead to one at a service.

    The service, named by its name, runs `frontier expose`.
    """
    _forward(session, as_edge(session, meta, wanted_id), what, by_edge=True)


def _expose(session: Session, client: Client, targets: tuple[str, ...]) -> None:
    from frontier_tx.cli.tunnel import Exposed

    _serve_streams(session, client, f"exposes {', '.join(targets)}", exposed=Exposed(session, targets))


def _serve_streams(session: Session, client: Client, what: str, **roles: Any) -> None:
    from frontier_tx.cli.roles import Roles

    async def serve() -> None:
        async with client(True) as end:
            session.output.note(f"frontier: {_who(end)} {what}; Ctrl-C ends it")
            await Roles(session, **roles).serve(end)

    session.run(serve)


@click.command("expose", cls=Command)
@click.argument("targets", nargs=-1, required=True, metavar="[NAME=][HOST:]PORT...")
@name_option
@pass_session
def expose_command(session: Session, targets: tuple[str, ...], name: str) -> None:
    """Let edges reach ports here by `frontier edge forward`; no other port than these."""
    _expose(session, as_service(session, name), targets)


@click.command("expose", cls=Command)
@click.argument("targets", nargs=-1, required=True, metavar="[NAME=][HOST:]PORT...")
@edge_options
@pass_session
def edge_expose_command(session: Session, targets: tuple[str, ...], meta: str, wanted_id: int) -> None:
    """Let services reach ports here by `frontier forward`; no other port than these."""
    _expose(session, as_edge(session, meta, wanted_id), targets)


# -- files ------------------------------------------------------------------------------------------------


def _moving(session: Session, client: Client, peer: str, work: Callable[["Stream"], Awaitable[Any]]) -> Any:
    from frontier_tx.cli import transfer
    from frontier_tx.cli.roles import open_for

    async def move() -> Any:
        async with client(False) as end:
            return await work(await open_for(end, peer, transfer.META))

    try:
        return session.run(move)
    except transfer.TROUBLES as error:
        # Some errors of the client library are TimeoutErrors, and so OSErrors.
        if isinstance(error, (BrokenPipeError, FrontierError)):
            raise
        raise transfer.failed(error) from None


def _send(session: Session, client: Client, peer: str, path: str, name: str | None) -> None:
    from frontier_tx.cli import transfer

    if path == "-" and name is None:
        fail(Exit.USAGE, "what comes from standard input needs a name: --as NAME")
    called = name or os.path.basename(path)
    transfer.checked_here(called)
    _print_moved(session, _moving(session, client, peer, lambda stream: transfer.send(session, stream, path, called)))


def _print_moved(session: Session, moved: dict[str, Any]) -> None:
    if session.output.as_json:
        session.output.document(moved)
    else:
        session.output.note(f"{moved['name']}  {amount(moved['size'])}  sha256 {moved['sha256']}")


def _get(
    session: Session, client: Client, peer: str, name: str | None, output: str | None, most: int, replacing: bool
) -> None:
    from frontier_tx.cli import transfer

    if name is None:
        found = _moving(session, client, peer, transfer.names)
        if session.output.as_json:
            session.output.document({"files": found})
        else:
            session.output.table(["name", "size"], [[each["name"], amount(each["size"])] for each in found])
        return
    if output is None:
        transfer.checked_here(name)
    where = output or name
    if where != "-":
        if os.path.isdir(where):
            where = os.path.join(where, name)
        transfer.checked_here(os.path.basename(where))
        if os.path.lexists(where) and not replacing:
            fail(Exit.USAGE, f"there is a file {where} already; --replace replaces it, -o gives another name")
    moved = _moving(
        session, client, peer, lambda stream: transfer.get(session, stream, str(name), where, most, replacing)
    )
    if where == "-":
        session.output.note(f"sha256 {moved['sha256']}")
    else:
        _print_moved(session, moved)


def _serve_files(
    session: Session, client: Client, folder: str, giving: bool, most: int = 0, together: int = 0,
    replacing: bool = False,
) -> None:  # fmt: skip
    from frontier_tx.cli.folder import Folder
    from frontier_tx.cli.transfer import FileServer

    used = Folder(folder, most, together, replacing)
    server = FileServer(session, giving=used) if giving else FileServer(session, taking=used)
    _serve_streams(session, client, f"{'offers the files of' if giving else 'takes files into'} {folder}", files=server)


@click.command("send", cls=Command)
@edge_argument
@click.argument("file")
@click.option("--as", "name", help="Its name over there.")
@pass_session
def send_command(session: Session, edge: str, file: str, name: str | None) -> None:
    """Send an edge a FILE, checked by its SHA-256.

    The edge runs `frontier edge receive FOLDER`. `-` is standard input.
    """
    _send(session, as_service(session, NAME), str(session.edge_id(edge)), file, name)


@click.command("send", cls=Command)
@click.argument("service")
@click.argument("file")
@click.option("--as", "name", help="Its name over there.")
@edge_options
@pass_session
def edge_send_command(
    session: Session, service: str, file: str, name: str | None, meta: str, wanted_id: int
) -> None:  # fmt: skip
    """Send a service a FILE, checked by its SHA-256.

    The service, named by its name, runs `frontier receive FOLDER`. `-` is standard input.
    """
    _send(session, as_edge(session, meta, wanted_id), service, file, name)


@click.command("get", cls=Command)
@edge_argument
@click.argument("name", required=False)
@click.option("-o", "--output", metavar="PATH", help="A file or folder to write to; - for standard output.")
@most_option
@replace_option
@pass_session
def get_command(session: Session, edge: str, name: str | None, output: str | None, most: int, replacing: bool) -> None:
    """Get the file NAME from an edge, checked by its SHA-256.

    Without NAME the files that it has are listed. The edge runs `frontier edge offer FOLDER`.
    """
    peer = str(session.edge_id(edge))
    _get(session, as_service(session, NAME), peer, name, output, most, replacing)


@click.command("get", cls=Command)
@click.argument("service")
@click.argument("name", required=False)
@click.option("-o", "--output", metavar="PATH", help="A file or folder to write to; - for standard output.")
@most_option
@replace_option
@edge_options
@pass_session
def edge_get_command(
    session: Session, service: str, name: str | None, output: str | None, most: int, replacing: bool, meta: str,
    wanted_id: int,
) -> None:  # fmt: skip
    """Get the file NAME from a service, checked by its SHA-256.

    Without NAME the files that it has are listed. The service, named by its name, runs `frontier offer FOLDER`.
    """
    _get(session, as_edge(session, meta, wanted_id), service, name, output, most, replacing)


_together = click.option(
    "--max-total",
    "together",
    callback=_size,
    metavar="SIZE",
    default="10G",
    show_default=True,
    help="Of all files together.",
)


@click.command("receive", cls=Command)
@click.argument("folder")
@most_option
@_together
@replace_option
@name_option
@pass_session
def receive_command(
    session: Session, folder: str, most: int, together: int, replacing: bool, name: str
) -> None:  # fmt: skip
    """Take files that edges send into FOLDER."""
    _serve_files(session, as_service(session, name), folder, False, most, together, replacing)


@click.command("receive", cls=Command)
@click.argument("folder")
@most_option
@_together
@replace_option
@edge_options
@pass_session
def edge_receive_command(
    session: Session, folder: str, most: int, together: int, replacing: bool, meta: str, wanted_id: int
) -> None:
    """Take files that services send into FOLDER."""
    _serve_files(session, as_edge(session, meta, wanted_id), folder, False, most, together, replacing)


@click.command("offer", cls=Command)
@click.argument("folder")
@name_option
@pass_session
def offer_command(session: Session, folder: str, name: str) -> None:
    """Let edges get the files of FOLDER; not those below it, nor hidden ones."""
    _serve_files(session, as_service(session, name), folder, True)


@click.command("offer", cls=Command)
@click.argument("folder")
@edge_options
@pass_session
def edge_offer_command(session: Session, folder: str, meta: str, wanted_id: int) -> None:
    """Let services get the files of FOLDER; not those below it, nor hidden ones."""
    _serve_files(session, as_edge(session, meta, wanted_id), folder, True)
