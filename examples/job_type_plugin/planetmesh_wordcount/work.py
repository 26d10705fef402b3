"""The call: it runs in a warm worker on a node, in the sandbox, in the task's own folder."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from planetmesh.wire.calls import Fault

if TYPE_CHECKING:
    from planetmesh.child.call import Call


def count(call: Call) -> None:
    """A value for each input: {"word": times}, the commonest first."""
    least = call.payload.get("least", 1)
    for number, text in enumerate(call.items):
        words = Counter(re.findall(r"\w+", text.casefold()))
        if not words:
            call.emit_error(Fault("NoWords", f"{text!a} has no words"), number)
            continue
        call.emit({word: times for word, times in words.most_common() if times >= least}, number)
