"""Who was heard on the LAN: a bounded table that a flood cannot push the true coordinator out of.

Pure: `now` is handed in. Only what fits the grammar of `announcement` gets here. When the table is full, the
address that claims most places gives one up, so 10 000 inventions of one machine compete with each other and
not with a coordinator that claims one place.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

from planetmesh.discovery.announcement import Found, Hints, Instance

MOST_CANDIDATES = 512
"""More than the 254 addresses of a usual LAN: an address that claims one place never has to leave."""
MOST_ADDRESSES = 8
"""Of one coordinator; a machine with more networks is reached by these."""

IsNear = Callable[[str], bool]
_Crowd = tuple[bool, bool, str]
"""Complete?, near?, and the address that all of them claim. Kept up to date, because a flood asks often."""


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
    """In one of our own networks."""

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
        self._crowds: dict[_Crowd, dict[Instance, None]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def hear(self, instance: Instance, news: Heard, now: float) -> None:
        """Take in what a packet said of an instance."""
        candidate = self._table.get(instance) or _Candidate(now, now, Heard())
        self.drop(instance)
        candidate.learn(news, now)
        candidate.near = candidate.claim != "" and self._is_near(candidate.claim)
        self._table[instance] = candidate
        self._crowds.setdefault(_crowd(instance, candidate), {})[instance] = None
        if len(self._table) > self._most:
            self.drop(self._most_expendable())

    def drop(self, instance: Instance) -> None:
        """It said goodbye."""
        candidate = self._table.pop(instance, None)
        if candidate is None:
            return
        crowd = _crowd(instance, candidate)
        del self._crowds[crowd][instance]
        if not self._crowds[crowd]:
            del self._crowds[crowd]

    def forget_before(self, last_at: float) -> None:
        """Drop whoever was last heard before this time."""
        for instance in [key for key, value in self._table.items() if value.last_at < last_at]:
            self.drop(instance)

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
        """Longest unheard of the largest crowd; incomplete ones go before others, far ones before near."""

        def worth(crowd: _Crowd) -> tuple[bool, int, bool]:
            complete, is_near, _ = crowd
            return (complete, -len(self._crowds[crowd]), is_near)

        return next(iter(self._crowds[min(self._crowds, key=worth)]))

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


def _crowd(instance: Instance, candidate: _Candidate) -> _Crowd:
    return (_hints(instance, candidate.heard) is not None, candidate.near, candidate.claim)


def _hints(instance: Instance, heard: Heard) -> Hints | None:
    """What it says in its TXT record, once its records are complete and agree with each other."""
    hints = heard.hints
    if hints is None or not (heard.ipv4 or heard.ipv6):
        return None
    return hints if hints.mesh8 == instance[0] and hints.port == heard.port else None
