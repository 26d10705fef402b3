"""Looks at this machine: what it can do (at the start) and what it does now (with each heartbeat).

Nothing here blocks for long: the load is read from the kernel without waiting.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import socket
import sys
import uuid
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from planetmesh import __version__, logs
from planetmesh.jobtypes.image_batch import HEIC_TAG
from planetmesh.jobtypes.registry import JOB_TYPES
from planetmesh.model.node import Gpu, NodeInfo, NodeLoad, Sandbox
from planetmesh.model.resources import MILLIS, Resources
from planetmesh.paths import closed_to_others
from planetmesh.wire.dask import dask_tag
from planetmesh.wire.python import tag_of

log = logging.getLogger(__name__)

MEMORY_KEPT_SHARE = 0.1
"""Not offered to tasks unless the owner says so: the system and its owner need some."""
CGROUP = Path("/sys/fs/cgroup")
MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_MACHINE_SALT = b"planetmesh machine "


def look(
    *,
    offers: Resources | None = None,
    tags: tuple[str, ...] = (),
    shares: tuple[str, ...] = (),
    sandbox: Sandbox | None = None,
    refuses: str = "",
) -> NodeInfo:
    """What this node can do.

    Besides the owner's `tags` it has one for its Python, which functions pickled elsewhere ask for, and
    `image:heic` where that can be read, and one for the version of Dask.
    `offers` is the owner's word on what tasks may use; 0 CPUs or memory and -1 GPUs stand for "not said".
    """
    cpus, memory, gpus = count_cpus(), memory_limit(), find_gpus()
    return NodeInfo(
        hostname=socket.gethostname(),
        os=os_name(),
        arch=platform.machine() or "unknown",
        version=__version__,
        python=platform.python_version(),
        cpus=max(1, round(cpus)),
        memory_bytes=memory,
        gpus=gpus,
        offer=_offer(offers or Resources(0, 0, -1), cpus, memory, len(gpus)),
        tags=tuple(dict.fromkeys((*tags, tag_of(platform.python_version()), *_image_tags(), *_dask_tags()))),
        shares=shares,
        sandbox=sandbox or Sandbox(),
        job_types=offered_types(),
        machine=machine_hash(),
        refuses=refuses,
    )


def _image_tags() -> tuple[str, ...]:
    return (HEIC_TAG,) if find_spec("PIL") and find_spec("pillow_heif") else ()


def _dask_tags() -> tuple[str, ...]:
    """The processes of a cluster must have one version, and import it as the user that tasks run as."""
    found = find_spec("distributed")
    if found is None or found.origin is None:
        return ()
    if _tasks_are_others() and any(map(closed_to_others, (Path(found.origin).parent, Path(sys.base_prefix)))):
        return ()
    try:
        return (dask_tag(metadata.version("distributed")),)
    except metadata.PackageNotFoundError:
        return ()


def _tasks_are_others() -> bool:
    """An agent that is root runs tasks as a user without rights."""
    return sys.platform != "win32" and os.geteuid() == 0


def offered_types() -> tuple[str, ...]:
    """The job types of which this node has all that they need."""
    return tuple(name for name, kind in JOB_TYPES.items() if all(find_spec(module) for module in kind.needs))


LAG_MOST_SECONDS = 1e6
"""A machine that slept for longer says so no more exactly."""


class LoadMeter:
    """What the node does now. psutil compares with its last call, so one meter belongs to one agent."""

    def __init__(self, work_folder: Path) -> None:
        self._work_folder = work_folder
        self._lag_seconds = 0.0
        self.disk_free_bytes: int | None = None
        """As it was read last, if it could be."""
        psutil.cpu_percent(interval=None)

    def note_lag(self, seconds: float) -> None:
        """So much later than asked for did the event loop come back to a timer."""
        self._lag_seconds = min(LAG_MOST_SECONDS, max(self._lag_seconds, seconds))

    def read(
        self,
        running: int,
        backlog: int,
        *,
        outbox_bytes: int = 0,
        outbox_refused: int = 0,
        cache_bytes: int = 0,
    ) -> NodeLoad:
        lag, self._lag_seconds = self._lag_seconds, 0.0
        log_counts = logs.counts()
        try:
            disk_free = self.disk_free_bytes = psutil.disk_usage(str(self._work_folder)).free
        except OSError:
            disk_free, self.disk_free_bytes = 0, None
        return NodeLoad(
            cpu=min(1.0, psutil.cpu_percent(interval=None) / 100),
            memory_free_bytes=psutil.virtual_memory().available,
            disk_free_bytes=disk_free,
            running=running,
            backlog=backlog,
            outbox_bytes=outbox_bytes,
            outbox_refused=outbox_refused,
            cache_bytes=cache_bytes,
            lag_seconds=lag,
            log_file_bytes=log_counts.file_bytes,
            log_rotations=log_counts.rotations,
            log_lost=log_counts.lost,
        )


def count_cpus() -> float:
    """CPUs that this process may use: affinity and a container's quota count."""
    if sys.platform == "linux":
        cpus = float(len(os.sched_getaffinity(0)))
    else:
        cpus = float(os.cpu_count() or 1)
    quota = _read_words(CGROUP / "cpu.max")
    if len(quota) == 2 and quota[0].isdecimal() and int(quota[1]) > 0:
        cpus = min(cpus, int(quota[0]) / int(quota[1]))
    return max(cpus, 0.1)


