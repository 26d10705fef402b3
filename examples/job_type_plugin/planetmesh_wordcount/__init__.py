"""The job type `wordcount`: how often each word occurs in a text. Each input is a text.

What is here decides and does nothing: it runs in the coordinator (`check`, `complete`, `gather`) and in the
agent (`launch`), which both trust it. The work itself is in work.py and runs in the sandbox.
"""

from __future__ import annotations

from typing import Any

import msgspec

from planetmesh.errors import BadInput
from planetmesh.jobtypes.call_type import CallType
from planetmesh.jobtypes.contract import Launch, read_payload
from planetmesh.model.job import Items, JobSpec


class WordCountPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    least: int = 1
    """Words that occur less often are left out."""


class WordCount(CallType):
    """See the module."""

    name = "wordcount"

    def check(self, spec: JobSpec) -> None:
        payload = read_payload(spec.payload, WordCountPayload, self.name)
        if payload.least < 1:
            raise BadInput("A word occurs once at least, so 'least' is 1 or more.")
        if not isinstance(spec.inputs, Items):
            raise BadInput(
                "A wordcount job needs texts as its inputs.", hint='inputs = ["a text", "another"]'
            )

    def launch(self, payload: dict[str, Any], items: tuple[str, ...], index: int) -> Launch:
        return Launch(call="planetmesh_wordcount.work:count")

    def describe(self, payload: dict[str, Any], items: tuple[str, ...] = (), index: int = 0) -> str:
        return f"count the words of {len(items)} texts" if items else "count words"
