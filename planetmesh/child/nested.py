"""A function that joblib sends here, with what it may use of joblib itself while it runs.

It has the CPUs of one task: a `Parallel` inside it uses threads, as below any other of joblib's back ends,
and not one more process for each CPU of the node.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class Nested:
    """Calls its function; travels by name, so what it names must be on the node: planetmesh is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        # It is taken for the function where one is shown, and where one looks whose module it comes from.
        for name in ("__module__", "__name__", "__qualname__"):
            found = getattr(function, name, None) or getattr(type(function), name)
            setattr(self, name, found)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Only where what the function came with has loaded it: an import of joblib for each small job would
        # take longer than most of these.
        parallel = sys.modules.get("joblib.parallel")
        if parallel is None:
            return self.function(*args, **kwargs)
        with parallel.parallel_config(parallel.ThreadingBackend(nesting_level=1)):
            return self.function(*args, **kwargs)
