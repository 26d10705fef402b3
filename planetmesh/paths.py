"""The only file that knows where things lie on disk.

`Home` is the state directory of one `planetmesh` on one machine: 0700, keys 0600. Everything else
asks it for names and never joins paths to the state directory itself.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from planetmesh.errors import Conflict, MeshError, UnsafeHome

GROUP_AND_OTHER = 0o077


def default_home() -> Path:
    """`PLANETMESH_HOME`, else the platform's usual state directory."""
    chosen = os.environ.get("PLANETMESH_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_state_dir("planetmesh", appauthor=False))


@dataclass(frozen=True)
class Home:
    """Names inside one state directory."""

    root: Path

    @property
    def authority(self) -> Path:
        """The mini CA: its key and certificate. Exists on the coordinator only."""
        return self.root / "authority"

    @property
    def coordinator(self) -> Path:
        """The coordinator's own leaf."""
        return self.root / "coordinator"

    @property
    def agent(self) -> Path:
        """This machine's agent identity (a `trust.identity` folder)."""
        return self.root / "agent"

    @property
    def peer(self) -> Path:
        """The agent's second identity, for handing blobs to other nodes."""
        return self.root / "peer"

    @property
    def local_agent(self) -> Path:
        """Home of the agent that runs beside a coordinator, as a process of its own."""
        return self.root / "local-agent"

    @property
    def operator(self) -> Path:
        """This user's operator or viewer identity (a `trust.identity` folder)."""
        return self.root / "operator"

    @property
    def database(self) -> Path:
        return self.root / "mesh.db"

    @property
    def database_files(self) -> tuple[Path, ...]:
        """The database, and what SQLite keeps beside it: a log that met another database would ruin it."""
        return (self.database, *(self.root / f"{self.database.name}-{each}" for each in ("wal", "shm")))

    @property
    def outputs_database(self) -> Path:
        return self.root / "outputs.db"

    @property
    def blobs_database(self) -> Path:
        """Which files the coordinator holds, and for which jobs."""
        return self.root / "blobs.db"

    @property
    def blobs(self) -> Path:
        """The coordinator's shelf of files; an agent's cache of them in its own home."""
        return self.root / "blobs"

    @property
    def outbox(self) -> Path:
        """Folder of what the agent has not had confirmed."""
        return self.root / "outbox"

    @property
    def refused(self) -> Path:
        """Messages that the agent could not tell the coordinator, for a person to read."""
        return self.root / "refused"

    @property
    def role_file(self) -> Path:
        """What `up` decided on its first run; see `cli/up.py`."""
        return self.root / "role.json"

    @property
    def settings_file(self) -> Path:
        """What its owner tuned (`settings.load_settings`); usually not there."""
        return self.root / "settings.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "lock"

    def leading_page(self, port: int) -> Path:
        """A page for this user's browser that leads to the dashboard served on that port; holds its token."""
        return self.root / f"dashboard-{port}.html"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def prepare(self) -> None:
        """Make the directory if needed; raise UnsafeHome if it cannot be used or others can look in."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UnsafeHome(
                f"Cannot make the state directory {self.root}: {error.strerror}.",
                hint="Choose another with --home DIR or PLANETMESH_HOME.",
            ) from error
        if not self.root.is_dir() or not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
            raise UnsafeHome(
                f"The state directory {self.root} is not writable by this user.",
                hint="Choose another with --home DIR or PLANETMESH_HOME, or mend its owner.",
            )
        refuse_if_shared(self.root)

    def exists(self) -> bool:
        return self.root.is_dir()

    @contextmanager
    def locked(
        self, *, hint: str = "Stop that one first, or give this one its own with --home DIR."
    ) -> Iterator[None]:
        """Hold this home for one `up`; raise Conflict, with the hint, if another process holds it."""
        with open_private(self.lock_file) as file:
            _lock(file.fileno(), self.root, hint)
            yield

    def is_taken(self) -> bool:
        """An `up` runs in this home."""
        if not self.lock_file.exists():
            return False
        try:
            with self.locked():
                return False
        except MeshError:
            return True


def work_root(home: Home) -> Path:
    """Where tasks' folders lie.

    Inside the home, except for root: its tasks run as another user, who cannot pass through 0700.
    """
    if sys.platform != "win32" and os.geteuid() == 0:
        from hashlib import sha256

        tag = sha256(os.fsencode(home.root.absolute())).hexdigest()[:12]
        return Path("/var/tmp") / f"planetmesh-{tag}"  # noqa: S108  made 0711 by root, names unguessable below
    return home.root / "work"


def closed_to_others(path: Path) -> Path | None:
    """The folder on the way to `path`, or itself, that users without rights may not pass."""
    whole = path.resolve()
    return next((each for each in (whole, *whole.parents) if not each.stat().st_mode & 0o001), None)


def refuse_if_shared(path: Path) -> None:
    """Raise UnsafeHome if group or others have any right on `path` (POSIX)."""
    if sys.platform == "win32":
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & GROUP_AND_OTHER:
        raise UnsafeHome(
            f"{path} can be used by other users of this machine (mode {mode:04o}).",
            hint=f"If nobody else has touched it: chmod go= {path}",
        )


def write_private(path: Path, content: bytes) -> None:
    """Write a new 0600 file beside and move it over `path`, on disk before it returns."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    if sys.platform != "win32":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def open_private(path: Path) -> IO[bytes]:
    """Open a file to append to it, made 0600 whatever the umask is. For locks."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+b")


def read_private(path: Path) -> bytes:
    """Read a key file; raise UnsafeHome if others could have read it too."""
    refuse_if_shared(path)
    return path.read_bytes()


def _lock(descriptor: int, root: Path, hint: str) -> None:
    taken = Conflict(f"`planetmesh up` is already running with the home {root}.", hint=hint)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise taken from error
