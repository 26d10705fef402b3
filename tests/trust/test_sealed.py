"""What is sealed opens with its passphrase only, whole or not at all."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.kdf import scrypt

from planetmesh.errors import BadInput, NotAllowed
from planetmesh.trust import sealed
from planetmesh.trust.sealed import MAGIC, new_passphrase, seal, unseal

PASSPHRASE = "correct horse battery"
CONTENT = b"the key of a mesh"
HEAD = len(MAGIC) + 1 + sealed.SALT_BYTES + sealed.NONCE_BYTES


@pytest.fixture(scope="module")
def whole() -> bytes:
    return seal(CONTENT, PASSPHRASE)


@pytest.fixture
def cheap(monkeypatch) -> bytes:
    """The same with a key that takes no time; what the true one costs has a test of its own."""
    monkeypatch.setattr(sealed, "WORK", 4)
    return seal(CONTENT, PASSPHRASE)


def test_it_opens_with_its_passphrase(whole: bytes):
    assert CONTENT not in whole
    assert unseal(whole, PASSPHRASE) == CONTENT


def test_the_same_is_never_sealed_twice_alike(whole: bytes):
    other = seal(CONTENT, PASSPHRASE)
    assert other[:HEAD] != whole[:HEAD]
    assert other[HEAD:] != whole[HEAD:]


@pytest.mark.parametrize("wrong", ["correct horse batterY", "correct horse battery ", ""])
def test_not_with_another(cheap: bytes, wrong: str):
    with pytest.raises(NotAllowed, match="wrong, or the backup is damaged"):
        unseal(cheap, wrong)


@pytest.mark.parametrize("place", [len(MAGIC) + 1, HEAD - 1, HEAD, -1])
def test_not_once_a_bit_of_it_was_changed(cheap: bytes, place: int):
    changed = bytearray(cheap)
    changed[place] ^= 1
    with pytest.raises(NotAllowed):
        unseal(bytes(changed), PASSPHRASE)


@pytest.mark.parametrize("size", [HEAD, HEAD + 1, -1])
def test_not_where_its_end_is_missing(cheap: bytes, size: int):
    with pytest.raises(NotAllowed):
        unseal(cheap[:size], PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", MAGIC, MAGIC[:-1] + b"x" * 99, b"\0" * 10_000])
def test_what_is_no_backup_is_said(content: bytes):
    with pytest.raises(BadInput, match="no backup of a mesh"):
        unseal(content, PASSPHRASE)


@pytest.mark.parametrize("work", [0, 1, sealed.WORK - 1, sealed.WORK_MOST + 1, 63, 255])
def test_a_file_cannot_choose_how_much_memory_it_takes(whole: bytes, work: int, monkeypatch):
    def derive(*_args, **_more):
        pytest.fail("a key was made")

    monkeypatch.setattr(sealed, "_key", derive)
    with pytest.raises(BadInput):
        unseal(MAGIC + bytes([work]) + whole[len(MAGIC) + 1 :], PASSPHRASE)


def test_the_key_costs_what_it_should(monkeypatch):
    asked = []
    real = scrypt.Scrypt

    def noted(**given):
        asked.append((given["n"], given["r"], given["p"], len(given["salt"])))
        return real(**given)

    monkeypatch.setattr(sealed, "Scrypt", noted)
    seal(CONTENT, PASSPHRASE)
    assert asked == [(2**17, 8, 1, 16)]


@pytest.mark.parametrize("short", ["", "short", "x" * 11, "x" * 1001])
def test_a_short_passphrase_is_refused(short: str):
    with pytest.raises(BadInput, match="12 letters"):
        seal(CONTENT, short)


def test_one_that_is_made_is_long_enough_and_new():
    made = {new_passphrase() for _ in range(100)}
    assert len(made) == 100
    assert all(len(each) == 29 for each in made)
    sealed.check_passphrase(next(iter(made)))
