"""The coordinator's machine: the real engine, links, ticks and store code, on simulated disk and time."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from sim_disk import SimDatabase, SimDisk
from sim_network import End
from sim_time import Machine

from planetmesh.coordinator import ticks
from planetmesh.coordinator.agent_link import AgentLink
from planetmesh.coordinator.api.call import Parts
from planetmesh.coordinator.engine import Answer, Engine, Happening
from planetmesh.coordinator.turn import Turn
from planetmesh.errors import IllegalMove, MeshError, NotAllowed, StorageFailed
from planetmesh.groups import TaskGroup
from planetmesh.mesh import effects as fx
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.identity import Principal, Role
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Task, TaskState
from planetmesh.store.changes import Changes
from planetmesh.store.jobs import read_job
from planetmesh.store.outputs import Outputs
from planetmesh.store.pieces import pieces_after
from planetmesh.store.schema import MESH, OUTPUTS
from planetmesh.store.store import Store
from planetmesh.store.tasks import list_tasks
from planetmesh.wire.agent import AssignTask

if TYPE_CHECKING:
    from sim_world import World

ENDS = (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


class SimEngine(Engine):
    """The engine, with somebody who looks at all it does."""

    world: World

    def post(
        self,
        happening: Happening,
        answer: Answer | None = None,
        also: Changes | None = None,
        *,
        can_wait: bool = False,
    ) -> None:
        def watched(state: MeshState, now: Moment) -> fx.Effects:
            try:
                return happening(state, now)
            except IllegalMove as error:
                self.world.truth.fail_by(error)
                raise
            except MeshError:
                raise
            except Exception as error:
                self.world.truth.fail_by(error)
                raise

        super().post(watched, answer, also, can_wait=can_wait)

    def _schedule(self, turn: Turn, now: Moment) -> None:
        super()._schedule(turn, now)
        self.world.truth.on_decided(self.state, turn)

    def _let_out(self, turn: Turn) -> None:
        for node_id, messages in turn.sends.items():
            for message in messages:
                if isinstance(message, AssignTask):
                    key = (message.job_id, message.index, message.attempt)
                    self.world.truth.on_sent(node_id, key)
        super()._let_out(turn)

    async def _storage_failed(
        self, error: StorageFailed, answers: list[tuple[Answer, Exception | None]]
    ) -> None:
        self.world.note("the coordinator's disk refuses a commit")
        await super()._storage_failed(error, answers)
        self.world.coordinator.check_loaded(self)


class SimStore(Store):
    world: World

    async def commit(self, changes: Changes) -> None:
        self.world.coordinator.database.on_written = partial(self.world.truth.on_commit, changes)
        await super().commit(changes)


class Coordinator(Machine):
    """One machine for the whole run; its process and its power come and go."""

    def __init__(self, world: World) -> None:
        super().__init__(world.timeline, "coordinator", f"{world.seed}/coordinator")
        self.world = world
        self.disk = SimDisk(f"{world.seed}/disk")
        self.database = SimDatabase(self.disk, MESH)
        self._outputs = SimDatabase(self.disk, OUTPUTS)
        self.engine: SimEngine | None = None
        """While it is up and has read its disk."""
        self.parts: Parts
        """What the API's handlers share; they use nothing but these in here."""

    def start(self) -> None:
        if self.loop is None and self not in self.world.network.off:
            self.world.note("the coordinator starts")
            self.boot(self._main())

    def stop(self) -> None:
        """`kill -9`."""
        if self.loop is not None:
            self.world.network.crash(self)
            self._die()

    def cut_power(self) -> None:
        self.world.network.off.add(self)
        self._die()

    def _die(self) -> None:
        self.engine = None
        self.world.truth.on_nobody_is_answered()
        self.halt()

    async def _main(self) -> None:
        store = SimStore(self.database)  # type: ignore[arg-type]
        store.world = self.world
        settings = self.world.settings
        engine = SimEngine(settings, store, Outputs(self._outputs, settings), self.random.random)  # type: ignore[arg-type]
        engine.world = self.world
        await engine.load()
        self.check_loaded(engine)
        self.parts = Parts(engine, None, None, None, None)  # type: ignore[arg-type]
        self.engine = engine
        try:
            async with TaskGroup() as group:
                group.create_task(engine.run())
                group.create_task(ticks.tick(engine))
        except BaseException as error:
            self.world.truth.fail_by(error)
            raise

    def check_loaded(self, engine: SimEngine) -> None:
        self.world.truth.on_loaded(engine.state, self.rows())

    def rows(self) -> list[Task]:
        """All tasks of all jobs that are on the disk."""

        def look(connection: object) -> list[Task]:
            ids = [row[0] for row in connection.execute("SELECT id FROM jobs ORDER BY number")]  # type: ignore[attr-defined]
            return [
                task
                for job_id in ids
                for task in list_tasks(connection, job_id, 0, 10_000, None)  # type: ignore[arg-type]
            ]

        return self.database.look(look)  # type: ignore[no-any-return]

    def verify_ends(self) -> None:
        """All jobs on the disk: each task has one end, the counters say the same, the output is whole."""
        fail = self.world.truth.fail
        rows: dict[JobId, list[Task]] = {}
        for task in self.rows():
            rows.setdefault(task.job_id, []).append(task)
        for job_id in self.world.truth.acknowledged - rows.keys():
            fail(f"{job_id} was acknowledged and is not there")
        for job_id, tasks in rows.items():
            stored = self.database.look(partial(read_job, job_id=job_id))
            counts, spec = stored.summary.counts, stored.job.spec
            covered = [each for task in tasks for each in range(task.index, task.index + task.width)]
            if covered != list(range(spec.task_count)):
                fail(f"{job_id} has the tasks {[task.index for task in tasks]}")
            seen: Counter[TaskState] = Counter()
            for task in tasks:
                seen[task.state] += task.width
            told = (counts.completed, counts.failed, counts.cancelled, counts.live)
            if told != (*(seen[state] for state in ENDS), 0):
                fail(f"{job_id} counts {counts}, its tasks are {seen}")
            self.world.truth.compare_job(self.world.truth.job_rows[job_id], stored.job)
            if stored.job.completed_at is None:
                fail(f"{job_id} has not ended")
            for task in tasks:
                self._verify_output(task)

    def _verify_output(self, task: Task) -> None:
        if task.state is not TaskState.COMPLETED:
            return
        pieces = self._outputs.look(
            lambda connection: pieces_after(connection, task.job_id, 0, task.index, 2**20)
        )
        size = sum(len(piece.data) for piece in pieces if piece.attempt == task.attempt)
        wanted = 10 * self.world.pieces(task.job_id)
        if size != wanted:
            self.world.truth.fail(f"of the output of {task} {size} bytes are there instead of {wanted}")

    # Links

    def accept(self, node_id: NodeId, end: End) -> None:
        """A connection with a certificate that counts."""
        engine = self.engine
        assert engine is not None
        principal = Principal("mesh", Role.AGENT, node_id, "serial", 1e12)

        def still_allowed() -> None:
            if node_id in self.world.revoked:
                raise NotAllowed("This certificate was revoked.")

        async def serve() -> None:
            try:
                await AgentLink(engine, principal, end, "home", end.hang_up).serve(still_allowed)  # type: ignore[arg-type]
            finally:
                end.hang_up()

        self.begin(serve())
