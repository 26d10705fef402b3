"""The one door: arguments in, exit code out, every failure in words.

Nothing heavy is imported here: `planetmesh --help` must answer at once. Commands are listed in `COMMANDS`
with their short help and loaded when they are called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from planetmesh.cli.face import Face
from planetmesh.cli.lazy import LazyGroup, Listed, global_options
from planetmesh.errors import MeshError

PROGRAM = "planetmesh"
COMPLETION_VARIABLE = "_PLANETMESH_COMPLETE"
INTERRUPTED = 130
BROKEN_PIPE = 141
"""128 + SIGPIPE, as shells count it."""

COMMANDS = {
    "up": Listed("planetmesh.cli.up:up", "Take part: become the coordinator, or join one as an agent."),
    "code": Listed("planetmesh.cli.code:code", "Open a pairing window and show its code."),
    "login": Listed("planetmesh.cli.login:login", "Make this user an operator or viewer of a mesh."),
    "status": Listed("planetmesh.cli.status:status", "Who am I, which mesh, is it reachable?"),
    "run": Listed("planetmesh.cli.run:run", "Run a command, or one task for each input."),
    "images": Listed("planetmesh.cli.images:images", "Resize, convert, crop or show many images."),
    "embed": Listed("planetmesh.cli.embed:embed", "Turn texts into vectors, in one file."),
    "submit": Listed("planetmesh.cli.submit:submit", "Hand in a job from a file."),
    "jobs": Listed("planetmesh.cli.jobs:jobs", "List the jobs."),
    "job": Listed("planetmesh.cli.job:job", "Show one job, or its tasks."),
    "wait": Listed("planetmesh.cli.wait:wait", "Wait until jobs have ended."),
    "logs": Listed("planetmesh.cli.logs:logs", "Show what tasks wrote."),
    "results": Listed("planetmesh.cli.results:results", "Put together what came of a job's tasks."),
    "fetch": Listed("planetmesh.cli.fetch:fetch", "Bring the files that a job's tasks made."),
    "explain": Listed("planetmesh.cli.explain:explain", "Why a job, a task or a machine is as it is."),
    "pause": Listed("planetmesh.cli.pause:pause", "Start nothing more of jobs until they are resumed."),
    "resume": Listed("planetmesh.cli.pause:resume", "Go on with paused jobs."),
    "edit": Listed("planetmesh.cli.edit:edit", "Change a job that has not ended."),
    "retry": Listed("planetmesh.cli.retry:retry", "Run a job's failed tasks again."),
    "cancel": Listed("planetmesh.cli.cancel:cancel", "Stop jobs."),
    "nodes": Listed("planetmesh.cli.nodes:nodes", "List the machines of the mesh."),
    "node": Listed("planetmesh.cli.node:node", "Drain, resume, rename, tag, revoke or forget a machine."),
    "people": Listed("planetmesh.cli.people:people", "Operators and viewers: list them, revoke one."),
    "metrics": Listed("planetmesh.cli.metrics:metrics", "The mesh in numbers, and how Prometheus gets them."),
    "audit": Listed("planetmesh.cli.audit:audit", "Who did what to the mesh."),
    "settings": Listed("planetmesh.cli.settings:settings", "Show or change the numbers the mesh goes by."),
    "top": Listed("planetmesh.cli.top:top", "Nodes and running jobs as they change."),
    "dashboard": Listed(
        "planetmesh.cli.dashboard:dashboard", "Nodes, jobs and tasks on this terminal, live."
    ),
    "doctor": Listed("planetmesh.cli.doctor:doctor", "Check this machine and its way to the mesh."),
    "service": Listed("planetmesh.cli.service:service", "Start `planetmesh up` whenever this machine boots."),
    "leave": Listed("planetmesh.cli.leave:leave", "Give up this machine's place in its mesh."),
    "backup": Listed("planetmesh.cli.backup:backup", "Put the mesh itself into one sealed file."),
    "restore": Listed("planetmesh.cli.backup:restore", "Have a mesh back from its backup."),
    "demo": Listed("planetmesh.cli.demo:demo", "A whole mesh on this machine, for a look."),
    "completion": Listed("planetmesh.cli.completion:completion", "Print the completion script for a shell."),
    "_agent": Listed("planetmesh.cli.inner:agent", "", hidden=True),
    "_zygote": Listed("planetmesh.cli.inner:zygote", "", hidden=True),
    "_tile": Listed("planetmesh.cli.inner:tile", "", hidden=True),
}


SECTIONS = (
    ("Take part", ("up", "code", "login", "status", "doctor", "service", "leave")),
    ("Give work", ("run", "images", "embed", "submit")),
    ("Look after jobs", ("jobs", "job", "wait", "logs", "results", "fetch", "explain", "pause", "resume",
                         "edit", "retry", "cancel")),
    ("Look after machines and people", ("nodes", "node", "people", "settings", "backup", "restore")),
)  # fmt: skip
"""As `--help` shows them; what is not named here comes last."""


def make_group() -> LazyGroup:
    """The whole command line as one click group."""
    return LazyGroup(
        COMMANDS,
        SECTIONS,
        name=PROGRAM,
        params=[*global_options()],
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Run work on all the machines of your LAN.\n\nStart with `planetmesh up` on each machine.",
        epilog="`planetmesh COMMAND --help` shows examples. `planetmesh completion --help`: tab completion.",
    )


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line to its end; the exit code is CLI.md's. Never raises."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    face = Face()
    try:
        status = _invoke(given, face)
        sys.stdout.flush()
        return status
    except (Exception, KeyboardInterrupt) as error:
        return _leave(the_cause(error), face, given)


def _invoke(given: list[str], face: Face) -> int:
    group = make_group()
    if COMPLETION_VARIABLE in os.environ:
        return _complete(group, face)
    try:
        with group.make_context(PROGRAM, given or ["--help"], obj=face) as context:
            result = group.invoke(context)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    return result if isinstance(result, int) else 0


def _complete(group: LazyGroup, face: Face) -> int:
    """Whatever is wrong with the line that is being typed: a Tab says nothing about it."""
    from click.shell_completion import shell_complete

    instruction = os.environ[COMPLETION_VARIABLE]
    try:
        return shell_complete(group, {"obj": face}, PROGRAM, COMPLETION_VARIABLE, instruction)
    except Exception:
        return 1


def the_cause(error: BaseException) -> BaseException:
    """What a group of errors from a TaskGroup comes down to: our own sentence, if there is one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [the_cause(each) for each in error.exceptions]
    for kind in (KeyboardInterrupt, MeshError, BrokenPipeError):
        for cause in causes:
            if isinstance(cause, kind):
                return cause
    return causes[0] if len(causes) == 1 else error


