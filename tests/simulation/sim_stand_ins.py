"""Stand-ins for `time`, `random` and `secrets` in the package: those of the machine whose loop turns now.

Put in place once for the whole process, so simulations run in processes of their own.
"""

from __future__ import annotations

import logging
import random
import secrets
import sys
import time
from typing import Any

from sim_time import Machine


def _present() -> Machine:
    assert Machine.present is not None, "a clock was read where no machine is"
    return Machine.present


class SimClock:
    @staticmethod
    def monotonic() -> float:
        return _present().look_at_clock()

    @staticmethod
    def time() -> float:
        return _present().wall


class SimRandom:
    @staticmethod
    def uniform(low: float, high: float) -> float:
        return _present().random.uniform(low, high)


class SimSecrets:
    @staticmethod
    def token_hex(size: int) -> str:
        return f"{_present().random.getrandbits(8 * size):0{2 * size}x}"


def install() -> None:
    """Everything that will be simulated must have been imported before."""
    stand_ins: dict[Any, Any] = {time: SimClock, random: SimRandom, secrets: SimSecrets}
    for name, module in list(sys.modules.items()):
        if name.startswith("planetmesh."):
            for attribute in ("time", "random", "secrets"):
                real = getattr(module, attribute, None)
                if real in (time, random, secrets):
                    setattr(module, attribute, stand_ins[real])
    logging.disable(logging.CRITICAL)
