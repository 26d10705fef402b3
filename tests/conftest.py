"""Fixtures that many rooms use, and the Hypothesis profiles.

`quick` (the default) draws the same examples in every run, so a red test is red for everybody; set
HYPOTHESIS_PROFILE=explore for fresh ones.

The rest keeps the run short. Compiled modules are kept even where the environment says not to: every worker
and every program that a test starts would compile them again. The garbage collector rests while tests are
collected, does not look at them again, and then comes less often: there are few cycles, and many objects.
And the folders of small tests lie in memory where the machine has room: no disk to wait for, which is what
most of them did. Tests marked `slow` or `system` stay on the disk.

Workers side by side take what may last longest first, so that none is left alone with it at the end; for the
system tests the command says `--maxschedchunk 1`, or the first worker would get all of the long ones. Tests
marked `alone` come last, and run while no other system test does: they want all cores, or are about how quick
something is.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

from planetmesh.paths import Home

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background of a script: the programs that tests interrupt would not hear it either.
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("transcript", "mesh_world")

from transcript import Transcript  # noqa: E402  its folder and its asserts had to be made known first

_NO_CHECKS = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile(
    "quick", max_examples=50, derandomize=True, deadline=None, suppress_health_check=_NO_CHECKS
)
settings.register_profile(
    "explore", max_examples=1000, deadline=timedelta(seconds=5), suppress_health_check=_NO_CHECKS
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


LIMIT_SECONDS = 180
"""Of slow and system tests that say none: alone they take seconds, on a busy machine many times that."""
_GARBAGE_EVERY = 10_000
"""New objects between two looks at the youngest; Python's own 700 took a sixteenth of the whole run."""
_MEMORY_DISK = Path("/dev/shm")
_MEMORY_DISK_FREE_BYTES = 2 * 2**30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After pytest-randomly: among those of one limit the order is still drawn."""
    items.sort(key=lambda item: (item.get_closest_marker("alone") is not None, -_limit_seconds(item)))
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if marks & {"slow", "system"} and "timeout" not in marks:
            item.add_marker(pytest.mark.timeout(LIMIT_SECONDS))


def _limit_seconds(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else 0.0


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Here, as a test's time limit begins inside: waiting for the others does not count."""
    alone = item.get_closest_marker("alone") is not None
    if "PYTEST_XDIST_WORKER" not in os.environ or not (alone or item.get_closest_marker("system")):
        return (yield)
    import fcntl  # not everywhere; where it is missing, system tests are skipped

    folder = Path(item.config.getoption("basetemp")).parent  # of all workers of this run
    with (folder / "cores").open("w") as cores:
        fcntl.flock(cores, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            fcntl.flock(cores, fcntl.LOCK_UN)  # also for what was forked meanwhile


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.set_threshold(_GARBAGE_EVERY, 10, 10)


@pytest.fixture(scope="session")
def memory_disk() -> Iterator[Path | None]:
    """A folder in memory; None where there is no such disk, or too small a one, or nothing on it may run."""
    if not (os.path.ismount(_MEMORY_DISK) and os.access(_MEMORY_DISK, os.W_OK | os.X_OK)):
        yield None
        return
    free = min(shutil.disk_usage(_MEMORY_DISK).free, psutil.virtual_memory().available)
    if free < _MEMORY_DISK_FREE_BYTES or os.statvfs(_MEMORY_DISK).f_flag & os.ST_NOEXEC:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="planetmesh-tests-", dir=_MEMORY_DISK))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def new_folder(memory_disk: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A fresh folder for each example of one test."""
    if memory_disk is None:
        return lambda: tmp_path_factory.mktemp("example")
    return lambda: Path(tempfile.mkdtemp(dir=memory_disk))


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, memory_disk: Path | None) -> Iterator[Path]:
    """A folder of the test's own, in memory if it is neither slow nor a whole system."""
    marks = {mark.name for mark in request.node.iter_markers()}
    if memory_disk is None or marks & {"slow", "system"}:
        yield request.getfixturevalue("tmp_path")
        return
    folder = Path(tempfile.mkdtemp(dir=memory_disk))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mesh() -> Iterator[Transcript]:
    """A mesh without a network; at the end its tables are checked and no effect may be left unseen."""
    mesh = Transcript()
    yield mesh
    mesh.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A state directory of its own."""
    home = Home(tmp_path / "home")
    home.prepare()
    return home
