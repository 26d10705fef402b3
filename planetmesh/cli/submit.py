"""`planetmesh submit`: hand in a job from a TOML file.

The keys are `run`'s options with the same names (`max-running` and `max_running` are one), and `command`
(a text, or an array), or `script` with `args` and `interpreter`, or `type` with its `payload`; and at most
one of `inputs` (an array), `lines`, `range`, `json-items`, `glob`. Unknown keys are refused with the closest
known one.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from planetmesh.cli.completing import complete_node
from planetmesh.cli.face import Face
from planetmesh.cli.inputs import Sources, read_inputs
from planetmesh.cli.spec import JobOptions, command_payload, script_payload
from planetmesh.cli.staging import Order, make_order
from planetmesh.errors import BadInput, NotFound, TooLarge
from planetmesh.settings import Settings

_EXAMPLES = """
\b
Example (resize.toml):
  name    = "thumbnails"
  command = ["convert", "{}", "-resize", "50%", "small-{/}"]
  inputs  = ["a.png", "b.png"]
  cpus    = 2
  memory  = "1g"
  timeout = "5m"
  env     = { LEVEL = "3" }
  out     = "small-*"

\b
Keys:
  command (text or array)   or   script (a file), args (array), interpreter
  or   type (image_batch, embedding, …) with payload (table): docs/job-types.md
  inputs (array), lines (a file), range ("1..100"), json-items (a file),
  glob ("**/*.png", text or array), chunk (a whole number or "auto")
  in, out (text or array: files taken along, patterns of files brought back),
  stage (false: inputs that are local files are not taken along by themselves)
  name, env (table), cpus, memory, gpus, tags (array), node, timeout,
  silence-timeout, queue-timeout, task-timeout, retries, priority,
  max-running, max-failures, at-most-once, partial, duplicates (false)
  after, after-failure, after-any (jobs: text or array)
"""

_TEXT, _NUMBER, _WHOLE, _FLAG, _TEXTS, _TABLE = str, (int, float, str), int, bool, list, dict
KEYS: dict[str, Any] = {
    "type": _TEXT,
    "payload": _TABLE,
    "command": (str, list),
    "script": _TEXT,
    "args": _TEXTS,
    "interpreter": _TEXT,
    "inputs": _TEXTS,
    "lines": _TEXT,
    "range": _TEXT,
    "json_items": _TEXT,
    "glob": (str, list),
    "chunk": (int, str),
    "in": (str, list),
    "out": (str, list),
    "stage": _FLAG,
    "name": _TEXT,
    "env": _TABLE,
    "cpus": _NUMBER,
    "memory": _NUMBER,
    "gpus": _WHOLE,
    "tags": _TEXTS,
    "node": _TEXT,
    "timeout": _NUMBER,
    "silence_timeout": _NUMBER,
    "retries": _WHOLE,
    "priority": _WHOLE,
    "max_running": _WHOLE,
    "at_most_once": _FLAG,
    "partial": _FLAG,
    "queue_timeout": _NUMBER,
    "task_timeout": _NUMBER,
    "max_failures": _WHOLE,
    "duplicates": _FLAG,
    "after": (str, list),
    "after_failure": (str, list),
    "after_any": (str, list),
}
"""What may stand in the file, and of what type."""
_WORDS = {
    str: "a text",
    list: "an array",
    dict: "a table",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
_LEAST = {"gpus": 0, "retries": 0, "max_running": 1, "max_failures": 1}
_AS_TEXTS = ("cpus", "memory", "timeout", "silence_timeout", "queue_timeout", "task_timeout", "chunk")


@click.command(epilog=_EXAMPLES)
@click.argument("file", metavar="JOB.toml", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show the tasks, send nothing.")
@click.option("--node", metavar="NAME", shell_complete=complete_node, help="Only on this node.")
@click.option("--name", metavar="TEXT", help="A name for people.")
@click.pass_obj
def submit(face: Face, file: Path, *, dry_run: bool, node: str | None, name: str | None) -> int:
    """Hand in a job from a file; print its id at once."""
    order = load_job(file)
    if name:
        from msgspec.structs import replace as replace_field

        order = replace(order, spec=replace_field(order.spec, name=name))
    if dry_run:
        from planetmesh.cli.run import show_tasks

        return show_tasks(face, order)
    from planetmesh.cli.watch import How, submit_and_watch

    order = replace(order, options=replace(order.options, node=node or order.options.node))
    return face.run(submit_and_watch(face, order, How(detach=True)))


def load_job(file: Path) -> Order:
    """The job that a file describes; paths in it count from the file's folder. Raises BadInput, NotFound."""
    values = read_keys(file)
    options = _options(values)
    kind = _kind(values, file.parent)
    sources = Sources(
        lists=(_texts(values["inputs"], "inputs"),) if "inputs" in values else (),
        lines=_beside(values.get("lines"), file.parent),
        range=values.get("range"),
        json_items=_beside(values.get("json_items"), file.parent),
        globs=_one_or_more(values, "glob"),
        folder=file.parent,
    )
    if sources.lists == ((),):
        raise BadInput(f"{file}: 'inputs' is empty: nothing would run.")
    if "glob" in values and not sources.globs:
        raise BadInput(f"{file}: 'glob' is empty: nothing would run.")
    return make_order(
        kind,
        read_inputs(sources),
        options,
        folder=file.parent,
        may_name_files="json_items" not in values,
    )


