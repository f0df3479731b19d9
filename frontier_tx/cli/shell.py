"""``shell``: the commands at a prompt, over one connection."""

import asyncio
import os
import shlex
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from frontier_tx.cli.failures import Exit
from frontier_tx.cli.main import Command, frontier, guarded
from frontier_tx.cli.session import Session, logged_here
from frontier_tx.cli.talk import NAME, pass_session

if TYPE_CHECKING:
    from frontier_tx.aio import ClusterService, Service

T = TypeVar("T")
_LINES = 1000


@click.command("shell", cls=Command)
@pass_session
def shell_command(session: Session) -> int:
    """Type commands at a prompt, over one connection.

    Words are completed with Tab, and lines are remembered. `exit` or Ctrl-D ends it; `help` lists the commands. Lines
    from a pipe are done one after the other; the exit status is that of the last one.
    """
    shell = Shell(session)
    try:
        return shell.talk()
    finally:
        shell.stop()


class Shell:
    """Reads lines in this thread; a loop in another one keeps the connection alive meanwhile."""

    def __init__(self, session: Session) -> None:
        self.options = dict(session.options)
        self._name = session.settings.context
        self._service: Service | ClusterService | None = None
        self._leaving: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, daemon=True)
        self._thread.start()
        logged_here()

    def _turn(self) -> None:
        # Ctrl-C is for the thread that waits for a line; the system might tell this one.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._loop.run_forever()

    def talk(self) -> int:
        """Do what is typed until it ends; return the status of the last line."""
        asking = sys.stdin.isatty()
        if asking:
            self._remembering()
            click.echo("frontier shell: `help` lists the commands, Ctrl-D ends it", err=True)
        status = int(Exit.OK)
        while True:
            try:
                line = input(f"{self._name or 'frontier'}> ") if asking else sys.stdin.readline()
            except EOFError:
                click.echo()
                return status
            except KeyboardInterrupt:
                click.echo()
                continue
            if not line and not asking:
                return status
            try:
                words = shlex.split(line, comments=True)
            except ValueError as error:
                click.echo(f"frontier: {error}", err=True)
                status = Exit.USAGE
                continue
            if words[:1] in (["exit"], ["quit"]):
                return status
            if words:
                status = self._do(words)

    def _do(self, words: list[str]) -> int:
        if words[0] == "help":
            words = [*words[1:], "--help"]
        if words[0] == "shell":
            return Exit.OK
        session = _Line(self)
        return guarded(session, lambda: frontier.main(words, "frontier", standalone_mode=False, obj=session))

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in the loop; Ctrl-C cancels it."""
        done = asyncio.run_coroutine_threadsafe(main(), self._loop)
        try:
            return done.result()
        except KeyboardInterrupt:
            done.cancel()
            raise

    async def service(self, session: Session) -> "Service | ClusterService":
        """The service as which everything is done; it connects when it is first needed, and again when it has to."""
        if self._service is None:
            self._leaving = Session.service(session, NAME, stays=True)
            self._service = await self._leaving.__aenter__()
        return self._service

    def stop(self) -> None:
        """Close the connection and end the loop."""
        if self._leaving is not None:
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(self._leaving.__aexit__(None, None, None), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _remembering(self) -> None:
        """Lines of earlier times, and completion."""
        import atexit
        import readline

        from click.shell_completion import ShellComplete

        state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        path = Path(state) / "frontier" / "history"
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            readline.read_history_file(path)
        readline.set_history_length(_LINES)

        def remember() -> None:
            with suppress(OSError):
                readline.write_history_file(path)

        atexit.register(remember)
        completing = ShellComplete(frontier, {"obj": self}, "frontier", "")

        def complete(text: str, number: int) -> str | None:
            before = readline.get_line_buffer()[: readline.get_begidx()]
            with suppress(Exception):
                found = completing.get_completions(shlex.split(before), text)
                return f"{found[number].value} " if number < len(found) else None
            return None

        readline.set_completer_delims(" \t\n")
        readline.set_completer(complete)
        readline.parse_and_bind("tab: complete")


class _Line(Session):
    """One line's session: the options of the shell, and its connection where the line does not name another server."""

    def __init__(self, shell: Shell) -> None:
        super().__init__()
        self.options.update(shell.options)
        self._shell = shell

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return self._shell.run(main)

    @asynccontextmanager
    async def service(
        self, name: str = "", topics: tuple[str, ...] = (), *, stays: bool = False, **options: Any
    ) -> AsyncIterator["Service | ClusterService"]:
        if stays or _where(self.options) != _where(self._shell.options):
            async with super().service(name, topics, stays=stays, **options) as client:
                yield client
        else:
            yield await self._shell.service(self)


#: Options that change nothing about a connection.
_NOT_WHERE = ("json", "timeout", "quiet", "no_colour", "debug", "token", "token_file")


def _where(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in _NOT_WHERE}
