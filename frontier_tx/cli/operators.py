"""What operators ask a control plane, and do by it: lists, one peer, kicks, draining, configuration."""

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import click

from frontier_tx.cli.failures import Exit, Failure, fail
from frontier_tx.cli.listing import everything, identity, services_of_name
from frontier_tx.cli.main import Command
from frontier_tx.cli.session import Session
from frontier_tx.cli.talk import pass_session
from frontier_tx.cli.text import amount, span

#: Records of a list where nothing else is said.
LIMIT = 100
#: More in one page than servers give at a time.
_LARGEST_PAGE = 10_000

Columns = dict[str, Callable[[dict[str, Any]], object]]


def _number(value: object) -> int:
    """A number of a control plane, which writes large ones as text; 0 where it is none."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 25 else 0


def _age(record: dict[str, Any]) -> str:
    since = _number(record.get("create_time") or record.get("update_time"))
    return span(time.time() - since) if since else "-"


EDGE_COLUMNS: Columns = {
    "id": lambda edge: edge.get("edge_id", ""),
    "meta": lambda edge: edge.get("meta", ""),
    "address": lambda edge: edge.get("addr", ""),
    "frontier": lambda edge: edge.get("frontier_id", ""),
    "online for": _age,
}
SERVICE_COLUMNS: Columns = {
    "id": lambda service: service.get("service_id", ""),
    "name": lambda service: service.get("service", ""),
    "address": lambda service: service.get("addr", ""),
    "frontier": lambda service: service.get("frontier_id", ""),
    "online for": _age,
}


def listing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How much of a list, and in which order."""
    for option in (
        click.option("--order", help="A field, such as +meta or -create_time; the newest first where it is left out."),
        click.option("--all", "whole", is_flag=True, help="All of them, however many; nobody is left out or twice."),
        click.option("--limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="At most so many."),
    ):
        function = option(function)
    return function


@click.command("edges", cls=Command)
@click.option("--meta", help="Those whose meta begins so.")
@click.option("--addr", help="Those whose address begins so.")
@click.option("--rpc", help="Those that have this method.")
@click.option("--frontier", "frontier_id", help="Of a cluster: those of this Frontier.")
@listing_options
@pass_session
def edges_command(session: Session, /, limit: int, whole: bool, order: str | None, **filters: str | None) -> None:
    """List the edges that are online."""
    _list(session, "edges", EDGE_COLUMNS, filters, limit, whole, order)


@click.command("services", cls=Command)
@click.option("--name", "service", help="Those whose name begins so.")
@click.option("--addr", help="Those whose address begins so.")
@click.option("--rpc", help="Those that have this method.")
@click.option("--topic", help="Those that take this topic.")
@click.option("--frontier", "frontier_id", help="Of a cluster: those of this Frontier.")
@listing_options
@pass_session
def services_command(session: Session, /, limit: int, whole: bool, order: str | None, **filters: str | None) -> None:
    """List the services that are online."""
    _list(session, "services", SERVICE_COLUMNS, filters, limit, whole, order)


def _list(
    session: Session, kind: str, columns: Columns, filters: dict[str, str | None], limit: int, whole: bool,
    order: str | None,
) -> None:  # fmt: skip
    control, output = session.control, session.output
    wanted = {name: text for name, text in filters.items() if text}
    if not control.clustered and "frontier_id" in wanted:
        fail(Exit.USAGE, "--frontier goes with a cluster: `--frontlas HOST` says which")
    if control.clustered and not wanted.keys().isdisjoint(("rpc", "topic")):
        fail(Exit.USAGE, "methods and topics are known to each Frontier alone: `--server HOST` asks one")
    if whole:
        records = list(everything(control, kind, wanted))
        count = len(records)
        if order:
            _sort(records, order)
    elif control.clustered:
        # A cluster is scanned in no order; one more tells whether there are more.
        records = list(itertools.islice(everything(control, kind, wanted), limit + 1))
        count = -1 if len(records) > limit else len(records)
        records = records[:limit]
        if order:
            _sort(records, order)
    elif limit > _LARGEST_PAGE:
        records = list(everything(control, kind, wanted))
        count = len(records)
        _sort(records, order or "-create_time")
        records = records[:limit]
    else:
        records, count, _ = control.page(kind, f"/{kind}", page=1, page_size=limit, order=order, **wanted)
    if output.as_json:
        output.document({kind: records, "count": count})
        return
    print_records(session, columns, records)
    # A server that does not count says -1.
    if len(records) < count or (count < 0 and len(records) == limit):
        number = f"{count}" if count >= 0 else "more"
        output.note(f"{len(records)} of {number} {kind}; --limit and --all show more, filters fewer")


def _sort(records: list[dict[str, Any]], order: str) -> None:
    field, down = order.lstrip("+-"), order.startswith("-")

    def key(record: dict[str, Any]) -> tuple[int, int, str]:
        text = str(record.get(field, ""))
        return (0, int(text), "") if text.isascii() and text.isdigit() else (1, 0, text.lower())

    records.sort(key=key, reverse=down)


def print_records(session: Session, columns: Columns, records: Iterable[dict[str, Any]]) -> None:
    """Print a table without the columns in which nothing stands."""
    rows = [[str(cell(record)) for cell in columns.values()] for record in records]
    kept = [at for at, title in enumerate(columns) if title == "id" or not rows or any(row[at] for row in rows)]
    titles = [title for at, title in enumerate(columns) if at in kept and (rows or title != "frontier")]
    session.output.table(titles, [[row[at] for at in kept] for row in rows])


@click.command("frontiers", cls=Command)
@pass_session
def frontiers_command(session: Session) -> None:
    """List the Frontiers of a cluster."""
    control = session.control
    if not control.clustered:
        fail(Exit.USAGE, "Frontiers are listed by Frontlas: `--frontlas HOST` says where it is")
    try:
        found = control.get("/frontiers/details")
    except Failure as failure:
        if failure.code is not Exit.NOT_FOUND:
            raise
        found = control.get("/frontiers")
    if session.output.as_json:
        session.output.document(found)
        return

    def seen(each: dict[str, Any]) -> str:
        return span(time.time() - _number(each["last_seen"])) if each.get("last_seen") else ""

    columns: Columns = {
        "id": lambda each: each.get("frontier_id", ""),
        "edges": lambda each: each.get("edges", ""),
        "services": lambda each: each.get("services", ""),
        "for services": lambda each: each.get("advertised_sb_addr", ""),
        "for edges": lambda each: each.get("advertised_eb_addr", ""),
        "version": lambda each: each.get("version", ""),
        "seen": seen,
        "state": lambda each: ("online" if each["connected"] else "away") if "connected" in each else "",
    }
    print_records(session, columns, found.get("frontiers") or [])


@click.command("show", cls=Command)
@click.argument("who")
@pass_session
def show_command(session: Session, who: str) -> None:
    """Show all that is known of WHO: an edge or a service.

    WHO is an ID, `edge/ID` or `service/ID`; instead of an ID also the meta of the edge or the name of the service.
    An ID without a kind is that of an edge, and otherwise that of a service.
    """
    kind, found = _peer(session, who)
    if session.output.as_json:
        session.output.document(found)
        return
    streams = found.pop("streams", []) or []
    pairs: list[tuple[str, object]] = [("kind", kind)]
    for name, value in found.items():
        if value in ("", [], None):
            continue
        if name in ("create_time", "last_heard", "update_time"):
            when = min(_number(value), 1 << 36)
            value = f"{time.strftime('%F %T', time.localtime(when))}, {span(time.time() - when)} ago"
        elif "bytes" in name:
            value = amount(_number(value))
        elif isinstance(value, list):
            value = ", ".join(str(each) for each in value)
        pairs.append((name.replace("_", " "), value))
    session.output.pairs(pairs)
    if streams:
        columns: Columns = {
            "id": lambda stream: stream.get("stream_id", ""),
            "with": lambda stream: stream.get("peer", ""),
            "in": lambda stream: amount(_number(stream.get("bytes_in"))),
            "out": lambda stream: amount(_number(stream.get("bytes_out"))),
        }
        session.output.text("")
        session.output.text(session.output.styled("streams:", bold=True))
        print_records(session, columns, streams)


def _peer(session: Session, who: str) -> tuple[str, dict[str, Any]]:
    kind, name = identity(who)
    kinds = [kind] if kind else ["edge", "service"]
    missing: Failure | None = None
    for each in kinds:
        try:
            number = session.edge_id(name) if each == "edge" else service_id(session, name)
            return each, _details(session, each, number)
        except Failure as failure:
            if failure.code is not Exit.NOT_FOUND:
                raise
            missing = missing or failure
    what = f"{kind} {name!r} is" if kind else f"neither an edge nor a service {name!r} is"
    raise Failure(Exit.NOT_FOUND, f"{what} not online" if kind else f"{what} online") from missing


def _details(session: Session, kind: str, number: int) -> dict[str, Any]:
    found: dict[str, Any]
    try:
        found = session.control.get(f"/{kind}s/{number}/details")
    except Failure as failure:
        if failure.code is not Exit.NOT_FOUND:
            raise
        # The contract alone, such as that of the Go implementation.
        if session.control.clustered:
            found = session.control.get(f"/{kind}", **{f"{kind}_id": number}).get(kind, {})
        else:
            found = session.control.get(f"/{kind}s/{number}")
    return found


def service_id(session: Session, text: str) -> int:
    """Return the service that is meant: its ID, or the name of the only one that has it."""
    if text.isascii() and text.isdigit():
        return int(text)
    found = services_of_name(session.control, text)
    if len(found) != 1:
        some = ", ".join(str(each["service_id"]) for each in found[:5])
        more = f"{len(found)} services have the name {text!r}; say which by its ID: {some}"
        fail(Exit.NOT_FOUND, more if found else f"no service is online with the name {text!r}")
    return int(found[0]["service_id"])


@click.command("kick", cls=Command)
@click.argument("who", nargs=-1, required=True)
@pass_session
def kick_command(session: Session, who: tuple[str, ...]) -> int:
    """Close the connections of edges and services.

    WHO is as of `show`: an ID or meta of an edge, or service/ID. It is done when the connection is gone. Who was
    kicked may connect again at once.
    """
    kicked: list[str] = []
    failed: list[dict[str, str]] = []
    status = Exit.OK
    for each in who:
        kind, name = identity(each)
        if kind == "service" and session.control.clustered:
            fail(Exit.USAGE, "a service is kicked at a Frontier: `--server HOST` says which")
        try:
            number = service_id(session, name) if kind == "service" else session.edge_id(name)
            session.control.ask("DELETE", f"/{kind or 'edge'}s/{number}")
        except Failure as failure:
            if failure.code not in (Exit.NOT_FOUND, Exit.TIMEOUT, Exit.BUSY, Exit.PEER):
                raise
            status = status or failure.code
            failed.append({"who": each, "message": failure.text})
            if not session.output.as_json:
                click.echo(f"frontier: {each}: {failure.text}", err=True)
            continue
        kicked.append(f"{kind or 'edge'}/{number}")
        if not session.output.as_json:
            session.output.text(f"kicked {kind or 'edge'} {number}")
    if session.output.as_json:
        session.output.document({"kicked": kicked, "failed": failed})
    return status


@click.command("drain", cls=Command)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@pass_session
def drain_command(session: Session, yes: bool) -> None:
    """Let the server leave in order, and end.

    Nobody new is let in, those who are there are told goodbye, then its process ends.
    """
    where = str(session.control.address)
    if not yes:
        import sys

        if not sys.stdin.isatty():
            fail(Exit.USAGE, "this ends the server; --yes says that it is meant")
        if not click.confirm(f"The server at {where} leaves and ends. Go on?"):
            raise click.exceptions.Exit(Exit.PEER)
    session.control.ask("POST", "/server/drain")
    if session.output.as_json:
        session.output.document({"draining": where})
    else:
        session.output.text(f"{where} is draining")


@click.command("config", cls=Command)
@pass_session
def config_command(session: Session) -> None:
    """Print the configuration in effect, as YAML, without secrets."""
    found = session.control.get("/server/config")
    if session.output.as_json:
        session.output.document(found)
        return
    import yaml

    session.output.text(yaml.safe_dump(found, sort_keys=False).rstrip("\n"))


@click.command("log-level", cls=Command)
@click.argument("level", required=False, type=click.Choice(["debug", "info", "warn", "error"]))
@pass_session
def log_level_command(session: Session, level: str | None) -> None:
    """Print or set the server's log level.

    It is the least that is logged, and is set until the process ends.
    """
    if level:
        found = session.control.ask("PUT", "/server/log-level", {"level": level})
    else:
        found = session.control.get("/server/log-level")
    if session.output.as_json:
        session.output.document(found)
    else:
        session.output.data(str(found.get("level", "")).encode() + b"\n")


@click.command("status", cls=Command)
@pass_session
def status_command(session: Session) -> int:
    """Show how the server does. The exit status is 7 while it cannot do its work, as when it drains."""
    found = session.control.get("/server")
    ready = not found.get("draining") and not found.get("not_ready")
    if session.output.as_json:
        session.output.document(found)
        return Exit.OK if ready else Exit.BUSY
    state = session.output.styled("ready", fg="green") if ready else ""
    pairs: list[tuple[str, object]] = [("server", str(session.control.address))]
    addresses = found.get("addresses") or {}
    for name in ("version", "frontier_id", "edges", "services", "frontiers", "log_level"):
        if found.get(name) not in (None, ""):
            pairs.append((name.replace("_", " "), found[name]))
    pairs.append(("up for", span(_number(found.get("uptime_seconds")))))
    pairs += [(f"for {name}", ", ".join(where)) for name, where in addresses.items() if where]
    pairs.append(("you may", ", ".join(found.get("roles") or []) or "nothing"))
    session.output.text(state or session.output.styled(_trouble(found), fg="red"))
    session.output.pairs(pairs)
    return Exit.OK if ready else Exit.BUSY


def _trouble(found: dict[str, Any]) -> str:
    from frontier_tx.cli.text import shown

    return "draining" if found.get("draining") else f"not ready: {shown(str(found.get('not_ready')))}"


@click.command("version", cls=Command)
@pass_session
def version_command(session: Session) -> None:
    """Print the versions of this command and of the server."""
    from frontier_tx import __version__

    server = ""
    try:
        server = str(session.control.get("/server").get("version", ""))
    except Failure as failure:
        session.output.note(f"frontier: {failure.text}")
    if session.output.as_json:
        session.output.document({"command": __version__, "server": server or None})
        return
    session.output.pairs([("command", __version__), ("server", server or "not known")])
