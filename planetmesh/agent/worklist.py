"""What this node has in hand, and what to do next. PURE: the service asks, the runner does.

`next_steps` is a chain of rules; its order is the priority: cancel, then give back, then set slots,
then start. A launcher runs its job's `slots` tasks at once in the order it got them. It is given
more than that only when the job's tasks are so short that a round trip between two would show.

A task with files is fetched first; it takes a slot once they are here. One that has ended well and made
files that are wanted is `leaving` until they are with the coordinator.
"""

from __future__ import annotations

from collections.abc import Iterator

from planetmesh.agent.job_here import Attempt, JobHere, OnLauncher
from planetmesh.agent.steps import (
    Cancelled,
    Close,
    Fetch,
    GiveBack,
    Kill,
    RecallBacklog,
    SetSlots,
    Start,
    Step,
    StopCollect,
    StopFetch,
)
from planetmesh.model.ids import JobId
from planetmesh.model.node import Gpu
from planetmesh.model.resources import Resources
from planetmesh.settings import Settings
from planetmesh.wire.agent import AssignTask, Held, OpenJob

SHORT_SECONDS = 0.05
"""Tasks shorter than this on average are handed over ahead: a round trip is a good part of them."""
LEARN_SHARE = 0.2
"""Weight of the newest task in a job's mean length."""
DRAINING = "the node is draining"