def _leave(error: BaseException, face: Face, given: list[str]) -> int:
    try:
        return _report(error, face, given)
    except BrokenPipeError:
        return _hang_up()


def _report(error: BaseException, face: Face, given: list[str]) -> int:
    from planetmesh.cli.failure import show_crash, show_error

    if isinstance(error, BrokenPipeError):
        return _hang_up()
    face.printer.begin_line()
    if isinstance(error, KeyboardInterrupt | click.Abort | EOFError):
        show_error("interrupted", "Interrupted.", "", as_json=face.json)
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        if (
            type(error).__name__ == "NoArgsIsHelpError"
        ):  # a group without its command; click 8.1 has no such class
            click.echo(error.format_message(), err=True)
            return error.exit_code
        # What stands behind a mistake was not parsed, so `--json` may not have been seen yet.
        show_error(
            "usage", error.format_message(), _usage_hint(error), as_json=face.json or "--json" in given
        )
        return 2
    if isinstance(error, MeshError):
        show_error(error.code, error.message, error.hint, as_json=face.json)
        return error.exit_code
    return show_crash(error, face)


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"`{context.command_path if context else PROGRAM} --help` shows how."


def _hang_up() -> int:
    """Nobody reads any more (`| head`): be quiet, also when Python flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return BROKEN_PIPE
