"""``completion``: what a shell needs to complete the command's words."""

import click
from click.shell_completion import get_completion_class

from frontier_tx.cli.main import Command, frontier


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the script that completes the words of this command.

    \b
    bash: frontier completion bash > ~/.local/share/bash-completion/completions/frontier
    zsh:  frontier completion zsh > "${fpath[1]}/_frontier"
    fish: frontier completion fish > ~/.config/fish/completions/frontier.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(frontier, {}, "frontier", "_FRONTIER_COMPLETE").source())
