"""`planetmesh run`: one command on the mesh as if it ran here, or one task for each input.

Options stand before the command; what stands behind it is the command's own. The order of things: check
everything, submit, watch, report. Ctrl-C cancels the job on the mesh.
"""

from __future__ import annotations

from typing import Any

import click

from planetmesh.cli.face import Face
from planetmesh.cli.inputs import Sources, read_inputs, refuse_positions, split_command
from planetmesh.cli.spec import (
    JobOptions,
    build_spec,
    command_payload,
    job_options,
    script_payload,
    take_options,
)
from planetmesh.model.job import AUTO_CHUNK, JobSpec

_EXAMPLES = """
\b
Examples:
  planetmesh run hostname
  planetmesh run --cpus 2 ffmpeg -i {} {.}.mp4 ::: *.mkv
  planetmesh run 'convert {} -resize 50% small-{/}' ::: *.png
  planetmesh run --range 1..100 ./simulate --seed {}
  planetmesh run --glob 'photos/**/*.png' --chunk auto optipng
  planetmesh run --script job.py ::: a b
  planetmesh run --script job.sh -- --fast {} ::: a b

\b
Replaced in every argument: {} input, {.} without extension, {/} file name,
{//} folder, {/.} file name without extension, {#} number. A command without
any gets the input as its last argument. A command given as one argument with
blanks in it runs through the shell. Several ::: lists: every combination,
joined by one blank. With --chunk an argument with {} is repeated for each
input of the task; in a shell line {} is all of them: 'for x in {}; do …; done'.

Exit status: the command's own for one task; else 0 if all completed, 1 if any failed.
"""


@click.command(
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False}, epilog=_EXAMPLES
)
@click.option(
    "--lines", metavar="FILE", help="One task for each line of FILE (- is stdin); blank lines are skipped."
)
@click.option(
    "--range", "range_", metavar="A..B[:STEP]", help="One task for each number, both ends included."
)
@click.option(
    "--json-items", metavar="FILE", help="One task for each item of a JSON array, or JSON value a line."
)
@click.option(
    "--glob",
    multiple=True,
    metavar="PATTERN",
    help="One task for each local file that matches, like '**/*.png' (repeatable).",
)
@click.option("--script", metavar="FILE", help="Send this local script along; the arguments are its own.")
@click.option(
    "--interpreter", metavar="CMD", help="What runs the script (default: its #! line or extension)."
)
@job_options
@click.option("-k", "--keep-order", is_flag=True, help="Print outputs in the order of the inputs.")
@click.option("--raw", is_flag=True, help="Pass tasks' control characters on to this terminal.")
@click.option("--detach", is_flag=True, help="Print the job's id and leave.")
@click.option("--dry-run", is_flag=True, help="Show the tasks, send nothing.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="CMD ARG… [::: INPUT…]")
@click.pass_obj
def run(face: Face, /, command: tuple[str, ...], **values: Any) -> int:
    """Run a command on the mesh, or one task for each input."""
    options = take_options(values)
    spec = _make_spec(command, values, options)
    if values["dry_run"]:
        return show_tasks(face, spec)
    from planetmesh.cli.watch import How, submit_and_watch

    how = How(values["keep_order"], values["raw"], values["detach"])
    return face.run(submit_and_watch(face, spec, options, how))


def _make_spec(command: tuple[str, ...], values: dict[str, Any], options: JobOptions) -> JobSpec:
    words, lists = split_command(command)
    refuse_positions(words, lists)
    if values["script"]:
        kind = script_payload(values["script"], words, values["interpreter"])
    elif values["interpreter"]:
        raise click.UsageError("--interpreter needs --script FILE.")
    else:
        kind = command_payload(words)
    sources = Sources(lists, values["lines"], values["range_"], values["json_items"], values["glob"])
    return build_spec(kind, read_inputs(sources), options)


def show_tasks(face: Face, spec: JobSpec) -> int:
    """`--dry-run`: what each task would run, or what each input would where tasks are cut later."""
    from planetmesh.cli.output import Column, Shape
    from planetmesh.jobtypes.registry import job_type

    kind = job_type(spec.type)
    tasks = [
        {"index": index, "inputs": items, "command": kind.describe(spec.payload, items, index)}
        for index, items in ((index, spec.items_of(index)) for index in range(spec.task_count))
    ]
    columns = (
        Column[dict[str, Any]](
            "INPUT" if spec.chunk == AUTO_CHUNK else "TASK", lambda task: str(task["index"]), right=True
        ),
        Column[dict[str, Any]]("COMMAND", lambda task: task["command"], long=True),
    )
    face.printer.rows(tasks, Shape(columns, lambda task: task["command"]))
    plural = "s" if len(tasks) != 1 else ""
    if spec.chunk == AUTO_CHUNK:
        face.printer.note(
            f"{len(tasks)} input{plural}; the scheduler puts several into one task, as many as each machine "
            "does in a few seconds. Nothing was sent."
        )
    else:
        face.printer.note(f"{len(tasks)} task{plural}; nothing was sent.")
    return 0
