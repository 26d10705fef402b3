"""`planetmesh embed`: texts to vectors on all machines, and all vectors in one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planetmesh.cli.face import Face
from planetmesh.cli.sections import SectionedCommand
from planetmesh.cli.spec import work_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planetmesh.cli.spec import JobOptions
    from planetmesh.cli.staging import Order
    from planetmesh.model.job import Items

JSON_LINES = frozenset({".jsonl", ".ndjson"})

_EXAMPLES = """
\b
Examples:
  planetmesh embed --server nomic-embed-text -o vectors.npy texts.txt
  planetmesh embed --model all-MiniLM-L6-v2 -o vectors.npy texts.txt
  planetmesh embed --model MODEL --key abstract -o vectors.jsonl papers.jsonl
  planetmesh embed --model MODEL --per file -o notes.npy notes/*.md
  cat texts.txt | planetmesh embed --server bge-m3 -o vectors.npy -

\b
FILES hold a text in each line (blank lines are skipped), or with --per file one
text each. Lines of a .jsonl file are JSON: a text, or an object with the text
under --key. Row N of the .npy file is text N, over all files; a text that has
no vector is a row of NaN, and is told of. A line of a .jsonl file is
{"input": N, "text": ..., "vector": [...]}.

\b
--model is a folder as sentence-transformers writes it, taken along once; nodes
need: pip install 'planetmesh[embedding]'. --server is a model that a node's own
Ollama has, or (--server-kind openai) another server that the node was told of:
`planetmesh up --embedding-server URL`. `planetmesh nodes` shows both as tags.
With --detach, later: `planetmesh fetch JOB -o DIR` brings the one file.

\b
Exit status: 0 if every text has a vector, 1 if not.
"""


class _Embed(SectionedCommand):
    sections = (
        ("Model", ("model", "server", "server_kind", "prefix", "batch", "no_normalise", "tokens_most")),
        ("Texts and results", ("output", "overwrite", "per", "key", "detach", "dry_run")),
    )


@click.command(cls=_Embed, epilog=_EXAMPLES)
@click.option("--model", type=click.Path(), metavar="FOLDER", help="Use this model folder of this machine.")
@click.option("--server", metavar="MODEL", help="Use this model of the nodes' own servers.")
@click.option("--server-kind", type=click.Choice(["ollama", "openai"]), help="Of --server (default ollama).")
@click.option(
    "-o", "output", type=click.Path(), metavar="FILE", required=True, help="The new file: .npy or .jsonl."
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@click.option("--per", type=click.Choice(["line", "file"]), default="line", help="What is a text.")
@click.option("--key", default=None, metavar="NAME", help="Of JSON lines: where the text is (default text).")
@click.option("--prefix", default="", metavar="TEXT", help="Put before each text, like 'passage: '.")
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Texts at a time in a task (default 32).")
@click.option("--no-normalise", is_flag=True, help="Leave vectors as long as the model makes them.")
@click.option("--tokens-most", type=click.IntRange(1), metavar="N", help="Cut longer texts there.")
@click.option("--detach", is_flag=True, help="Print the job's id and leave.")
@click.option("--dry-run", is_flag=True, help="Show the tasks, send nothing.")
@work_options
@click.argument("files", nargs=-1, type=click.Path(), metavar="FILES…")
@click.pass_obj
def embed(face: Face, /, files: tuple[str, ...], **values: Any) -> int:
    """Turn texts into vectors on all machines, and put them into one file."""
    order = _make_order(files, values)
    if values["dry_run"]:
        from planetmesh.cli.run import show_tasks

        return show_tasks(face, order)
    from planetmesh.cli.watch import How, submit_and_watch

    how = How(
        detach=values["detach"],
        overwrite=values["overwrite"],
        whole_folder=str(Path(values["output"]).parent),
        noun="texts" if values["per"] == "line" else "files",
    )
    return face.run(submit_and_watch(face, order, how))


def _make_order(files: Sequence[str], values: dict[str, Any]) -> Order:
    from planetmesh.cli.spec import take_options
    from planetmesh.cli.staging import make_order

    options = take_options(values)
    options = replace(options, name=options.name or "vectors", chunk=options.chunk or "auto")
    payload = _payload(values)
    _refuse_place(Path(values["output"]), values)
    if values["model"] is not None:
        options, payload["model"] = _with_model(options, values["model"])
    inputs, source = _read_texts(files, values)
    payload["source"] = source
    if source != "json" and values["key"] is not None:
        raise click.UsageError("--key is about JSON lines: files called .jsonl.")
    if source == "json":
        payload["key"] = values["key"] or "text"
    return make_order(("embedding", payload), inputs, options, may_name_files=source == "file")


def _payload(values: dict[str, Any]) -> dict[str, Any]:
    if (values["model"] is None) == (values["server"] is None):
        raise click.UsageError("Say which model: --model FOLDER, or --server MODEL, one of them.")
    if values["server_kind"] and values["server"] is None:
        raise click.UsageError("--server-kind needs --server MODEL.")
    path = Path(values["output"])
    if path.suffix not in {".npy", ".jsonl"}:
        raise click.UsageError(f"-o {path}: name a file that ends with .npy or .jsonl.")
    payload: dict[str, Any] = {"result": path.suffix[1:], "join": path.name, "prefix": values["prefix"]}
    if values["server"] is not None:
        payload["server"] = {"model": values["server"], "kind": values["server_kind"] or "ollama"}
    if values["batch"]:
        payload["batch"] = values["batch"]
    if values["tokens_most"]:
        payload["tokens_most"] = values["tokens_most"]
    return payload | ({"normalise": False} if values["no_normalise"] else {})


def _refuse_place(path: Path, values: dict[str, Any]) -> None:
    """Said before anything is sent, and again by whoever writes the file."""
    from planetmesh.errors import BadInput, Conflict

    if values["detach"]:
        return
    if not path.parent.is_dir():
        raise BadInput(f"The folder of '{path}' does not exist.", hint=f"mkdir -p '{path.parent}'")
    if path.is_dir():
        raise BadInput(f"'{path}' is a folder.", hint="Name a file: -o FILE")
    if path.exists() and not values["overwrite"]:
        raise Conflict(f"'{path}' exists already; nothing was sent.", hint="--overwrite replaces it.")


def _with_model(options: JobOptions, given: str) -> tuple[JobOptions, str]:
    """The options with the model's folder to take along, and its name in the tasks' folders."""
    from planetmesh.client.plan import Plan
    from planetmesh.errors import BadInput, NotFound

    folder = Path(given)
    if not folder.exists():
        raise NotFound(
            f"There is no folder '{given}'.",
            hint="--model takes a folder of this machine; for a model of a node's Ollama: --server NAME",
        )
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise BadInput(
            f"'{given}' holds no model: neither modules.json nor config.json is in it.",
            hint="Name the folder that sentence-transformers' `save` has written.",
        )
    plan = Plan()
    plan.add(given)
    name = plan.trees[0].name
    if not name:
        raise BadInput("The folder that you are in cannot be the model.", hint="Go up: cd .. ")
    return replace(options, stage_in=(given,)), name


def _read_texts(files: Sequence[str], values: dict[str, Any]) -> tuple[Items, str]:
    """The inputs, and what they are: `text`, `json` or `file`. Raises BadInput and NotFound."""
    from planetmesh.cli.inputs import Sources, read_inputs
    from planetmesh.errors import BadInput, NotFound
    from planetmesh.model.job import Items

    if not files:
        raise click.UsageError("Name the files with the texts, or - for what comes on standard input.")
    for name in files:
        if name != "-" and not Path(name).exists():
            raise NotFound(f"There is no file '{name}'.")
        if name != "-" and not Path(name).is_file():
            raise BadInput(f"'{name}' is no file.", hint=f"Name the files in it: {name}/*")
    if values["per"] == "file":
        if "-" in files:
            raise click.UsageError("--per file needs files: standard input has no name.")
        return Items(tuple(dict.fromkeys(files))), "file"
    kinds = {Path(name).suffix.lower() in JSON_LINES for name in files}
    if len(kinds) > 1:
        raise BadInput("Lines of text and lines of JSON cannot be mixed.", hint="Make two jobs of them.")
    texts: list[str] = []
    for name in files:
        found = read_inputs(Sources(lines=name))
        texts += found.items if isinstance(found, Items) else ()
    return Items(tuple(texts)), "json" if kinds == {True} else "text"
