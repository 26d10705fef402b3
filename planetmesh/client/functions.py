"""Functions and arguments on their way out, values and exceptions on their way back.

What is plain data travels as JSON, and results of common types (tuples, bytes, times, arrays) as JSON that
names them. Everything else is pickled: our own arguments always may be, but a pickled *result* comes from a
node and could run code here when it is opened, so only a caller who said so (`pickles=True`) has it opened.
"""

from __future__ import annotations

import builtins
import sys
import sysconfig
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import msgspec

from planetmesh.client.parcels import Parcel, pickled
from planetmesh.errors import BadInput, CallFailed, PicklesRefused
from planetmesh.logs import clean
from planetmesh.wire.calls import Fault, Frame
from planetmesh.wire.plain import is_plain
from planetmesh.wire.python import PythonItem, PythonPayload, tag_of
from planetmesh.wire.typed import from_typed

PLAIN_MOST_BYTES = 256 * 1024
"""Plain arguments beyond it are pickled: then they can be a file."""
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHON_TAG = tag_of(VERSION)
"""Nodes with the same Python have it: a pickled function needs the Python that pickled it."""
NAME_MOST = 200


class RemoteTraceback(Exception):
    """Where a call failed on its node; stands as the cause of the exception that the caller gets."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


class PackedFunction(msgspec.Struct, frozen=True):
    """As it was sent, and what of it goes as files."""

    payload: PythonPayload
    parcel: Parcel | None = None


class Arguments(msgspec.Struct, frozen=True):
    """Of one call: the text of an input, and what of them goes as files."""

    text: str
    parcel: Parcel | None = None


def pack_function(function: Callable[..., Any]) -> PackedFunction:
    """The function as it is now, by value where a node cannot import it; raises BadInput if that fails."""
    name = str(getattr(function, "__qualname__", type(function).__qualname__))
    try:
        with _own_modules_by_value(function):
            made = pickled(function, "function")
    except Exception as error:
        raise BadInput(
            f"The function {clean(name, 80)} cannot be sent: {error}",
            hint="It, or something that it uses, cannot be pickled (an open file, a lock, a connection).",
        ) from error
    payload = PythonPayload(
        function=b64encode(made.inline).decode(),
        python=VERSION,
        name=clean(name, NAME_MOST),
        folder=made.parcel.staged.name if made.parcel is not None else "",
        buffers=made.buffers,
    )
    return PackedFunction(payload, made.parcel)


def pack_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The arguments of one call as they are now; raises BadInput if they cannot be pickled."""
    plain = list(args)
    if is_plain(plain) and is_plain(kwargs):
        text = msgspec.json.encode(PythonItem(plain, kwargs))
        if len(text) <= PLAIN_MOST_BYTES:
            return Arguments(text.decode())
    try:
        made = pickled((args, kwargs), "arguments")
    except Exception as error:
        raise BadInput(f"The arguments of a call cannot be sent: {error}") from error
    item: dict[str, Any] = {"p": b64encode(made.inline).decode()}
    if made.parcel is not None:
        item |= {"f": made.parcel.staged.name, "b": made.buffers}
    return Arguments(msgspec.json.encode(item).decode(), made.parcel)


def open_frame(frame: Frame, *, pickles: bool) -> Any:
    """The value in a frame; raises what the call raised, or PicklesRefused."""
    if isinstance(frame.v, msgspec.Raw):
        return msgspec.json.decode(frame.v)
    if isinstance(frame.t, msgspec.Raw):
        try:
            return from_typed(msgspec.json.decode(frame.t))
        except BadInput as error:
            raise CallFailed(f"The result of the call cannot be read here: {error}") from error
    if isinstance(frame.e, Fault):
        raise exception_of(frame.e, pickles=pickles)
    if not pickles:
        raise PicklesRefused(
            "The call gave an object of some other kind than data, which came pickled and was not opened: "
            "a node could run code on this machine by it.",
            hint="Return numbers, texts, bytes, times, lists, tuples, sets, dicts or numpy arrays of these. "
            "If you trust the nodes: `mesh.using(pickles=True)`.",
        )
    try:
        return cloudpickle.loads(b64decode(frame.p if isinstance(frame.p, str) else ""))
    except Exception as error:
        raise CallFailed(f"The result of the call cannot be opened here: {error}") from error


def exception_of(fault: Fault, *, pickles: bool) -> BaseException:
    """What a call raised, with the traceback of its node as the cause.

    Python's own exceptions come back as themselves, made anew from their text; others as CallFailed,
    unless pickles may be opened.
    """
    found = _unpickled(fault) if pickles else None
    found = found or _builtin(fault) or CallFailed(fault.sentence)
    if fault.traceback:
        found.__cause__ = RemoteTraceback(fault.traceback)
    return found


def _unpickled(fault: Fault) -> BaseException | None:
    if not fault.p:
        return None
    try:
        found = cloudpickle.loads(b64decode(fault.p))
    except Exception:  # a class that is not here; the sentence serves as well
        return None
    return found if isinstance(found, Exception) else None


def _builtin(fault: Fault) -> BaseException | None:
    kind = getattr(builtins, fault.type, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return None
    try:
        return kind(fault.message)
    except TypeError:  # UnicodeDecodeError and its like want more than a text
        return None


@contextmanager
def _own_modules_by_value(function: Callable[..., Any]) -> Iterator[None]:
    """A module that lies among the caller's own files is on no node: send what is used of it along."""
    module = sys.modules.get(str(getattr(function, "__module__", "")))
    if (
        module is None
        or not _is_own(module)
        or module.__name__ in cloudpickle.list_registry_pickle_by_value()
    ):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _is_own(module: ModuleType) -> bool:
    """Neither installed nor part of Python nor of planetmesh."""
    place = getattr(module, "__file__", None)
    if module.__name__ == "__main__" or not place or module.__name__.partition(".")[0] == "planetmesh":
        return False
    return not _is_installed(place)


@cache
def _is_installed(place: str) -> bool:
    return any(Path(place).resolve().is_relative_to(path) for path in _installed())


@cache
def _installed() -> frozenset[Path]:
    """Where Python's own modules and those of packages lie."""
    return frozenset(Path(path).resolve() for path in sysconfig.get_paths().values())
