"""Inputs that a job got after its submit are kept with it, and go with it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from store_rows import job, tasks

from planetmesh.model.job import Counts, Items, JobSpec, TaskState
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.store.changes import Changes, MoreInputs
from planetmesh.store.store import Store

LISTED = JobSpec(type="command", payload={"argv": ["true"]}, inputs=Items(("a",)), linger_seconds=2)


async def test_they_stand_behind_those_of_the_submit_after_a_restart(home: Home):
    store = await Store.open(home)
    known = job(spec=LISTED)
    await store.commit(Changes(jobs=[known]))
    ended = tasks(known, 0, 1, TaskState.COMPLETED)
    more = [MoreInputs(known.id, 1, ("b", "c"))]
    await store.commit(Changes(inputs=more, tasks=ended, counts={known.id: Counts(queued=2, completed=1)}))
    more = [MoreInputs(known.id, 3, ("d",))]
    await store.commit(Changes(inputs=more, counts={known.id: Counts(queued=3, completed=1)}))
    await store.close()
    store = await Store.open(home)
    [found] = (await store.load()).jobs
    assert found.job.spec.inputs == Items(("a", "b", "c", "d"))
    assert found.counts == Counts(queued=3, completed=1)
    assert found.next_index == 1
    stored = await store.job(known.id)
    assert stored is not None
    assert stored.job.spec == found.job.spec
    await store.close()


async def test_they_are_swept_with_their_job(home: Home, store: Store):
    known = job(spec=LISTED, completed_at=2000.0)
    rows = tasks(known, 0, 2, TaskState.COMPLETED)
    counts = {known.id: Counts(completed=2)}
    await store.commit(
        Changes(jobs=[known], inputs=[MoreInputs(known.id, 1, ("b",))], tasks=rows, counts=counts)
    )
    assert (await store.sweep(2001.0 + Settings().keep_jobs_seconds, Settings())).jobs == [known.id]
    with closing(sqlite3.connect(home.database)) as connection:
        assert connection.execute("SELECT count(*) FROM more_inputs").fetchone() == (0,)
