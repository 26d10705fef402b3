"""Hidden commands with which planetmesh starts itself again. Not for people; not part of the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from planetmesh.cli.face import Face
from planetmesh.errors import BadInput, Unreachable


@click.command()
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option("--log-file", type=click.Path(path_type=Path))
@click.option("--calm", is_flag=True)
@click.pass_obj
def agent(face: Face, *, log_format: Literal["text", "json"], log_file: Path | None, calm: bool) -> int:
    """The agent beside a coordinator; `up` starts it and wrote its part down."""
    from planetmesh import logs
    from planetmesh.cli.be_agent import be_local_agent
    from planetmesh.cli.own_program import keep_unpacked
    from planetmesh.cli.part import Role, read_part
    from planetmesh.cli.up import open_log_file
    from planetmesh.settings import load_settings

    home = face.home
    home.prepare()
    keep_unpacked()
    with home.locked():
        part = read_part(home)
        if part is None or part.role is not Role.AGENT:
            raise BadInput("`_agent` is started by `planetmesh up` only.")
        # The settings are the coordinator's, one folder up.
        settings = load_settings(home.root.parent / home.settings_file.name)
        file = open_log_file(log_file, settings)
        logs.set_up(log_format, verbose=face.verbose > 0, calm=calm or None, file=file, process="agent")
        return be_local_agent(home, part, settings)


@click.command()
@click.argument("descriptor", type=click.IntRange(3))
def zygote(descriptor: int) -> None:
    """The zygote as a program of its own; see agent.sandbox.handle."""
    import sys

    if sys.platform == "linux":
        from planetmesh.agent.sandbox.zygote import zygote_main

        zygote_main(descriptor)
    raise Unreachable("There is no zygote on this platform.")


@click.command()
@click.argument("arguments", nargs=-1)
def tile(arguments: tuple[str, ...]) -> None:
    """One tile of the demo's picture, to stdout."""
    from planetmesh.cli.demo_scene import main

    main(list(arguments))
