"""Jobs as people hand them in, drawn from the seed: each with a plan of how its tasks behave."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import builders
from sim_launcher import Manner, Plan

from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import AUTO_CHUNK, After, Condition, Items, JobSpec, Limits, Range

SUBMITTERS = ("ann", "bob", "eve")
TAGS = ("gpu", "fast")
W, F, H, N, L, A = (
    Manner.WELL, Manner.FAILS, Manner.HANGS, Manner.NOT_THERE, Manner.KILLS_LAUNCHER, Manner.KILLS_AGENT,
)  # fmt: skip
PLANS = (
    Plan(0.005, 0.05),
    Plan(0.05, 2.0),
    Plan(1.0, 60.0),
    Plan(60.0, 1200.0),
    Plan(0.001, 30.0, (W, W, W, F), pieces=2),
    Plan(0.1, 5.0, (F,), bad_attempts=1, pieces=1),
    Plan(0.1, 5.0, (W, W, W, N)),
    Plan(0.1, 20.0, (W, W, H), bad_attempts=2),
    Plan(0.1, 20.0, (W, W, W, W, L)),
    Plan(0.1, 60.0, (W,) * 9 + (A,)),
    Plan(2.0, 20.0, pieces=20),
    Plan(1.0, 4.0, (W, W, W, Manner.LAGS)),
)


class Order(NamedTuple):
    """One submit: what is asked for and how it will go."""

    key: str
    submitter: str
    spec: JobSpec
    plan: Plan


def draw_order(
    drawn: random.Random,
    number: int,
    node_ids: list[NodeId],
    job_ids: list[JobId],
    behind: JobId | None = None,
) -> Order:
    """`behind`: a job that it must wait for; else it may wait for one of `job_ids`."""
    plan = drawn.choice(PLANS)
    changes: dict[str, Any] = {
        "type": drawn.choice(("command", "command", "script")),
        "priority": drawn.choice((0, 0, 0, 1, -1)),
        "requests": builders.resources(
            drawn.choice((0, 0.5, 1, 1, 1, 2)),
            drawn.choice((0, 0, builders.GIB // 4)),
            drawn.choice((0, 0, 0, 0, 1)),
        ),
        "tags": drawn.choice(((), (), (), (), ("fast",), TAGS)),
        "max_running": drawn.choice((None, None, None, 1, 2, 3)),
        "max_attempts": drawn.choice((1, 2, 3, 3)),
        "at_most_once": drawn.random() < 0.25,
        "partial": drawn.random() < 0.3,
    }
    if drawn.random() < 0.25:
        changes["chunk"] = drawn.choice((2, 3, AUTO_CHUNK, AUTO_CHUNK))
    if drawn.random() < 0.1:
        changes["max_failures"] = drawn.choice((1, 2))
    if drawn.random() < 0.15:
        changes["duplicates"] = False
    if behind is None and drawn.random() < 0.2 and job_ids:
        behind = drawn.choice(job_ids)
    if behind is not None:
        changes["after"] = (After(behind, drawn.choice(tuple(Condition))),)
    if changes["type"] == "script":
        changes["payload"] = {"source": "true", "interpreter": ["sh"]}
    if Manner.HANGS in plan.manners or drawn.random() < 0.1:
        changes["limits"] = Limits(attempt_seconds=drawn.choice((5.0, 30.0)))
    elif drawn.random() < 0.15:
        changes["limits"] = drawn.choice((
            Limits(queue_seconds=drawn.choice((5.0, 60.0))), Limits(total_seconds=drawn.choice((20.0, 300.0)))
        ))  # fmt: skip
    if drawn.random() < 0.1 and node_ids:
        changes["node"] = drawn.choice(node_ids)
    count = drawn.choice((1, 2, 4, 8, 8, 20, 40)) if plan.longest < 100 else drawn.choice((1, 3, 6))
    inputs = Range(0, count - 1) if drawn.random() < 0.6 else Items(tuple(f"item {n}" for n in range(count)))
    spec = builders.spec(inputs, **changes)
    return Order(f"key-{number}", drawn.choice(SUBMITTERS), spec, plan)
