"""The call of the job type `python`: a function of the submitter's, once for each item.

Function and arguments may be pickles of the submitter's own: running his code is what this is for. What
comes of it goes back as data where it is of common types; else it is pickled here, and opened only by a
client that asked for it.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import traceback
from base64 import b64decode, b64encode
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec

from planetmesh.child.call import Call
from planetmesh.wire.calls import Fault
from planetmesh.wire.plain import is_plain
from planetmesh.wire.python import PICKLE_NAME, PythonItem, PythonPayload
from planetmesh.wire.typed import NotTyped, to_typed

PICKLE_PROTOCOL = 5
"""Every Python that planetmesh runs on reads it."""
FAULT_PICKLE_MOST_BYTES = 64 * 1024

_read_item = msgspec.json.Decoder(PythonItem).decode
_last: tuple[PythonPayload, Callable[..., Any]] | None = None
"""The function stays loaded, with all that its module keeps, for as long as the worker lives."""


def run(call: Call) -> None:
    """Call the payload's function with each item."""
    call.failing = "calls raised"
    payload = msgspec.convert(call.payload, PythonPayload)
    try:
        function = _load(payload, call.folder)
    except BaseException as error:
        fault = _fault_of(error, f"The function could not be loaded on this node: {error}")
        for number in range(call.count):
            call.emit_error(fault, number)
        return
    for number, text in enumerate(call.items or ("{}",)):
        try:
            args, kwargs = _arguments(text, call.folder)
            value = function(*args, **kwargs)
        except BaseException as error:
            # Also an exit or an interrupt: it is the end of this call only.
            call.emit_error(_fault_of(error), number)
            continue
        _give(call, number, value)


def _load(payload: PythonPayload, folder: str) -> Callable[..., Any]:
    global _last  # noqa: PLW0603
    if _last is not None and _last[0] == payload:
        return _last[1]
    _last = None
    if payload.is_pickled:
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        if payload.python != here:
            raise RuntimeError(f"it was pickled by Python {payload.python}, and this node has {here}")
        function = _opened(payload.function, folder, payload.folder, payload.buffers)
    else:
        module, _, attribute = payload.module.partition(":")
        function = attrgetter(attribute)(importlib.import_module(module))
    if not callable(function):
        raise TypeError(f"{type(function).__qualname__} objects cannot be called")
    _last = (payload, function)
    return function  # type: ignore[no-any-return]


def _arguments(text: str, folder: str) -> tuple[Any, dict[str, Any]]:
    item = _read_item(text)
    if item.p or item.f:
        args, kwargs = _opened(item.p, folder, item.f, item.b)
        return args, kwargs
    return item.a, item.k


def _opened(inline: str, folder: str, parcel: str, buffers: int) -> Any:
    """A pickle, with what of it lies in the task's folder. Buffers are copies: arrays can be written to."""
    if not parcel:
        return pickle.loads(b64decode(inline))  # noqa: S301
    place = Path(folder, parcel)
    body = b64decode(inline) if inline else (place / PICKLE_NAME).read_bytes()
    return pickle.loads(body, buffers=[_read_buffer(place / str(n)) for n in range(buffers)])  # noqa: S301


def _read_buffer(path: Path) -> bytearray:
    with path.open("rb", buffering=0) as file:
        held = bytearray(os.fstat(file.fileno()).st_size)
        view = memoryview(held)
        while view and (count := file.readinto(view)):
            view = view[count:]
    return held


def _give(call: Call, number: int, value: Any) -> None:
    if is_plain(value):
        call.emit(value, number)
        return
    try:
        tree = to_typed(value)
    except NotTyped:
        pass
    else:
        call.emit_typed(tree, number)
        return
    try:
        data = cloudpickle.dumps(value, PICKLE_PROTOCOL)
    except BaseException as error:
        text = f"A result of type {_name_of(type(value))} cannot be sent back: {_text_of(error)}"
        call.emit_error(_fault_of(error, text), number)
        return
    call.emit_pickled(data, number)


def _fault_of(error: BaseException, message: str = "") -> Fault:
    shown = error.__traceback__
    if shown is not None and shown.tb_frame.f_globals.get("__name__") == __name__:
        # Ours is of no use to anybody.
        shown = shown.tb_next
    try:
        story = "".join(traceback.format_exception(type(error), error, shown))
    except Exception:
        story = ""
    return Fault(_name_of(type(error)), message or _text_of(error), story, _pickled(error))


def _pickled(error: BaseException) -> str:
    try:
        data = cloudpickle.dumps(error, PICKLE_PROTOCOL)
    except Exception:
        return ""
    return b64encode(data).decode() if len(data) <= FAULT_PICKLE_MOST_BYTES else ""


def _name_of(kind: type) -> str:
    module = str(kind.__module__)
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(it cannot be shown)"