def read_keys(file: Path) -> dict[str, Any]:
    """The file's keys with `_` for `-`, each known and of its type."""
    try:
        content = file.read_bytes() if file.stat().st_size <= Settings().api_body_most_bytes else None
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {file}.") from error
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}.") from error
    if content is None:
        raise TooLarge(f"{file} is too large for a job.")
    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{file} is not TOML: {error}.") from error
    values = {key.replace("-", "_"): value for key, value in document.items()}
    for key, value in values.items():
        _check_key(file, key, value)
    return values


def _check_key(file: Path, key: str, value: Any) -> None:
    kinds = KEYS.get(key)
    if kinds is None:
        near = difflib.get_close_matches(key, KEYS, n=1)
        hint = (
            f"Did you mean '{near[0].replace('_', '-')}'?"
            if near
            else "`planetmesh submit --help` lists the keys."
        )
        raise BadInput(f"{file}: there is no key '{key}'.", hint=hint)
    allowed = kinds if isinstance(kinds, tuple) else (kinds,)
    # True is an int to Python, and to nobody else.
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        wanted = " or ".join(_WORDS[kind] for kind in allowed)
        raise BadInput(f"{file}: '{key.replace('_', '-')}' must be {wanted}.")
    if key in _LEAST and value < _LEAST[key]:
        raise BadInput(f"{file}: '{key.replace('_', '-')}' must be at least {_LEAST[key]}.")


def _kind(values: dict[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    given = [key for key in ("command", "script", "type") if key in values]
    if len(given) != 1:
        raise BadInput("A job file needs either 'command' or 'script', or 'type' with its 'payload'.")
    if "type" in values:
        return values["type"], values.get("payload", {})
    if "payload" in values:
        raise BadInput("'payload' belongs to 'type'.", hint='Say, for instance: type = "image_batch"')
    if "script" in values:
        script = _beside(values["script"], folder) or ""
        return script_payload(script, _texts(values.get("args", []), "args"), values.get("interpreter"))
    command = values["command"]
    return command_payload((command,) if isinstance(command, str) else _texts(command, "command"))


def _options(values: dict[str, Any]) -> JobOptions:
    options = JobOptions(
        env=tuple(f"{name}={_text(value, 'env')}" for name, value in values.get("env", {}).items()),
        tag=_texts(values.get("tags", []), "tags"),
        after=_one_or_more(values, "after"),
        after_failure=_one_or_more(values, "after_failure"),
        after_any=_one_or_more(values, "after_any"),
        no_duplicates=not values.get("duplicates", True),
        stage_in=_one_or_more(values, "in"),
        out=_one_or_more(values, "out"),
        no_stage=not values.get("stage", True),
    )
    given: dict[str, Any] = {key: str(values[key]) for key in _AS_TEXTS if key in values}
    plain = ("gpus", "node", "retries", "priority", "max_running", "max_failures", "at_most_once", "partial",
             "name")  # fmt: skip
    given.update({key: values[key] for key in plain if key in values})
    return replace(options, **given)


def _one_or_more(values: dict[str, Any], key: str) -> tuple[str, ...]:
    """A text alone means an array of it."""
    given = values.get(key, [])
    return (given,) if isinstance(given, str) else _texts(given, key.replace("_", "-"))


def _texts(values: list[Any], key: str) -> tuple[str, ...]:
    return tuple(_text(value, key) for value in values)


def _text(value: Any, key: str) -> str:
    """Numbers may stand where texts are meant: `inputs = [1, 2, 3]`."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise BadInput(f"'{key}' may hold texts and numbers only.")


def _beside(name: str | None, folder: Path) -> str | None:
    return None if name is None or name == "-" else str(folder / name)
