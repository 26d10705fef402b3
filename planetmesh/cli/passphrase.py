"""Where the passphrase of a backup comes from: a question, one line of stdin, or a private file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from planetmesh.cli.secret_lines import is_asked, line_of_file, line_of_stdin
from planetmesh.errors import BadInput

C = TypeVar("C", bound=Any)
MISSING = BadInput(
    "A backup has a passphrase, and nobody is here to be asked for it.",
    hint="Give it with --passphrase-file F or --passphrase-stdin.",
)


@dataclass(frozen=True)
class Source:
    """As it was typed."""

    stdin: bool = False
    file: Path | None = None

    @property
    def is_given(self) -> bool:
        return self.stdin or self.file is not None


def passphrase_options(command: C) -> C:
    """`--passphrase-stdin` and `--passphrase-file`."""
    for option in (
        click.option("--passphrase-file", metavar="F", type=click.Path(path_type=Path),
                     help="Read the passphrase from a file that only you can read."),
        click.option("--passphrase-stdin", is_flag=True, help="Read the passphrase from stdin: one line."),
    ):  # fmt: skip
        command = option(command)
    return command


def check_source(*, stdin: bool, file: Path | None) -> Source:
    """Raise what is wrong with it before anything is done."""
    if stdin and file is not None:
        raise click.UsageError("--passphrase-stdin and --passphrase-file exclude each other.")
    return Source(stdin, file)


def new(source: Source) -> tuple[str, bool]:
    """A passphrase to seal with, and whether it was made here and has to be shown. Raises BadInput."""
    from planetmesh.trust.sealed import check_passphrase, new_passphrase

    if source.is_given:
        given = _read(source)
        check_passphrase(given)
        return given, False
    while True:
        given = _ask("Passphrase for the backup (Enter: one is made for you)")
        if not given:
            return new_passphrase(), True
        try:
            check_passphrase(given)
        except BadInput as error:
            click.echo(f"{error.message} {error.hint}", err=True)
            continue
        if _ask("The same again") == given:
            return given, False
        click.echo("The two are not the same.", err=True)


def known(source: Source) -> str:
    """The passphrase that something was sealed with. Raises BadInput."""
    return _read(source) if source.is_given else _ask("Passphrase of the backup")


def _ask(question: str) -> str:
    if not is_asked():
        raise MISSING
    answer: str = click.prompt(question, hide_input=True, default="", show_default=False, err=True)
    return answer.strip()


def _read(source: Source) -> str:
    line = line_of_stdin() if source.file is None else line_of_file(source.file, "passphrase")
    try:
        text = line.decode().strip()
    except UnicodeDecodeError as error:
        raise BadInput("The passphrase is no text (UTF-8).") from error
    if not text:
        raise BadInput("There is no passphrase in the input: its first line is empty.")
    return text
