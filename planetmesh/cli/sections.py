"""Help in sections: what belongs together stands together, and what is asked for most comes first."""

from __future__ import annotations

from typing import Any

import click

Sections = tuple[tuple[str, tuple[str, ...]], ...]
"""Title → names of commands, or of options as click calls them (`only_new`)."""


def in_sections(rows: dict[str, tuple[str, str]], sections: Sections, rest: str) -> list[tuple[str, Any]]:
    """Titles with the rows of each, by name; `rest` is the title of what stands in no section."""
    named = {name for _title, names in sections for name in names}
    found = [(title, [rows[name] for name in names if name in rows]) for title, names in sections]
    found.append((rest, [row for name, row in rows.items() if name not in named]))
    return [(title, each) for title, each in found if each]


class SectionedCommand(click.Command):
    """A command with many options."""

    sections: Sections = ()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, tuple[str, str]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                # Operations of `images` share no name with anything else.
                rows[parameter.name or ""] = row
        for title, some in in_sections(rows, self.sections, "Options for the tasks"):
            with formatter.section(title):
                formatter.write_dl(some)
