"""What Dask is given for its own connections: contexts that know one certificate, and no settings of anybody.

Used by the processes on the nodes and by their owner. `distributed` is an optional extra.
"""

from __future__ import annotations

from typing import Any

from distributed import Security

from planetmesh.trust.tls import pinned_context


class PinnedSecurity(Security):
    """Talks to holders of the cluster's key, and to nobody else; never without TLS 1.3."""

    def __init__(self, key: str, certificate: str) -> None:
        super().__init__(require_encryption=True)
        self._pair = (key, certificate)

    def get_connection_args(self, role: str) -> dict[str, Any]:  # noqa: ARG002  all have the same
        return self._args(serves=False) | {"extra_conn_args": {}}

    def get_listen_args(self, role: str) -> dict[str, Any]:  # noqa: ARG002
        return self._args(serves=True)

    def _args(self, *, serves: bool) -> dict[str, Any]:
        context = pinned_context(*self._pair, self._pair[1], serves=serves)
        return {"ssl_context": context, "require_encryption": True}

    def __repr__(self) -> str:
        return "PinnedSecurity()"

    def __reduce__(self) -> Any:
        raise TypeError("The key of a cluster is not pickled.")
