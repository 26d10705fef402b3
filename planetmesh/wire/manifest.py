"""A manifest as the bytes of a blob and back. What is read was written by a peer, so it is checked whole."""

from __future__ import annotations

import msgspec

from planetmesh.errors import BadInput, TooLarge
from planetmesh.logs import clean
from planetmesh.model.blob import Manifest, is_digest
from planetmesh.model.names import folded, safe_parts

MANIFEST_MOST_BYTES = 64 * 1024 * 1024
FILES_MOST = 250_000

_decoder = msgspec.json.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """Raises BadInput or TooLarge for what `decode_manifest` would refuse."""
    check_manifest(manifest)
    data = msgspec.json.encode(manifest)
    _check_size(len(data))
    return data


def decode_manifest(data: bytes) -> Manifest:
    """Raises BadInput or TooLarge: not a manifest, or a name in it that must not become a path."""
    _check_size(len(data))
    try:
        manifest = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BadInput(f"The manifest could not be read: {error}") from error
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Raise BadInput or TooLarge unless the files can be laid side by side on every platform."""
    count = len(manifest.files) + len(manifest.folders)
    if count > FILES_MOST:
        raise TooLarge(f"The manifest lists {count} files; {FILES_MOST} is the limit.")
    check_names([file.name for file in manifest.files], list(manifest.folders))
    for file in manifest.files:
        if not is_digest(file.digest):
            raise BadInput(f"The file {clean(file.name, 80)!r} has no valid digest.")


def check_names(files: list[str], folders: list[str]) -> None:
    """Raise BadInput for a bad name, and where one would take another's place."""
    taken: dict[str, str] = {}
    parents: dict[str, str] = {}
    for name in [*files, *folders]:
        parts = safe_parts(name)
        key = folded(name)
        if key in taken:
            raise _clash(taken[key], name)
        taken[key] = name
        for length in range(1, len(parts)):
            parents.setdefault(folded("/".join(parts[:length])), name)
    for name in files:
        if folded(name) in parents:
            raise _clash(parents[folded(name)], name)


def _clash(first: str, second: str) -> BadInput:
    return BadInput(
        f"The files {first!a} and {second!a} cannot lie side by side: one takes the other's place."
    )


def _check_size(size: int) -> None:
    if size > MANIFEST_MOST_BYTES:
        raise TooLarge(f"The manifest is {size} bytes long; {MANIFEST_MOST_BYTES} is the limit.")
