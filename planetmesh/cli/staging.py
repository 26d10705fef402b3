"""What a job takes along from this machine: planned with its spec, shown, sent.

Called by `run` and `submit`. What stands in `--in` goes to every task; an input that is an existing file goes
to the task of that input; so does a program that is called by a relative path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planetmesh.cli.face import Face
from planetmesh.cli.spec import JobOptions, build_spec
from planetmesh.client.plan import Plan
from planetmesh.model.blob import Digest, StagedFile
from planetmesh.model.job import Inputs, Items, JobSpec
from planetmesh.model.resources import show_size

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.client.handles import JobHandle

SHOWN = 3
"""Names in one sentence."""


@dataclass(frozen=True)
class Order:
    """A job that is ready to be sent, and the files that it takes along."""

    spec: JobSpec
    options: JobOptions
    plan: Plan
    notes: tuple[str, ...] = ()
    """What its user should know before it runs."""


def make_order(
    kind: tuple[str, dict[str, Any]],
    inputs: Inputs,
    options: JobOptions,
    *,
    folder: Path = Path(),
    may_name_files: bool,
) -> Order:
    """Look at the files, build the spec; raises BadInput and NotFound. Relative names begin at `folder`."""
    plan = Plan(folder)
    for given in options.stage_in:
        plan.add(given)
    notes: list[str] = []
    if not options.no_stage:
        if kind[0] == "command":
            kind = ("command", {"argv": _with_program(plan, folder, kind[1]["argv"])})
        if may_name_files and isinstance(inputs, Items):
            notes += _left_folders(inputs, folder)
            inputs = plan.add_own(inputs)
        notes += _left_arguments(kind, plan, folder)
    plan.check()
    spec = build_spec(kind, inputs, options, planned=_planned(plan))
    return Order(spec, options, plan, (*_renamed(plan), *notes))


def _planned(plan: Plan) -> tuple[StagedFile, ...]:
    """What all tasks will get, as far as it is known before it was read."""
    files = [StagedFile(file.name, Digest(""), file.size) for file in plan.files.values()]
    return (*files, *(StagedFile(tree.name, Digest(""), 0, is_tree=True) for tree in plan.trees))


def _with_program(plan: Plan, folder: Path, argv: list[str]) -> list[str]:
    """An absolute path is one of the node, a bare name is looked for there; a relative one must be ours."""
    program = Path(argv[0])
    has_folder = "/" in argv[0] or "\\" in argv[0]
    if not has_folder or program.is_absolute() or any(letter.isspace() for letter in argv[0]):
        return argv
    try:
        is_here = (folder / program).is_file()
    except OSError:  # too long for a name
        is_here = False
    if not is_here:
        return argv
    return [plan.add_program(argv[0]), *argv[1:]]


def _left_folders(inputs: Items, folder: Path) -> list[str]:
    """Folders are not sent unasked: there may be anything in them."""
    found = [text for text in inputs.items[:100] if _is_below(folder, text) and (folder / text).is_dir()]
    if not found:
        return []
    return [f"The folder {found[0]} is not taken along by itself: --in {found[0]} sends it."]


def _left_arguments(kind: tuple[str, dict[str, Any]], plan: Plan, folder: Path) -> list[str]:
    """`python3 train.py`: what names a file here and will name none there."""
    argv = kind[1].get("argv", [])[1:] + kind[1].get("args", [])
    staged = {file.path for file in plan.all_files()}
    found = [
        text
        for text in argv[:100]
        if _is_below(folder, text)
        and (folder / text).is_file()
        and str((folder / text).resolve()) not in staged
    ]
    if not found:
        return []
    return [f"{found[0]} is a file here, and is not taken along: --in {found[0]} sends it."]


def _is_below(folder: Path, text: str) -> bool:
    """Whether it may be a relative name of something that is there."""
    if not text or len(text) > 1024 or "\0" in text or text.startswith(("-", "/", ".", "~")):
        return False
    try:
        return (folder / text).exists()
    except OSError:  # too long for a name
        return False


def _renamed(plan: Plan) -> list[str]:
    if not plan.renamed:
        return []
    pairs = [f"'{local}' is '{staged}'" for local, staged in list(plan.renamed.items())[:SHOWN]]
    more = len(plan.renamed) - len(pairs)
    shown = ", ".join(pairs) + (f", and {more} more" if more > 0 else "")
    return [f"Not every machine can store these names, so in the tasks' folders {shown}."]


def own_files(order: Order, index: int) -> list[dict[str, Any]]:
    """For programs: what a task, or an input where tasks are cut later, would get beside what all get."""
    size = max(1, order.spec.chunk)
    own = order.plan.own[index * size : (index + 1) * size]
    return [{"name": file.name, "size": file.size} for file in dict.fromkeys(own) if file is not None]


def say_notes(face: Face, order: Order) -> None:
    for note in order.notes:
        face.printer.note(note)


def show_plan(face: Face, order: Order) -> None:
    """`--dry-run`: what would be sent, with sizes."""
    plan = order.plan
    lines = [f"  {tree.name or '.'}/  {len(tree.files)} files, {show_size(tree.size)}" for tree in plan.trees]
    lines += [f"  {file.name}  {show_size(file.size)}" for file in plan.files.values()]
    if lines:
        face.printer.note("Each task would get:")
        for line in lines[:20]:
            face.printer.note(line)
        if len(lines) > 20:
            face.printer.note(f"  … and {len(lines) - 20} more")
    own = [file for file in plan.own if file is not None]
    if own:
        size = show_size(sum(file.size for file in own))
        face.printer.note(f"{len(own)} inputs are files here, {size} together; each task gets its own.")
    if plan:
        face.printer.note(f"At most {show_size(plan.size)} would be sent.")


async def send_files(face: Face, mesh: AsyncMesh, order: Order, spec: JobSpec) -> JobSpec:
    """Send what the job takes along, with a line on the terminal that tells how far it is."""
    if not order.plan:
        return spec
    from planetmesh.cli.transfer_line import TransferLine

    with TransferLine(face.printer) as line:
        return await mesh.stage(order.plan, spec, on_progress=line.update)


async def submit_with(face: Face, mesh: AsyncMesh, order: Order, spec: JobSpec, staged: JobSpec) -> JobHandle:
    """Hand the job in with what was sent; sends again, with the same line, what the mesh has lost since."""
    if not order.plan:
        return await mesh.submit(staged)
    from planetmesh.cli.transfer_line import TransferLine

    with TransferLine(face.printer) as line:
        return await mesh.submit_with(order.plan, spec, staged=staged, on_progress=line.update)
