"""Build the one-file binary: `python packaging/build.py [--into DIR]`. Needs the extra `build`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=REPOSITORY / "dist", help="where the binary goes")
    into = parser.parse_args().into.absolute()
    with tempfile.TemporaryDirectory(prefix="planetmesh-build-") as work:
        argv = [
            *(sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"),
            *("--distpath", str(into), "--workpath", work, str(REPOSITORY / "planetmesh.spec")),
        ]
        subprocess.run(argv, cwd=REPOSITORY, check=True)
    binary = into / ("planetmesh.exe" if sys.platform == "win32" else "planetmesh")
    print(f"{binary}  {binary.stat().st_size / 1024 / 1024:.1f} MiB")


if __name__ == "__main__":
    main()
