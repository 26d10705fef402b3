"""`planetmesh run`: one command on the mesh as if it ran here, or one task for each input.

Options stand before the command; what stands behind it is the command's own. The order of things: check
everything, submit, watch, report. Ctrl-C cancels the job on the mesh.
"""

from __future__ import annotations

from typing import Any

import click

from planetmesh.cli.completing import complete_file, complete_folder
from planetmesh.cli.face import Face
from planetmesh.cli.inputs import Sources, read_inputs, refuse_positions, split_command
from planetmesh.cli.spec import JobOptions, command_payload, job_options, script_payload, take_options
from planetmesh.cli.staging import Order, make_order, own_files, say_notes, show_plan
from planetmesh.model.job import AUTO_CHUNK

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
  planetmesh run --out '**/*.mp4' -o films ffmpeg -i {} {.}.mp4 ::: *.mkv
  planetmesh run --in train.py --in data/ --out model/ python3 train.py
  planetmesh run ./convert.sh {} ::: *.jpg

\b
Files: an input that is a file here is taken along into its task's folder, and
{} is its name there; so is a program called by a relative path (./convert.sh).
--no-stage stops both. --in takes more along, for every task. --out patterns say
what comes back, relative to the task's folder: * stays within one folder, ** is
any depth, a folder means all in it. A file with other content is never replaced
without --overwrite. With --detach, later: planetmesh fetch JOB -o DIR

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
    "--lines",
    metavar="FILE",
    shell_complete=complete_file,
    help="One task for each line of FILE (- is stdin); blank lines are skipped.",
)
@click.option(
    "--range", "range_", metavar="A..B[:STEP]", help="One task for each number, both ends included."
)
@click.option(
    "--json-items",
    metavar="FILE",
    shell_complete=complete_file,
    help="One task for each item of a JSON array, or JSON value a line.",
)
@click.option(
    "--glob",
    multiple=True,
    metavar="PATTERN",
    help="One task for each local file that matches, like '**/*.png' (repeatable).",
)
@click.option(
    "--script",
    metavar="FILE",
    shell_complete=complete_file,
    help="Send this local script along; the arguments are its own.",
)
@click.option(
    "--interpreter", metavar="CMD", help="What runs the script (default: its #! line or extension)."
)
@job_options
@click.option("-k", "--keep-order", is_flag=True, help="Print outputs in the order of the inputs.")
@click.option("--raw", is_flag=True, help="Pass tasks' control characters on to this terminal.")
@click.option(
    "-o",
    "folder",
    metavar="DIR",
    shell_complete=complete_folder,
    help="Where the --out files are laid (default: the current folder).",
)
@click.option("--overwrite", is_flag=True, help="Replace files there that have other content.")
@click.option("--detach", is_flag=True, help="Print the job's id and leave.")
@click.option("--dry-run", is_flag=True, help="Show the tasks, send nothing.")
@click.argument(
    "command", nargs=-1, type=click.UNPROCESSED, metavar="CMD ARG… [::: INPUT…]", shell_complete=complete_file
)
@click.pass_obj
def run(face: Face, /, command: tuple[str, ...], **values: Any) -> int:
    """Run a command on the mesh, or one task for each input."""
    options = take_options(values)
    if values["folder"] is not None and (values["detach"] or not options.out):
        raise click.UsageError(
            "--detach leaves the files on the mesh: `planetmesh fetch` brings them later."
            if values["detach"]
            else "-o needs --out PATTERN: which files are to be brought back?"
        )
    order = _make_order(command, values, options)
    if values["dry_run"]:
        return show_tasks(face, order)
    from planetmesh.cli.watch import How, submit_and_watch

    how = How(
        keep_order=values["keep_order"],
        raw=values["raw"],
        detach=values["detach"],
        folder=values["folder"] or ".",
        overwrite=values["overwrite"],
    )
    return face.run(submit_and_watch(face, order, how))


def _make_order(command: tuple[str, ...], values: dict[str, Any], options: JobOptions) -> Order:
    words, lists = split_command(command)
    refuse_positions(words, lists)
    if values["script"]:
        kind = script_payload(values["script"], words, values["interpreter"])
    elif values["interpreter"]:
        raise click.UsageError("--interpreter needs --script FILE.")
    else:
        kind = command_payload(words)
    sources = Sources(lists, values["lines"], values["range_"], values["json_items"], values["glob"])
    # A combination of several lists is one text, and an item of JSON is data: neither names a file.
    may_name_files = len(lists) < 2 and not values["json_items"]
    return make_order(kind, read_inputs(sources), options, may_name_files=may_name_files)


def show_tasks(face: Face, order: Order) -> int:
    """`--dry-run`: what each task would run, or what each input would where tasks are cut later."""
    from planetmesh.cli.output import Column, Shape
    from planetmesh.jobtypes.registry import job_type

    spec = order.spec
    kind = job_type(spec.type)
    tasks = [
        {
            "index": index,
            "inputs": items,
            "command": kind.describe(spec.payload, items, index),
            "files": own_files(order, index),
        }
        for index, items in ((index, spec.items_of(index)) for index in range(spec.task_count))
    ]
    columns = (
        Column[dict[str, Any]](
            "INPUT" if spec.chunk == AUTO_CHUNK else "TASK", lambda task: str(task["index"]), right=True
        ),
        Column[dict[str, Any]]("COMMAND", lambda task: task["command"], long=True),
    )
    face.printer.rows(tasks, Shape(columns, lambda task: task["command"]))
    say_notes(face, order)
    show_plan(face, order)
    plural = "s" if len(tasks) != 1 else ""
    if spec.chunk == AUTO_CHUNK:
        face.printer.note(
            f"{len(tasks)} input{plural}; the scheduler puts several into one task, as many as each machine "
            "does in a few seconds. Nothing was sent."
        )
    else:
        face.printer.note(f"{len(tasks)} task{plural}; nothing was sent.")
    return 0
