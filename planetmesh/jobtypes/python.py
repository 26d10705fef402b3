"""The job type `python`: a Python function, called once for each input in warm workers on the nodes.

The function travels pickled by cloudpickle, or is named and imported there. An input is JSON:
`{"a": [...], "k": {...}}` for plain arguments, `{"p": base64}` for a pickle of `(args, kwargs)`. Nothing here
opens a pickle.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.contract import Launch, Value, kind_of, read_payload
from planetmesh.logs import clean
from planetmesh.model.job import Items, JobSpec, Range
from planetmesh.wire.api import Encoding, Parse
from planetmesh.wire.calls import VALUES, Frame, read_frames
from planetmesh.wire.python import PythonItem, PythonPayload, tag_of

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
_VERSION = re.compile(r"3\.\d{1,2}")
_read_item = msgspec.json.Decoder(PythonItem).decode


class Python:
    """See the module."""

    name = "python"
    result_stream = VALUES

    def check(self, spec: JobSpec) -> None:
        payload = _read(spec.payload)
        if payload.function and tag_of(payload.python) not in spec.tags:
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
            for number, text in enumerate(spec.inputs.items):
                _check_item(text, number)

    def launch(self, payload: dict[str, Any], items: tuple[str, ...], index: int) -> Launch:  # noqa: ARG002
        _read(payload)
        return Launch((), call=CALL)

    def describe(self, payload: dict[str, Any], items: tuple[str, ...] = (), index: int = 0) -> str:  # noqa: ARG002
        name = _name_of(_read(payload))
        if not items:
            return f"{name}(…)"
        more = f" and {len(items) - 1} more" if len(items) > 1 else ""
        return f"{name}({_arguments_in_words(items[0])}){more}"

    def gather(self, data: bytes, parse: Parse, *, is_cut: bool, count: int = 1) -> Value:  # noqa: ARG002
        """One plain value as itself, one pickled value as base64, all else as a list with a part a call."""
        frames = read_frames(data, count)
        only = frames.get(0) if count == 1 else None
        if only is not None and isinstance(only.v, msgspec.Raw):
            return Value(only.v, Encoding.JSON)
        if only is not None and isinstance(only.p, str):
            return Value(only.p, Encoding.PICKLE)
        return Value([_part_of(frames.get(number)) for number in range(count)], Encoding.CALLS)

    def kind(self, payload: dict[str, Any]) -> str:
        """Functions of one name have little in common, and `<lambda>` is the name of many."""
        python = _read(payload)
        code = (python.function or python.module).encode()
        mark = hashlib.sha256(code).hexdigest()[:KIND_DIGITS]
        return f"{kind_of(self.name, _name_of(python))} {mark}"


def _part_of(frame: Frame | None) -> dict[str, Any] | None:
    """What came of one call; None if it was not made, or what came of it is lost."""
    if frame is None:
        return None
    if isinstance(frame.v, msgspec.Raw):
        return {"value": frame.v}
    if isinstance(frame.p, str):
        return {"encoding": Encoding.PICKLE, "value": frame.p}
    return {"error": frame.e}


def _read(payload: dict[str, Any]) -> PythonPayload:
    python = read_payload(payload, PythonPayload, Python.name)
    if bool(python.function) == bool(python.module):
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
    if _BASE64.fullmatch(python.function) is None:
        raise BadInput("The pickled function is not base64.")
    if _VERSION.fullmatch(python.python) is None:
        raise BadInput("With a pickled function comes the version of its Python, like 3.11.")
    return python


def _check_item(text: str, number: int) -> None:
    try:
        content = text.encode()
        if len(content) > ITEM_MOST_BYTES:
            raise TooLarge(
                f"Call {number + 1} has arguments of {len(content)} bytes; {ITEM_MOST_BYTES} is the limit.",
                hint="Large data belongs into a file.",
            )
        item = _read_item(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadInput(f"The arguments of call {number + 1} cannot be used: {error}.") from error
    if item.p and (item.a or item.k):
        raise BadInput(f"The arguments of call {number + 1} are both plain and pickled.")


def _name_of(python: PythonPayload) -> str:
    return python.name or python.module.rpartition(":")[2] or "function"


def _arguments_in_words(text: str) -> str:
    try:
        item = _read_item(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return "…"
    if item.p:
        return "…"
    shown = [_json(each) for each in item.a] + [f"{name}={_json(each)}" for name, each in item.k.items()]
    words = ", ".join(shown)
    return words if len(words) <= SHOWN_MOST else words[: SHOWN_MOST - 1] + "…"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
