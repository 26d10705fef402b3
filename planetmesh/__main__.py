"""`python -m planetmesh` and the installed `planetmesh` command."""

from __future__ import annotations

import sys


def main() -> None:
    from planetmesh.cli.main import run

    sys.exit(run())


if __name__ == "__main__":
    main()