class Worklist:
    """The agent's own state. Only its methods change it."""

    def __init__(self, offer: Resources, gpus: tuple[Gpu, ...], settings: Settings) -> None:
        self.offer = offer
        self.jobs: dict[JobId, JobHere] = {}
        self.draining = False
        self.settings = settings
        self._free_gpus = [gpu.id for gpu in gpus[: offer.gpus]]
        self._arrivals = 0
        self._urgent: list[Step] = []
        """Cancels, then give-backs and closings, in the order they came."""
        self._recalled: set[tuple[JobId, int, int]] = set()
        self._fetches: set[tuple[JobId, int, int]] = set()
        """Attempts whose files are wanted here: those handed out as `Fetch` and not stopped yet."""

    # Questions

    @property
    def running(self) -> int:
        return sum(1 for job in self.jobs.values() for held in job.launched.values() if held.running)

    @property
    def backlog(self) -> int:
        return sum(job.wanted + len(job.fetching) for job in self.jobs.values()) - self.running

    @property
    def is_idle(self) -> bool:
        """Nothing runs, nothing waits, and nothing is on its way."""
        return not self._urgent and all(job.is_idle for job in self.jobs.values())

    def held(self) -> tuple[Held, ...]:
        """Everything in hand, for the hello."""
        return tuple(self._held())

    def _held(self) -> Iterator[Held]:
        for job_id, job in self.jobs.items():
            for task in (*job.waiting.values(), *job.fetching.values()):
                yield Held(job_id, task.index, task.attempt, running=False)
            for each in job.launched.values():
                if not each.silent:
                    yield Held(job_id, each.task.index, each.task.attempt, running=each.running)
            for index, attempt in job.leaving:
                yield Held(job_id, index, attempt, running=True)

    def launched(self, job_id: JobId, index: int, attempt: int) -> OnLauncher | None:
        job = self.jobs.get(job_id)
        return job.launched.get((index, attempt)) if job else None

    # What the coordinator says

    def open_job(self, message: OpenJob) -> None:
        job = self.jobs.get(message.job_id)
        if job is None:
            self.jobs[message.job_id] = JobHere(message)
        else:
            job.opened = message
            job.reopened = job.closing

    def assign(self, task: AssignTask) -> bool:
        """Take a task; a newer attempt replaces an older one. False: its job was never opened."""
        job = self.jobs.get(task.job_id)
        if job is None:
            return False
        if task.attempt <= job.newest(task.index):
            return True
        for (index, _), held in job.launched.items():
            if index == task.index:
                self._silence(task.job_id, held, "a newer attempt came")
        for index, attempt in list(job.leaving):
            if index == task.index:
                self._stop_leaving(task.job_id, index, attempt)
        self._recalled.discard((task.job_id, task.index, task.attempt))
        if job.needs_files(task):
            job.waiting.pop(task.index, None)
            job.arrivals.pop(task.index, None)
            job.fetching[task.index] = task
        else:
            self._wait(job, task)
        return True

    def cancel(self, job_id: JobId, index: int, attempt: int) -> None:
        """Answered by the attempt's end: at once if it has not been handed to a launcher."""
        held = self.launched(job_id, index, attempt)
        if held is not None:
            self._stop(job_id, held, "cancelled")
            return
        was_leaving = self._stop_leaving(job_id, index, attempt) is not None
        self._forget_waiting(job_id, index, attempt)
        self._urgent.append(Cancelled(job_id, index, attempt, was_leaving))

    def recall(self, tasks: tuple[Held, ...]) -> None:
        """Give these back unless they have started."""
        for each in tasks:
            task = self._forget_waiting(each.job_id, each.index, each.attempt)
            if task:
                self._urgent.append(GiveBack(task, self._reason))
                continue
            held = self.launched(each.job_id, each.index, each.attempt)
            if held and not held.running:
                self._recalled.add((each.job_id, each.index, each.attempt))
                self._ask_for_backlog(each.job_id)

    def drain(self, *, on: bool, now: bool = False) -> None:
        """Give back what has not started; with `now` stop what has."""
        self.draining = on
        if not on:
            return
        self.recall(tuple(held for held in self.held() if not held.running))
        for job_id, job in self.jobs.items():
            for each in job.launched.values():
                if now and each.running:
                    self._stop(job_id, each, DRAINING)
            for index, attempt in list(job.leaving) if now else ():
                left = self._stop_leaving(job_id, index, attempt)
                if left:
                    self._urgent.append(GiveBack(left.task, DRAINING, started=True))

    def drop(self, tasks: tuple[Held, ...]) -> None:
        """These are no longer ours: stop them and say nothing."""
        for each in tasks:
            self._forget_waiting(each.job_id, each.index, each.attempt)
            self._stop_leaving(each.job_id, each.index, each.attempt)
            held = self.launched(each.job_id, each.index, each.attempt)
            if held:
                self._silence(each.job_id, held, "given to another node")

    def close_unused(self) -> None:
        """On a new link, after `drop`: the end of a job of which nothing is ours may have gone unheard."""
        for job_id, job in self.jobs.items():
            if job.is_unwanted:
                self.close_job(job_id)

    def close_job(self, job_id: JobId) -> None:
        """The job is over. What it uses stays counted until `on_closed`."""
        job = self.jobs.get(job_id)
        if job is None:
            return
        job.reopened = False
        self.take_waiting(job_id)
        for index, attempt in list(job.leaving):
            self._stop_leaving(job_id, index, attempt)
        if job.closing:
            return
        job.closing = True
        for held in job.launched.values():
            held.silent = True
        self._urgent.append(Close(job_id))

    # What the launchers say

    def on_started(self, job_id: JobId, index: int, attempt: int) -> bool:
        """False: not ours any more, so do not report it."""
        held = self.launched(job_id, index, attempt)
        if held is None:
            return False
        held.running = True
        self._recalled.discard((job_id, index, attempt))
        return not held.silent

    def on_ended(
        self, job_id: JobId, index: int, attempt: int, wall_seconds: float, *, leaves: bool = False
    ) -> OnLauncher | None:
        """Take an attempt off the list; None if it was not on it.

        `leaves`: what it made is still to be brought to the coordinator; `on_left` says that it was.
        """
        job = self.jobs.get(job_id)
        held = job.launched.pop((index, attempt), None) if job else None
        if job is None or held is None:
            return None
        self._free_gpus += held.gpus
        self._recalled.discard((job_id, index, attempt))
        if held.running and not held.stopped:
            old = job.mean_seconds
            job.mean_seconds = wall_seconds if old is None else old + LEARN_SHARE * (wall_seconds - old)
        if leaves and not held.silent:
            job.leaving[index, attempt] = held
        return held

    def on_left(self, job_id: JobId, index: int, attempt: int) -> OnLauncher | None:
        """What it made is with the coordinator, or cannot be brought there; None: not ours any more."""
        job = self.jobs.get(job_id)
        return job.leaving.pop((index, attempt), None) if job else None

    def on_fetched(self, job_id: JobId, index: int, attempt: int) -> None:
        """All files of a task are here."""
        job = self.jobs.get(job_id)
        task = job.fetching.get(index) if job else None
        if job is not None and task is not None and task.attempt == attempt:
            del job.fetching[index]
            self._wait(job, task)

    def on_fetch_failed(self, job_id: JobId, index: int, attempt: int) -> AssignTask | None:
        """They cannot be brought here: the task, taken off the list; None if it is not ours any more."""
        return self._forget_waiting(job_id, index, attempt)

    def on_recalled(self, job_id: JobId, attempts: list[Attempt]) -> None:
        """The launcher gave back its backlog: what was asked for goes on, the rest waits here again."""
        job = self.jobs.get(job_id)
        if job is None:
            return
        job.recalling = False
        back = set(attempts)
        for index, attempt in [key for key in job.launched if key in back]:
            held = job.launched.pop((index, attempt))
            self._free_gpus += held.gpus
            if held.silent:
                continue
            if held.stopped:
                self._urgent.append(Cancelled(job_id, index, attempt))
            elif (job_id, index, attempt) in self._recalled:
                self._urgent.append(GiveBack(held.task, self._reason))
            else:
                self._wait(job, held.task)
            self._recalled.discard((job_id, index, attempt))

    def on_launcher_gone(self, job_id: JobId) -> tuple[OnLauncher, ...]:
        """Take off what the job's launcher may have been running and return it; the rest waits again.

        A start is told a moment late, so the tasks whose turn it was count as started; if they may run
        only once, all that was handed over does.
        """
        job = self.jobs.get(job_id)
        if job is None:
            return ()
        if job.closing:
            self._free_gpus += [gpu for held in job.launched.values() for gpu in held.gpus]
            if job.reopened:
                self.jobs[job_id] = JobHere(
                    job.opened, waiting=job.waiting, arrivals=job.arrivals, fetching=job.fetching
                )
            else:
                del self.jobs[job_id]
            return ()
        handed = list(job.launched.items())
        turn = len(handed) if job.opened.at_most_once else job.slots
        begun = dict(handed[:turn]) | {key: held for key, held in handed if held.running}
        self.on_recalled(job_id, [key for key, _held in handed if key not in begun])
        lost = tuple(begun.values())
        for held in lost:
            self._free_gpus += held.gpus
        job.launched.clear()
        job.slots = 0
        return lost

    def on_open_failed(self, job_id: JobId) -> tuple[OnLauncher, ...]:
        """No launcher came to stand: everything that was handed to it, taken off the list."""
        job = self.jobs.get(job_id)
        if job is None:
            return ()
        failed = tuple(job.launched.values())
        for held in failed:
            self._free_gpus += held.gpus
        job.launched.clear()
        job.slots = 0
        job.recalling = False
        return failed

    def take_waiting(self, job_id: JobId) -> tuple[AssignTask, ...]:
        """Everything of a job that waits here, taken off the list: nothing of it can be started."""
        job = self.jobs.get(job_id)
        if job is None:
            return ()
        taken = (*job.waiting.values(), *job.fetching.values())
        job.waiting.clear()
        job.fetching.clear()
        job.arrivals.clear()
        return taken

    # What to do next

    def next_steps(self) -> list[Step]:
        """All that can be done now, most urgent first. Each step is taken off as it is handed out."""
        steps = sorted(self._urgent, key=lambda step: not isinstance(step, Kill))
        self._urgent = []
        steps += self._return_waiting()
        shared = self._share_out()
        if shared:
            # What was given up the first time is given out the second: nothing else may come to ask again.
            shared += self._share_out()
        steps += shared
        return steps + self._start_pending() + self._change_fetches()

    def _change_fetches(self) -> list[Step]:
        """Bring what is waited for; let go of what nobody needs any more, for whatever reason."""
        steps: list[Step] = []
        for job_id, index, attempt in sorted(self._fetches):
            job = self.jobs.get(job_id)
            if job is None or not job.has(index, attempt):
                self._fetches.discard((job_id, index, attempt))
                steps.append(StopFetch(job_id, index, attempt))
        for job_id, job in self.jobs.items():
            for task in job.fetching.values():
                key = (job_id, task.index, task.attempt)
                if key not in self._fetches:
                    self._fetches.add(key)
                    steps.append(Fetch(task))
        return steps

    def _return_waiting(self) -> list[Step]:
        """What cannot be started here, because nothing may be or because it never fits."""
        steps: list[Step] = []
        for job_id, job in self.jobs.items():
            fits = job.share.fits_in(self.offer)
            if self.draining or not fits:
                reason = self._reason if fits else "it asks for more than this node offers"
                steps += [GiveBack(task, reason) for task in self.take_waiting(job_id)]
        return steps

    def _share_out(self) -> list[Step]:
        """Fit every job's slots to what it wants and to what the others use."""
        steps: list[Step] = []
        fair = self._fair_slots()
        free = self.offer
        for job in self.jobs.values():
            free -= job.share.times(job.occupied)
        for job_id, job in self._by_age():
            occupied, target = job.occupied, fair[job_id]
            more = max(0, min(target - occupied, job.share.how_often_in(free), job.wanted - occupied))
            free -= job.share.times(more)
            slots = min(target, occupied + more)
            if slots != job.slots and job.wanted and not job.closing:
                job.slots = slots
                steps.append(SetSlots(job_id, slots))
        return steps

    def _fair_slots(self) -> dict[JobId, int]:
        """One slot for each job in turn while they fit, the one that waited longest first."""
        slots = dict.fromkeys(self.jobs, 0)
        ordered = [(job_id, job) for job_id, job in self._by_age() if job.wanted and not job.closing]
        left = self.offer
        while ordered:
            still = []
            for job_id, job in ordered:
                if slots[job_id] < job.wanted and job.share.fits_in(left):
                    left -= job.share
                    slots[job_id] += 1
                    still.append((job_id, job))
            ordered = still
        return slots

    def _by_age(self) -> list[tuple[JobId, JobHere]]:
        return sorted(self.jobs.items(), key=lambda each: each[1].oldest)

    def _start_pending(self) -> list[Step]:
        steps: list[Step] = []
        for job in self.jobs.values():
            if job.recalling or job.closing:
                continue
            room = job.slots + self._ahead(job) - len(job.launched)
            for task in list(job.waiting.values())[: max(0, room)]:
                gpus = self._take_gpus(job.opened.requests.gpus)
                if gpus is None:
                    break
                del job.waiting[task.index], job.arrivals[task.index]
                job.launched[task.index, task.attempt] = OnLauncher(task, gpus)
                steps.append(Start(task, gpus))
        return steps

    def _ahead(self, job: JobHere) -> int:
        """How many starts the launcher may hold beyond its slots. A GPU is lent at the start: none ahead."""
        short = job.mean_seconds is not None and job.mean_seconds < SHORT_SECONDS
        return self.settings.prefill_most if short and job.slots and not job.opened.requests.gpus else 0

    def _take_gpus(self, count: int) -> tuple[str, ...] | None:
        if count > len(self._free_gpus):
            return None
        taken = tuple(self._free_gpus[:count])
        del self._free_gpus[:count]
        return taken

    # Small changes

    @property
    def _reason(self) -> str:
        return DRAINING if self.draining else "recalled"

    def _wait(self, job: JobHere, task: AssignTask) -> None:
        self._arrivals += 1
        job.waiting.pop(task.index, None)
        job.arrivals.pop(task.index, None)
        job.waiting[task.index] = task
        job.arrivals[task.index] = self._arrivals

    def _forget_waiting(self, job_id: JobId, index: int, attempt: int) -> AssignTask | None:
        """Take one that is not handed over off the list, whether its files are here or not."""
        job = self.jobs.get(job_id)
        for tasks in (job.waiting, job.fetching) if job else ():
            task = tasks.get(index)
            if job is not None and task is not None and task.attempt == attempt:
                job.arrivals.pop(index, None)
                return tasks.pop(index)
        return None

    def _stop_leaving(self, job_id: JobId, index: int, attempt: int) -> OnLauncher | None:
        """One that has ended and whose files are on their way, taken off the list."""
        left = self.on_left(job_id, index, attempt)
        if left is not None:
            self._urgent.append(StopCollect(job_id, index, attempt))
        return left

    def _stop(self, job_id: JobId, held: OnLauncher, why: str) -> None:
        if not held.stopped:
            held.stopped = why
            self._urgent.append(Kill(job_id, held.task.index, held.task.attempt))

    def _silence(self, job_id: JobId, held: OnLauncher, why: str) -> None:
        held.silent = True
        self._stop(job_id, held, why)

    def _ask_for_backlog(self, job_id: JobId) -> None:
        job = self.jobs[job_id]
        if not job.recalling:
            job.recalling = True
            self._urgent.append(RecallBacklog(job_id, len(job.launched)))
