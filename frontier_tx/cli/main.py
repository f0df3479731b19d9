"""The entry of the command: its options, its commands, and what becomes of an error."""

import io
import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

import click

from frontier_tx import __version__
from frontier_tx.cli.failures import Exit, Failure, explained
from frontier_tx.cli.session import Session
from frontier_tx.cli.settings import ENVIRONMENT
from frontier_tx.cli.text import json_text, shown_lines
from frontier_tx.errors import FrontierError

#: Commands under their headings, with the modules that have them.
CHAPTERS = {
    "Talk to edges": {
        "call": "talk", "pub": "talk", "sub": "talk", "serve": "talk", "forward": "streams", "expose": "streams",
        "send": "streams", "get": "streams", "receive": "streams", "offer": "streams", "shell": "shell",
        "bench": "bench", "edge": "edge",
    },
    "Operate a server": {
        "edges": "operators", "services": "operators", "frontiers": "operators", "show": "operators",
        "watch": "live", "top": "live", "kick": "operators", "drain": "operators", "config": "operators",
        "log-level": "operators", "status": "operators", "version": "operators",
    },
    "This command": {"context": "context", "completion": "completion"},
}  # fmt: skip


def _noted(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option wherever it stands: before the command or behind it."""
    if value is not None and value is not False and parameter.name:
        session = context.find_object(Session) or context.find_root().ensure_object(Session)
        session.options[parameter.name] = value


def common_options() -> list[click.Option]:
    """The options that every command takes; new ones, as click keeps them with the command."""

    def option(*names: str, key: str = "", **more: Any) -> click.Option:
        name = key or names[0].removeprefix("--").replace("-", "_")
        variable = ENVIRONMENT.get(name)
        if variable:
            more["help"] += f"  [env: {variable}]"
        return click.Option([*names, name], expose_value=False, callback=_noted, **more)

    path = click.Path(dir_okay=False)
    return [
        option("--json", is_flag=True, help="JSON in place of texts; commands that go on print one in a line."),
        option("--server", metavar="HOST[:PORT]", help="The server; with a port, the one that the command needs."),
        option("--context", metavar="NAME", help="Servers as `frontier context` knows them."),
        option("--timeout", metavar="TIME", help="How long it may take: 5, 500ms, 2m."),
        option("--token", metavar="TOKEN", help="Who you are to a control plane; others can see an argument, see the "
               "variable and --token-file."),
        option("--token-file", metavar="FILE", type=path, help="A file that has the token."),
        option("--frontlas", metavar="HOST[:PORT]", help="A cluster: its registry, port 40011."),
        option("--control-addr", metavar="HOST:PORT", help="The control plane, 30010."),
        option("--service-addr", metavar="HOST:PORT", help="The port for services, 30011."),
        option("--edge-addr", metavar="HOST:PORT", help="The port for edges, 30012."),
        option("--tls", is_flag=True, help="TLS, verified by the system's authorities."),
        option("--ca", metavar="FILE", type=path, help="TLS, verified by these authorities."),
        option("--cert", metavar="FILE", type=path, help="A certificate of one's own for TLS."),
        option("--key", metavar="FILE", type=path, help="Its key."),
        option("--insecure", is_flag=True, help="TLS that verifies nothing."),
        option("--quiet", "-q", is_flag=True, help="Say nothing of how it goes."),
        option("--no-colour", "--no-color", is_flag=True, help="No colours; NO_COLOR does the same."),
        option("--debug", is_flag=True, help="Show the traceback of an error."),
    ]  # fmt: skip


class ReaderGone(Exception):
    """Nobody reads standard output any more."""


class Command(click.Command):
    """A command with the common options, which its help only mentions."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._common = common_options()
        own = {name for parameter in self.params for name in parameter.opts}
        self.params += [option for option in self._common if not own & set(option.opts)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        common = {id(option) for option in self._common}
        own = [each for each in self.get_params(ctx) if id(each) not in common and not isinstance(each, click.Argument)]
        records = [record for record in (parameter.get_help_record(ctx) for parameter in own) if record is not None]
        with formatter.section("Options"):
            formatter.write_dl(records)
        formatter.write_paragraph()
        formatter.write_text("And those of all commands (--json, --server, --timeout, ...): `frontier --help`.")


class Group(click.Group):
    """Commands that are loaded when they are needed."""

    command_class = Command

    def __init__(self, *args: Any, chapters: dict[str, dict[str, str]] | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params += common_options()
        self.chapters = chapters or {}
        self.prefix = f"{self.name}_" if self.chapters and self.name else ""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for chapter in self.chapters.values() for name in chapter] or super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for chapter in self.chapters.values():
            if cmd_name in chapter:
                module = import_module(f"frontier_tx.cli.{chapter[cmd_name]}")
                name = cmd_name.replace("-", "_") + "_command"
                # A module may have a command of the same name for services and for edges.
                found = getattr(module, f"{self.prefix}{name}", None) or getattr(module, name)
                assert isinstance(found, click.Command)
                return found
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            near = get_close_matches(args[0], self.list_commands(ctx), 1)
            ctx.fail(f"there is no command {args[0]!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(Exit.INTERRUPTED) from None
        except BrokenPipeError:
            # Before click makes 1 of it, which is what a peer's error is.
            raise ReaderGone from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        if ctx.parent is None:
            click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not self.chapters:
            super().format_commands(ctx, formatter)
        for title, chapter in self.chapters.items():
            found = [(name, self.get_command(ctx, name)) for name in chapter]
            with formatter.section(title):
                formatter.write_dl([(name, each.get_short_help_str(limit=160)) for name, each in found if each])


Group.group_class = Group

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=Group, chapters=CHAPTERS, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="frontier")
@click.pass_context
def frontier(context: click.Context) -> None:
    """Talk to edges and services, and run gateways.

    Every command takes the options below, before its name or behind it.
    """
    context.ensure_object(Session)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and exit."""
    session = Session()
    for stream in (sys.stdout, sys.stderr):
        # Whatever the locale can write: nothing that a peer says ends the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def work() -> Any:
        return frontier.main(
            arguments, "frontier", complete_var="_FRONTIER_COMPLETE", standalone_mode=False, obj=session
        )

    sys.exit(guarded(session, work))


def guarded(session: Session, work: Callable[[], Any]) -> int:
    """Do something; whatever goes wrong becomes a sentence on standard error and an exit status."""
    try:
        found = work()
        sys.stdout.flush()
        return found if isinstance(found, int) else Exit.OK
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            click.echo(error.format_message(), err=True)
            return Exit.USAGE
        return _told(session, Exit.USAGE, error.format_message(), _usage(error))
    except Failure as error:
        return _told(session, error.code, error.text)
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except (ReaderGone, BrokenPipeError):
        # Who reads us is gone; nothing else may be written there, not even at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.BROKEN_PIPE
    except FrontierError as error:
        told = explained(error)
        return _told(session, told.code, told.text)
    except Exception as error:
        return _bug(session, error)


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"; see `{context.command_path} --help`" if context is not None else ""


def _bug(session: Session, error: Exception) -> int:
    if session.options.get("debug"):
        raise error
    text = f"{type(error).__name__}: {error}"
    return _told(session, Exit.BUG, f"this is a fault of the command: {text}; --debug shows where")


def _told(session: Session, code: int, text: str, more: str = "") -> int:
    if session.options.get("debug"):
        raise
    text = text.rstrip(".") if more else text
    if session.options.get("json"):
        click.echo(json_text({"error": {"code": int(code), "message": text}}), err=True)
    else:
        click.echo(f"frontier: {shown_lines(text)}{more}", err=True)
    return code
