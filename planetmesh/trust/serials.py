"""The certificates that count: an allow list, in memory, written through by the caller.

Pure: made from the stored rows, asked on every connection and request; each change is returned as the
rows to store. A certificate that is not in the table is refused even if our own CA signed it.

    PENDING --first use--> ACTIVE --first use of its successor--> RETIRED (seen again later: a copy)
       \\__ unused for too long, or replaced before use __> REVOKED <__ by an operator, from any state
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from planetmesh.errors import CertificateRefused, CopiedIdentity, NotFound, Revoked
from planetmesh.model.identity import CertificateRecord, CertificateState, Principal, Role

UNUSED_SECONDS = 600.0
"""A freshly paired machine connects at once; a certificate that nobody uses is a loose key."""
OVERLAP_SECONDS = 60.0
"""After a renewal, connections that were being made with the old certificate may still arrive."""
PAIR_AGAIN = "Pair again with a code from `planetmesh code` if this machine belongs here."

_COUNTING = frozenset({CertificateState.PENDING, CertificateState.ACTIVE})

Rows = tuple[CertificateRecord, ...]
"""What has changed and is to be stored before anything else happens."""


class ActiveSerials:
    """The table; `now` is wall time in seconds since the epoch."""

    def __init__(self, rows: Iterable[CertificateRecord] = (), *, now: float = 0.0) -> None:
        self._records: dict[str, CertificateRecord] = {}
        self._by_id: dict[str, set[str]] = {}
        self._unused_until: dict[str, float] = {}
        self._overlap_until: dict[str, float] = {}
        for row in rows:
            self._put(row)
        successors = {row.successor for row in self._records.values() if row.successor}
        for row in self._records.values():
            # Who renewed and then slept for a week must still get in; a first pairing must be used soon.
            if row.state is CertificateState.PENDING and row.serial not in successors:
                self._unused_until[row.serial] = now + UNUSED_SECONDS

    def __len__(self) -> int:
        return len(self._records)

    def get(self, serial: str) -> CertificateRecord | None:
        return self._records.get(serial)

    def name_of(self, member_id: str) -> str:
        """What a member was called when it came; nothing for who is not known or not any more."""
        names = (self._records[serial].name for serial in sorted(self._by_id.get(member_id, ())))
        return next(filter(None, names), "")

    def living(self, roles: frozenset[Role], now: float) -> list[CertificateRecord]:
        """The certificate that counts of each member of these roles, the longest-lived if it has two."""
        found: dict[str, CertificateRecord] = {}
        for record in sorted(self._records.values(), key=lambda each: each.not_after):
            if record.role in roles and record.state in _COUNTING and record.not_after > now:
                found[record.id] = record
        return list(found.values())

    def allow(self, record: CertificateRecord, now: float) -> Rows:
        """Accept a new certificate: PENDING until its first use, or ACTIVE at once for a local identity."""
        self._put(record)
        if record.state is CertificateState.PENDING:
            self._unused_until[record.serial] = now + UNUSED_SECONDS
        return (record,)

    def rotate(self, old_serial: str, new: CertificateRecord) -> Rows:
        """Note that `new` was issued to replace a certificate; it takes over at its first use."""
        old = self._known(old_serial)
        changed: list[CertificateRecord] = []
        unused = self._records.get(old.successor)
        if unused is not None and unused.state is CertificateState.PENDING:
            changed.append(self._set(unused, state=CertificateState.REVOKED))
        new = msgspec.structs.replace(new, name=new.name or old.name)
        self._put(new)
        changed += [new, self._set(old, successor=new.serial)]
        return tuple(changed)

    def check(self, principal: Principal, now: float, *, established: bool = False) -> Rows:
        """Raise CertificateRefused unless this certificate counts now; return what its use changes.

        `established`: asked again on a connection that was accepted before. There a replaced certificate
        is only out of date (`superseded`), on a new connection it is a copy (CopiedIdentity).
        """
        record = self._records.get(principal.serial)
        if record is None or (record.role, record.id) != (principal.role, principal.id):
            raise _refused("unknown", "This certificate is not in the coordinator's table.")
        if record.state is CertificateState.REVOKED:
            raise Revoked("This certificate was revoked.", hint=PAIR_AGAIN)
        if now >= min(principal.not_after, record.not_after):
            raise _refused("expired", "This certificate has expired.")
        if record.state is CertificateState.RETIRED:
            self._refuse_retired(record, now, established=established)
        if record.state is CertificateState.PENDING:
            return self._first_use(record, now)
        return ()

    def revoke(self, id_or_serial: str) -> Rows:
        """Refuse a member (by id) or one certificate (by serial) from now on; raise NotFound if unknown."""
        serials = self._by_id.get(id_or_serial, set())
        if id_or_serial in self._records:
            serials = {id_or_serial}
        if not serials:
            raise NotFound("No certificate of that id or serial was ever issued here.")
        living = [
            each for each in map(self._known, sorted(serials)) if each.state is not CertificateState.REVOKED
        ]
        return tuple(self._set(each, state=CertificateState.REVOKED) for each in living)

    def sweep(self, now: float) -> Rows:
        """Revoke what was issued at a pairing and never used; call now and then."""
        late = [serial for serial, until in self._unused_until.items() if until <= now]
        for serial in late:
            del self._unused_until[serial]
        return tuple(self._set(self._known(each), state=CertificateState.REVOKED) for each in late)

    def forget_expired(self, now: float) -> tuple[str, ...]:
        """Drop what has expired; return the serials to delete. The TLS layer refuses them anyway."""
        gone = tuple(serial for serial, row in self._records.items() if row.not_after <= now)
        for serial in gone:
            row = self._records.pop(serial)
            self._by_id[row.id].discard(serial)
            if not self._by_id[row.id]:
                del self._by_id[row.id]
            self._unused_until.pop(serial, None)
            self._overlap_until.pop(serial, None)
        return gone

    def _first_use(self, record: CertificateRecord, now: float) -> Rows:
        if now >= self._unused_until.get(record.serial, now + 1):
            raise _refused("unused", "This certificate was not used in time after the pairing.")
        self._unused_until.pop(record.serial, None)
        changed = [self._set(record, state=CertificateState.ACTIVE)]
        for serial in sorted(self._by_id[record.id]):
            older = self._records[serial]
            if older.successor == record.serial and older.state is CertificateState.ACTIVE:
                self._overlap_until[serial] = now + OVERLAP_SECONDS
                changed.append(self._set(older, state=CertificateState.RETIRED))
        return tuple(changed)

    def _refuse_retired(self, record: CertificateRecord, now: float, *, established: bool) -> None:
        if now < self._overlap_until.get(record.serial, 0.0):
            return
        if established:
            raise _refused("superseded", "This certificate was replaced; connect again with the new one.")
        raise CopiedIdentity(
            "A certificate that its owner has replaced was used again: its key was copied.",
            reason="copied_identity",
            hint="Revoke that node with `planetmesh node revoke NAME` and pair it again.",
        )

    def _known(self, serial: str) -> CertificateRecord:
        record = self._records.get(serial)
        if record is None:
            raise NotFound("No certificate of that serial was ever issued here.")
        return record

    def _put(self, record: CertificateRecord) -> None:
        self._records[record.serial] = record
        self._by_id.setdefault(record.id, set()).add(record.serial)

    def _set(
        self,
        record: CertificateRecord,
        *,
        state: CertificateState | None = None,
        successor: str | None = None,
    ) -> CertificateRecord:
        changed = msgspec.structs.replace(
            record,
            state=record.state if state is None else state,
            successor=record.successor if successor is None else successor,
        )
        self._put(changed)
        if changed.state is CertificateState.REVOKED:
            self._unused_until.pop(changed.serial, None)
            self._overlap_until.pop(changed.serial, None)
        return changed


def _refused(reason: str, message: str) -> CertificateRefused:
    return CertificateRefused(message, reason=reason, hint=PAIR_AGAIN)
