"""Who was heard on the LAN: a bounded table that a flood cannot push the true coordinator out of.

Pure: `now` is handed in. Only what fits the grammar of `announcement` gets here. When the table is full, the
address that claims most places gives one up, so 10 000 inventions of one machine compete with each other and
not with a coordinator that claims one place.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from planetmesh.discovery.announcement import Found, Hints, Instance

MOST_CANDIDATES = 512
"""More than the 254 addresses of a usual LAN: an address that claims one place never has to leave."""
MOST_ADDRESSES = 8
"""Of one coordinator; a machine with more networks is reached by these."""

IsNear = Callable[[str], bool]


@dataclass(slots=True)
class Heard:
    """What one packet said of one instance; None or empty where it said nothing."""

    port: int | None = None
    hints: Hints | None = None
    ipv4: list[str] = field(default_factory=list)
    ipv6: list[str] = field(default_factory=list)

    def add_address(self, address: str) -> None:
        kept = self.ipv6 if ":" in address else self.ipv4
        if address not in kept and len(kept) < MOST_ADDRESSES:
            kept.append(address)


@dataclass(slots=True)
class _Candidate:
    first_at: float
    last_at: float
    heard: Heard
    near: bool = False
    """In one of our own networks; kept, because a flood asks for it often."""

    def learn(self, news: Heard, now: float) -> None:
        self.last_at = now
        self.heard.port = news.port if news.port is not None else self.heard.port
        self.heard.hints = news.hints or self.heard.hints
        self.heard.ipv4 = news.ipv4 or self.heard.ipv4
        self.heard.ipv6 = news.ipv6 or self.heard.ipv6

    @property
    def claim(self) -> str:
        """The address in whose name it takes up a place."""
        addresses = self.heard.ipv4 or self.heard.ipv6
        return addresses[0] if addresses else ""


class Candidates:
    """The table. `is_near` says whether an address lies in one of our own networks."""

    def __init__(self, is_near: IsNear, *, most: int = MOST_CANDIDATES) -> None:
        self._is_near = is_near
        self._most = most
        self._table: dict[Instance, _Candidate] = {}

    def __len__(self) -> int:
        return len(self._table)

    def hear(self, instance: Instance, news: Heard, now: float) -> None:
        """Take in what a packet said of an instance."""
        candidate = self._table.setdefault(instance, _Candidate(now, now, Heard()))
        candidate.learn(news, now)
        candidate.near = candidate.claim != "" and self._is_near(candidate.claim)
        if len(self._table) > self._most:
            del self._table[self._most_expendable()]

    def drop(self, instance: Instance) -> None:
        """It said goodbye."""
        self._table.pop(instance, None)

    def forget_before(self, last_at: float) -> None:
        """Drop whoever was last heard before this time."""
        for instance in [key for key, value in self._table.items() if value.last_at < last_at]:
            del self._table[instance]

    def found(self) -> list[Found]:
        """Everybody of whom enough is known, nearest first, then in the order in which they were heard."""
        ready = sorted(
            self._table.items(),
            key=lambda item: (not item[1].near, item[1].first_at, item[0]),
        )
        return [
            self._found(key, value.heard, hints)
            for key, value in ready
            if (hints := _hints(key, value.heard)) is not None
        ]

    def _most_expendable(self) -> Instance:
        """Incomplete ones first; then of the largest crowd in the name of one address, farther ones first."""
        incomplete = {k: v for k, v in self._table.items() if _hints(k, v.heard) is None}
        pool = incomplete or self._table
        crowds = Counter(candidate.claim for candidate in pool.values())
        largest = max(crowds.values())
        members = ((v.near, v.last_at, k) for k, v in pool.items() if crowds[v.claim] == largest)
        return min(members)[2]

    def _found(self, instance: Instance, heard: Heard, hints: Hints) -> Found:
        addresses = sorted(heard.ipv4 + heard.ipv6, key=self._distance)
        return Found(
            mesh8=instance[0],
            node8=instance[1],
            addresses=tuple(addresses[:MOST_ADDRESSES]),
            port=hints.port,
            pair_port=hints.pair_port,
            slots=hints.slots,
            version=hints.version,
        )

    def _distance(self, address: str) -> tuple[bool, bool, bool]:
        link_local = ipaddress.ip_address(address).is_link_local
        return (link_local, ":" in address, not self._is_near(address))


def _hints(instance: Instance, heard: Heard) -> Hints | None:
    """What it says in its TXT record, once its records are complete and agree with each other."""
    hints = heard.hints
    if hints is None or not (heard.ipv4 or heard.ipv6):
        return None
    return hints if hints.mesh8 == instance[0] and hints.port == heard.port else None
