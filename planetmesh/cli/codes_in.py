"""Where a pairing code comes from: a prompt, one line of stdin, or a file.

Never an argument of the command line, which every user of the machine can read. Used by `up` and `login`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from planetmesh.cli.secret_lines import line_of_file, line_of_stdin
from planetmesh.errors import BadInput

if TYPE_CHECKING:
    from planetmesh.trust.codes import Code

C = TypeVar("C", bound=Any)


@dataclass(frozen=True)
class Way:
    """How to join, as it was typed."""

    join: str | None = None
    code_stdin: bool = False
    code_file: Path | None = None

    @property
    def has_code(self) -> bool:
        return self.code_stdin or self.code_file is not None

    @property
    def is_given(self) -> bool:
        """Somebody wants to join, whatever the search says."""
        return self.join is not None or self.has_code


def way_options(command: C) -> C:
    """`--join`, `--code-stdin` and `--code-file`."""
    for option in (
        click.option("--code-file", metavar="F", type=click.Path(path_type=Path),
                     help="Read the pairing code from a file that only you can read."),
        click.option("--code-stdin", is_flag=True, help="Read the pairing code from stdin: one line."),
        click.option("--join", metavar="HOST:PORT", help="Join the coordinator there, without mDNS."),
    ):  # fmt: skip
        command = option(command)
    return command


def check_way(join: str | None, *, code_stdin: bool, code_file: Path | None) -> Way:
    """Raise what is wrong with it before anything is done."""
    if code_stdin and code_file is not None:
        raise click.UsageError("--code-stdin and --code-file exclude each other.")
    if join is not None:
        from planetmesh.model.endpoint import parse_endpoint

        parse_endpoint(join)
    return Way(join, code_stdin, code_file)


def read_code(way: Way) -> Code:
    """The code that stdin or the file holds; raises BadInput."""
    from planetmesh.trust.codes import parse_code

    line = line_of_stdin() if way.code_file is None else line_of_file(way.code_file, "code")
    text = line.decode("ascii", "replace")
    if not text.strip():
        raise BadInput("There is no pairing code in the input.", hint="`planetmesh code` makes one.")
    return parse_code(text.strip())


def ask_code() -> Code:
    """Ask until what is typed can be a code: a typing error costs no attempt."""
    from planetmesh.cli.failure import show_error
    from planetmesh.trust.codes import parse_code

    while True:
        text = click.prompt("Pairing code", err=True, prompt_suffix=": ")
        try:
            return parse_code(text)
        except BadInput as error:
            show_error(error.code, error.message, error.hint, as_json=False)
