"""Content under a passphrase: what a backup is before it leaves the machine.

scrypt makes the key (RFC 7914), ChaCha20-Poly1305 seals all of it at once (RFC 8439): a file that was
changed, or opened with another passphrase, gives nothing at all.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from planetmesh.errors import BadInput, NotAllowed

MAGIC = b"planetmesh backup 1\n"
SALT_BYTES = 16
NONCE_BYTES = 12
WORK = 17
"""Power of two of scrypt's N: 128 MiB and half a second for each guess."""
WORK_MOST = 20
"""A file could ask for any amount of memory: 1 GiB is the most."""
BLOCK = 8
PASSPHRASE_LEAST_LETTERS = 12
PASSPHRASE_MOST_LETTERS = 1000
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_GROUPS, _GROUP_LETTERS = 5, 5


def new_passphrase() -> str:
    """125 random bits, in groups that can be copied by hand."""
    letters = [secrets.choice(_LETTERS) for _ in range(_GROUPS * _GROUP_LETTERS)]
    groups = [letters[at : at + _GROUP_LETTERS] for at in range(0, len(letters), _GROUP_LETTERS)]
    return "-".join("".join(group) for group in groups)


def check_passphrase(passphrase: str) -> None:
    """Raise BadInput for one that is soon guessed."""
    if not PASSPHRASE_LEAST_LETTERS <= len(passphrase) <= PASSPHRASE_MOST_LETTERS:
        raise BadInput(
            f"A passphrase has at least {PASSPHRASE_LEAST_LETTERS} letters.",
            hint="Five words that nobody would put together are a good one.",
        )


def seal(content: bytes, passphrase: str) -> bytes:
    """Raises BadInput for a passphrase that is too short."""
    check_passphrase(passphrase)
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    head = MAGIC + bytes([WORK]) + salt + nonce
    return head + ChaCha20Poly1305(_key(passphrase, salt, WORK)).encrypt(nonce, content, head)


def unseal(sealed: bytes, passphrase: str) -> bytes:
    """What was sealed. Raises BadInput for what is no backup, NotAllowed for another passphrase."""
    size = len(MAGIC) + 1 + SALT_BYTES + NONCE_BYTES
    head = sealed[:size]
    if not sealed.startswith(MAGIC) or len(head) < size:
        raise BadInput("This is no backup of a mesh.", hint="`planetmesh backup FILE` makes one.")
    work, salt, nonce = head[len(MAGIC)], head[-SALT_BYTES - NONCE_BYTES : -NONCE_BYTES], head[-NONCE_BYTES:]
    if not WORK <= work <= WORK_MOST:
        raise BadInput("The backup is damaged, or of a newer planetmesh.")
    try:
        return ChaCha20Poly1305(_key(passphrase, salt, work)).decrypt(nonce, sealed[size:], head)
    except InvalidTag as error:
        raise NotAllowed(
            "The passphrase is wrong, or the backup is damaged.",
            hint="Nothing was changed. Try again; capital letters count.",
        ) from error


def _key(passphrase: str, salt: bytes, work: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << work, r=BLOCK, p=1).derive(passphrase.encode())
