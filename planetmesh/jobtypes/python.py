"""The job type `python`: a Python function, called once for each input in warm workers on the nodes.

The function travels pickled by cloudpickle, or is named and imported there. An input is JSON:
`{"a": [...], "k": {...}}` for plain arguments, `{"p": base64}` for a pickle of `(args, kwargs)`, and
`{"f": folder, "b": count}` where parts of that, or all, lie in the input's own file, a folder. Nothing here
opens a pickle.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.call_type import CallType
from planetmesh.jobtypes.contract import Launch, kind_of, read_payload
from planetmesh.logs import clean
from planetmesh.model.blob import StagedFile
from planetmesh.model.job import Items, JobSpec, Range
from planetmesh.wire.python import PARCEL_DIGITS, PythonItem, PythonPayload, tag_of

CALL = "planetmesh.child.python_call:run"
FUNCTION_MOST_BYTES = 1024 * 1024
"""Of the pickle as text. One frame to an agent must hold it, which allows less with the usual settings."""
ITEM_MOST_BYTES = 512 * 1024
NAME_MOST = 200
SHOWN_MOST = 80
"""Letters of a call's arguments that people are shown."""
KIND_DIGITS = 6

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)")
_MODULE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_FOLDER = re.compile(rf"[a-z]{{1,20}}-[0-9a-f]{{{PARCEL_DIGITS}}}")
_VERSION = re.compile(r"3\.\d{1,2}")
_read_item = msgspec.json.Decoder(PythonItem).decode


class Python(CallType):
    """See the module."""

    name = "python"

    def check(self, spec: JobSpec) -> None:
        payload = _read(spec.payload)
        if payload.is_pickled and tag_of(payload.python) not in spec.tags:
            raise BadInput(
                f"A function that Python {payload.python} has pickled runs only on nodes with the same "
                "Python, and the job does not ask for those.",
                hint=f"Give the job the tag {tag_of(payload.python)}; nodes have it by themselves.",
            )
        if isinstance(spec.inputs, Range):
            raise BadInput(
                "A python job takes no range of numbers.", hint='Give each input as JSON: {"a": [7]}.'
            )
        if isinstance(spec.inputs, Items):
            files = spec.inputs.files or (None,) * len(spec.inputs.items)
            for number, (text, file) in enumerate(zip(spec.inputs.items, files, strict=False)):
                _check_item(text, number, file)
        if payload.folder and not any(_is_parcel(file, payload.folder) for file in spec.files):
            raise BadInput(f"The function's folder '{payload.folder}' is not among the job's files.")

    def launch(self, payload: dict[str, Any], items: tuple[str, ...], index: int) -> Launch:
        _read(payload)
        return Launch((), call=CALL)

    def describe(self, payload: dict[str, Any], items: tuple[str, ...] = (), index: int = 0) -> str:
        name = _name_of(_read(payload))
        if not items:
            return f"{name}(…)"
        more = f" and {len(items) - 1} more" if len(items) > 1 else ""
        return f"{name}({_arguments_in_words(items[0])}){more}"

    def kind(self, payload: dict[str, Any]) -> str:
        """Functions of one name have little in common, and `<lambda>` is the name of many."""
        python = _read(payload)
        code = (python.function + python.folder or python.module).encode()
        mark = hashlib.sha256(code).hexdigest()[:KIND_DIGITS]
        return f"{kind_of(self.name, _name_of(python))} {mark}"


def _read(payload: dict[str, Any]) -> PythonPayload:
    python = read_payload(payload, PythonPayload, Python.name)
    if python.is_pickled == bool(python.module):
        raise BadInput("A python job has either a 'function' or a 'module'.")
    if len(python.name) > NAME_MOST:
        raise TooLarge(f"The function's name has {len(python.name)} letters; {NAME_MOST} is the limit.")
    if python.module:
        if _MODULE.fullmatch(python.module) is None:
            raise BadInput(
                f"'{clean(python.module, SHOWN_MOST)}' names no function.",
                hint="Say package.module:function.",
            )
        return python
    if len(python.function) > FUNCTION_MOST_BYTES:
        raise TooLarge(
            f"The pickled function is {len(python.function)} bytes long; {FUNCTION_MOST_BYTES} is the limit.",
            hint="Large data that it holds belongs into a file.",
        )
    if (python.buffers and not python.folder) or (python.folder and _FOLDER.fullmatch(python.folder) is None):
        raise BadInput(f"'{clean(python.folder, SHOWN_MOST)}' is no folder of a function.")
    if python.function and _BASE64.fullmatch(python.function) is None:
        raise BadInput("The pickled function is not base64.")
    if _VERSION.fullmatch(python.python) is None:
        raise BadInput("With a pickled function comes the version of its Python, like 3.11.")
    return python


def _is_parcel(file: StagedFile | None, name: str) -> bool:
    return file is not None and file.is_tree and file.name == name


def _check_item(text: str, number: int, file: StagedFile | None) -> None:
    try:
        content = text.encode()
        if len(content) > ITEM_MOST_BYTES:
            raise TooLarge(
                f"Call {number + 1} has arguments of {len(content)} bytes; {ITEM_MOST_BYTES} is the limit.",
                hint="The SDK (`planetmesh.Mesh`) sends large ones as files.",
            )
        item = _read_item(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadInput(f"The arguments of call {number + 1} cannot be used: {error}.") from error
    if item.p and (item.a or item.k):
        raise BadInput(f"The arguments of call {number + 1} are both plain and pickled.")
    if (item.b and not item.f) or (item.f and (item.a or item.k)):
        raise BadInput(f"The arguments of call {number + 1} are partly in files, and not a pickle.")
    if item.f and (_FOLDER.fullmatch(item.f) is None or not _is_parcel(file, item.f)):
        raise BadInput(f"The arguments of call {number + 1} name a folder that is not its input's file.")


def _name_of(python: PythonPayload) -> str:
    return python.name or python.module.rpartition(":")[2] or "function"


def _arguments_in_words(text: str) -> str:
    try:
        item = _read_item(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return "…"
    if item.p or item.f:
        return "…"
    shown = [_json(each) for each in item.a] + [f"{name}={_json(each)}" for name, each in item.k.items()]
    words = ", ".join(shown)
    return words if len(words) <= SHOWN_MOST else words[: SHOWN_MOST - 1] + "…"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
