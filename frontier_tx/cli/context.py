"""``context``: servers under names."""

from typing import Any

import click

from frontier_tx.cli.contexts import KEYS
from frontier_tx.cli.failures import Exit, fail
from frontier_tx.cli.main import Command, Group
from frontier_tx.cli.session import Session
from frontier_tx.cli.talk import pass_session


@click.group("context", cls=Group, short_help="Servers under names: add, use, list, show, remove.")
def context_command() -> None:
    """Keep servers under names, with their tokens and TLS.

    `frontier context add prod --server gw.example.com --ca ca.pem --token-file token` takes all options that say where
    a server is and who you are. They stand in a file that only you can read.
    """


@context_command.command("add", cls=Command)
@click.argument("name")
@click.option("--token-from-stdin", is_flag=True, help="Read the token from standard input.")
@click.option("--no-use", is_flag=True, help="Do not use it from now on.")
@pass_session
def add(session: Session, name: str, token_from_stdin: bool, no_use: bool) -> None:
    """Remember the server that the options name, as NAME; use it from now on."""
    import os
    import sys

    if not name or not name.isprintable() or "," in name:
        fail(Exit.USAGE, f"{name!r} is no name")
    entry: dict[str, Any] = {key: session.options[key] for key in KEYS if session.options.get(key) is not None}
    for key in ("ca", "cert", "key", "token_file"):
        if key in entry:
            entry[key] = os.path.abspath(entry[key])
            if not os.path.isfile(entry[key]):
                fail(Exit.USAGE, f"there is no file {entry[key]}")
    if token_from_stdin:
        entry["token"] = sys.stdin.readline(65536).strip()
        if not entry["token"]:
            fail(Exit.USAGE, "standard input has no token")
    if not any(key in entry for key in ("server", "control_addr", "service_addr", "edge_addr", "frontlas")):
        fail(Exit.USAGE, "where is it? --server HOST, or --frontlas HOST for a cluster")
    contexts = session.settings.contexts
    contexts.entries[name] = entry
    if not no_use:
        contexts.current = name
    contexts.write()
    session.output.note(f"frontier: {contexts.path} knows {name}{'' if no_use else ', which is used from now on'}")


@context_command.command("use", cls=Command)
@click.argument("name")
@pass_session
def use(session: Session, name: str) -> None:
    """Use NAME from now on, wherever no option says otherwise; `-` for none."""
    contexts = session.settings.contexts
    if name == "-":
        contexts.current = ""
    else:
        contexts.get(name)
        contexts.current = name
    contexts.write()


@context_command.command("list", cls=Command)
@pass_session
def list_(session: Session) -> None:
    """List the contexts; the one in use has a star."""
    contexts, current = session.settings.contexts, session.settings.context
    if session.output.as_json:
        listed = [
            {"name": name, "current": name == current, **_hidden(each)} for name, each in contexts.entries.items()
        ]
        session.output.document(listed)
        return
    rows = []
    for name, entry in sorted(contexts.entries.items()):
        secret = "token" if entry.get("token") or entry.get("token_file") else ""
        where = [entry.get(key) for key in ("frontlas", "server", "control_addr", "service_addr", "edge_addr")]
        tls = "tls" if any(entry.get(key) for key in ("tls", "ca", "cert", "insecure")) else ""
        rows.append(["*" if name == current else "", name, ", ".join(str(each) for each in where if each), tls, secret])
    session.output.table(["", "name", "where", "tls", "token"], rows)


@context_command.command("show", cls=Command)
@click.argument("name", required=False)
@pass_session
def show(session: Session, name: str | None) -> None:
    """Show a context, or the one in use; its token is hidden."""
    name = name or session.settings.context
    if not name:
        fail(Exit.NOT_FOUND, "no context is in use; `frontier context list` lists them")
    entry = _hidden(session.settings.contexts.get(name))
    if session.output.as_json:
        session.output.document({"name": name, **entry})
    else:
        session.output.pairs([("name", name), *entry.items()])


@context_command.command("remove", cls=Command)
@click.argument("name")
@pass_session
def remove(session: Session, name: str) -> None:
    """Forget NAME."""
    contexts = session.settings.contexts
    contexts.get(name)
    del contexts.entries[name]
    if contexts.current == name:
        contexts.current = ""
    contexts.write()


def _hidden(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "token": "***"} if entry.get("token") else dict(entry)
