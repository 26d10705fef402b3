"""`planetmesh completion bash|zsh|fish`: the script that makes the shell complete our commands."""

from __future__ import annotations

import click

ZSH_FIRST = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }"
"""zsh completes nothing by itself: a ~/.zshrc that did not begin it would end in "command not found"."""

FISH_SPLIT = ('string split ","', 'string split --max 1 ","')
"""Else what is said about a word ends at its first comma."""


@click.command(
    epilog='Example (bash, in ~/.bashrc):  eval "$(planetmesh completion bash)"',
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  eval "$(planetmesh completion bash)"            in ~/.bashrc
    zsh:   eval "$(planetmesh completion zsh)"             in ~/.zshrc
    fish:  planetmesh completion fish > ~/.config/fish/completions/planetmesh.fish

    Ids and names of jobs, machines, tags and people come from the mesh as it is then, within a second.
    """
    from click.shell_completion import get_completion_class

    from planetmesh.cli.main import COMPLETION_VARIABLE, PROGRAM, make_group

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    script = kind(make_group(), {}, PROGRAM, COMPLETION_VARIABLE).source()
    if shell == "zsh":
        head, line_end, rest = script.partition("\n")  # `#compdef` has to be the first line
        script = f"{head}{line_end}{ZSH_FIRST}\n{rest}"
    elif shell == "fish":
        script = script.replace(*FISH_SPLIT)
    click.echo(script)
