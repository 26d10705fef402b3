"""Installs a package of the examples without an installer: its files and its dist-info in one folder."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path


def install(source: Path, target: Path) -> Path:
    """What pip would leave in `site-packages` for it; `target` is to be put on Python's path."""
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = project["name"].replace("-", "_")
    for package in sorted(source.iterdir()):
        if (package / "__init__.py").exists():
            shutil.copytree(package, target / package.name)
    about = target / f"{name}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return target