def memory_limit() -> int:
    """Bytes of memory, or less where a container allows less."""
    total = int(psutil.virtual_memory().total)
    limit = _read_words(CGROUP / "memory.max")
    return min(total, int(limit[0])) if limit and limit[0].isdecimal() else total


def find_gpus(library: Any = None) -> tuple[Gpu, ...]:
    """NVIDIA's GPUs by their own library (the extra `gpu`); none where it or its driver is missing."""
    library = library or _nvidia_library()
    if library is None:
        return ()
    try:
        library.nvmlInit()
    except library.NVMLError:
        return ()
    try:
        return tuple(_gpu(library, number) for number in range(library.nvmlDeviceGetCount()))
    except library.NVMLError as error:
        log.warning("gpu.unreadable", extra={"reason": str(error)})
        return ()
    finally:
        library.nvmlShutdown()


def machine_hash() -> str:
    """Tells two machines apart without giving the machine's own id away."""
    return hashlib.sha256(_MACHINE_SALT + _machine_id().encode()).hexdigest()[:32]


def os_name() -> str:
    return {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)


def _nvidia_library() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _gpu(library: Any, number: int) -> Gpu:
    device = library.nvmlDeviceGetHandleByIndex(number)
    memory = int(library.nvmlDeviceGetMemoryInfo(device).total)
    return Gpu(_text(library.nvmlDeviceGetUUID(device)), _text(library.nvmlDeviceGetName(device)), memory)


def _text(value: str | bytes) -> str:
    """Older versions of the library answer in bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _offer(said: Resources, cpus: float, memory: int, gpus: int) -> Resources:
    return Resources(
        cpu_millis=said.cpu_millis or max(1, int(cpus * MILLIS)),
        memory_bytes=said.memory_bytes or int(memory * (1 - MEMORY_KEPT_SHARE)),
        gpus=gpus if said.gpus < 0 else min(said.gpus, gpus),
    )


def _machine_id() -> str:
    for path in MACHINE_ID_FILES:
        words = _read_words(path)
        if words:
            return words[0]
    return _windows_machine_id() or f"{uuid.getnode():012x}"


def _windows_machine_id() -> str:
    if sys.platform == "win32":
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography") as key:
                return str(winreg.QueryValueEx(key, "MachineGuid")[0])
        except OSError:
            return ""
    return ""


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
