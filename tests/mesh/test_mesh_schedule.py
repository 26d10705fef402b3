"""Who gets what: priority, turns, room, backlog, machines that failed, starvation, and the cost of a pass."""

from __future__ import annotations

from collections import Counter

import builders
import pytest
from transcript import Transcript

from planetmesh.mesh import fitness, reactor, schedule
from planetmesh.model.job import Outcome
from planetmesh.settings import Settings


def order(mesh: Transcript, most: int = 10_000) -> str:
    """Names of the jobs in the order in which a pass places them."""
    placed = mesh.place(most)
    mesh.skip()
    return "".join(placement.job_id[0] for placement in placed)


def finish(mesh: Transcript, node: str, wall_seconds: float = 100.0) -> str:
    """The node's oldest task ends well; returns its job."""
    job_id, index = next(iter(mesh.node(node).held))
    mesh.end(node, job_id[0], index, mesh.task(job_id[0], index).attempt, wall_seconds=wall_seconds)
    mesh.skip()
    return job_id[0]


def follow(mesh: Transcript, node: str, rounds: int, wall_seconds: float = 100.0) -> str:
    """Which jobs get the node while one task after the other ends there."""
    served = ""
    for _ in range(rounds):
        finish(mesh, node, wall_seconds)
        mesh.pass_time(wall_seconds)
        mesh.hear(*[live.node.name for live in mesh.state.nodes.values() if live.connected])
        served += order(mesh)
    return served


class TestOrder:
    def test_priority_first(self, mesh: Transcript):
        mesh.join("desk", 4)
        mesh.submit("a", 2)
        mesh.submit("b", 2, priority=5)
        mesh.submit("c", 2, priority=-1)
        assert order(mesh) == "bbaa"

    def test_then_jobs_in_turn(self, mesh: Transcript):
        mesh.join("desk", 6)
        for name in "abc":
            mesh.submit(name, 9)
        assert order(mesh) == "abcabc"

    def test_jobs_of_different_kinds_take_turns_too(self, mesh: Transcript):
        mesh.join("desk", 1)
        mesh.submit("a", 99)
        mesh.submit("b", 99, type="script")
        mesh.submit("c", 99, requests=builders.resources(0.9))
        assert order(mesh) == "a"
        assert follow(mesh, "desk", 9) == "bcabcabca"

    def test_a_late_job_waits_for_one_turn_not_for_the_whole_queue(self, mesh: Transcript):
        mesh.join("desk", 1)
        mesh.submit("a", 99)
        mesh.submit("b", 99)
        order(mesh)
        follow(mesh, "desk", 5)
        mesh.submit("c")
        assert "c" in follow(mesh, "desk", 3)

    def test_a_lower_priority_gets_what_the_higher_cannot_use(self, mesh: Transcript):
        mesh.join("desk", 2)
        mesh.submit("a", 9, priority=9, tags=("gpu",))
        mesh.submit("b", 9, priority=9, max_running=1)
        mesh.submit("c", 9)
        assert order(mesh) == "bc"


class TestRoom:
    def test_max_running(self, mesh: Transcript):
        mesh.join("desk", 8)
        mesh.submit("a", 9, max_running=2)
        assert order(mesh) == "aa"
        finish(mesh, "desk")
        assert order(mesh) == "a"
        assert mesh.job("a").counts.assigned == 2

    def test_each_resource_counts(self, mesh: Transcript):
        mesh.join("desk", 8, offer=builders.resources(8, 4 * builders.GIB, 1))
        mesh.submit("a", 9, requests=builders.resources(1, 0, 1))
        mesh.submit("b", 9, requests=builders.resources(1, 2 * builders.GIB))
        mesh.submit("c", 9, requests=builders.resources(3))
        assert Counter(order(mesh)) == {"a": 1, "b": 2, "c": 1}

    def test_tasks_that_ask_for_nothing_are_bounded_all_the_same(self, monkeypatch, mesh: Transcript):
        monkeypatch.setattr(fitness, "HELD_MOST", 20)
        mesh.join("desk")
        mesh.submit("a", 100, requests=builders.resources(0))
        assert len(order(mesh)) == 20

    def test_the_cheapest_node_is_chosen_and_says_why(self, mesh: Transcript):
        mesh.join("far")
        mesh.join("near")
        mesh.node("far").rtt_seconds = 0.050
        mesh.node("near").rtt_seconds = 0.001
        mesh.submit("a")
        (placement,) = mesh.place()
        assert placement.node_id == builders.node_id("near")
        assert 0 < placement.terms.rtt < 0.1
        assert placement.terms.cost == pytest.approx(placement.terms.rtt)
        mesh.skip()

    def test_work_is_spread_before_it_is_piled_up(self, mesh: Transcript):
        for name in ("m1", "m2", "m3"):
            mesh.join(name, 2)
        mesh.submit("a", 6)
        order(mesh)
        assert [len(live.held) for live in mesh.state.nodes.values()] == [2, 2, 2]


class TestBacklog:
    def known(self, mesh: Transcript, wall_seconds: float, cpus: float = 1) -> None:
        """`desk` knows how long a task of `a` takes."""
        mesh.join("desk", cpus)
        mesh.submit("a", 100_000)
        order(mesh)
        finish(mesh, "desk", wall_seconds)
        mesh.skip()

    def test_none_where_the_settings_say_so(self):
        """Not even tasks so small that more of them could run at a time than the node has in hand."""
        mesh = Transcript(Settings(prefill_most=0))
        self.known(mesh, 0.001, cpus=4)
        mesh.submit("b", requests=builders.resources(0.5))
        assert order(mesh) == "a"
        assert mesh.node("desk").used == builders.resources(4)
        mesh.state.jobs[builders.job_id("b")].mean_seconds = 0.001
        assert order(mesh) == ""

    def test_none_before_the_length_is_known(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", 100)
        assert order(mesh) == "a"

    @pytest.mark.parametrize(
        ("wall_seconds", "in_hand"), [(0.05, 5), (0.1, 2), (0.125, 2), (0.2, 1), (0.0, 65), (0.001, 65)]
    )
    def test_bounded_in_seconds_of_work_and_in_tasks(self, mesh: Transcript, wall_seconds, in_hand):
        self.known(mesh, wall_seconds)
        order(mesh)
        assert len(mesh.node("desk").held) == in_hand

    def test_grows_with_the_slots(self, mesh: Transcript):
        self.known(mesh, 0.05, cpus=4)
        order(mesh)
        assert len(mesh.node("desk").held) == 20

    def test_nobody_stands_behind_a_task_of_unknown_length(self, mesh: Transcript):
        self.known(mesh, 0.001, cpus=2)
        mesh.submit("b")
        assert order(mesh) == "a"
        assert follow(mesh, "desk", 1, 0.001) == "b"
        assert follow(mesh, "desk", 1, 0.001) == "a"
        assert mesh.node("desk").held_by_job == {builders.job_id("a"): 1, builders.job_id("b"): 1}

    @pytest.mark.parametrize("changes", [{}, {"type": "script"}, {"priority": 3}])
    def test_short_tasks_do_not_keep_a_new_job_out(self, mesh: Transcript, changes):
        self.known(mesh, 0.001)
        order(mesh)
        assert len(mesh.node("desk").held) == 65
        mesh.submit("b", **changes)
        served = follow(mesh, "desk", 67, 0.001)
        assert "b" in served
        assert served.index("b") <= 2

    def test_backlog_of_less_priority_does_not_keep_a_higher_one_waiting(self, mesh: Transcript):
        self.known(mesh, 0.001)
        mesh.submit("b", 3, priority=1)
        order(mesh)
        served = follow(mesh, "desk", 3)
        assert served.startswith("bb")

    def test_short_jobs_share_the_backlog(self, mesh: Transcript):
        self.known(mesh, 0.001)
        mesh.submit("b", 100_000)
        order(mesh)
        follow(mesh, "desk", 3, 0.001)
        order(mesh)
        held = mesh.node("desk").held_by_job
        assert abs(held[builders.job_id("a")] - held[builders.job_id("b")]) <= 1
        assert sum(held.values()) == 65


class TestBarred:
    def fail_on(self, mesh: Transcript, node: str, index: int, attempt: int = 1) -> None:
        mesh.end(node, "a", index, attempt, outcome=Outcome.EXIT_CODE)
        mesh.pass_time(2.0)
        mesh.hear(*[live.node.name for live in mesh.state.nodes.values() if live.connected])
        mesh.wait(0)

    def test_a_barred_task_does_not_hold_up_the_others(self, mesh: Transcript):
        mesh.join("desk", 1)
        mesh.join("nas", 1)
        mesh.submit("a", 4)
        order(mesh)
        self.fail_on(mesh, "desk", 0)
        assert order(mesh) == "a"
        assert mesh.where() == {"desk": "a/2", "nas": "a/1"}

    def test_many_barred_tasks_do_not_hold_up_the_others(self, mesh: Transcript):
        """Twenty tasks failed on `desk` and wait for the busy `nas`; the twenty-first ran on `nas`."""
        mesh.join("desk", 20)
        mesh.submit("a", 21, max_attempts=5)
        order(mesh)
        mesh.join("nas", 1)
        order(mesh)
        for index in range(20):
            self.fail_on(mesh, "desk", index)
        self.fail_on(mesh, "nas", 20)
        mesh.submit("b", 9, priority=9, node=builders.node_id("nas"))
        order(mesh)
        assert mesh.where() == {"desk": "a/20", "nas": "b/0"}
        mesh.skip()

    def test_a_job_barred_from_the_free_node_leaves_it_to_the_next_job(self, mesh: Transcript):
        mesh.join("desk", 1)
        mesh.join("nas", 1)
        mesh.submit("b", 1, node=builders.node_id("nas"))
        mesh.submit("a", 1)
        order(mesh)
        self.fail_on(mesh, "desk", 0)
        mesh.submit("c", 1)
        order(mesh)
        assert mesh.where() == {"desk": "c/0", "nas": "b/0"}
        finish(mesh, "nas")
        order(mesh)
        assert mesh.where()["nas"] == "a/0"

    def test_the_only_machine_is_tried_again(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a")
        order(mesh)
        self.fail_on(mesh, "desk", 0)
        assert order(mesh) == "a"

    def test_a_machine_that_is_away_does_not_count_as_another(self, mesh: Transcript):
        mesh.join("desk")
        mesh.join("nas")
        mesh.cut("nas")
        mesh.submit("a")
        order(mesh)
        self.fail_on(mesh, "desk", 0)
        assert order(mesh) == "a"


class TestStarvation:
    def test_a_large_task_gets_a_node_in_the_end(self, mesh: Transcript):
        mesh.join("desk", 2)
        mesh.submit("a", 10_000)
        order(mesh)
        mesh.submit("b", requests=builders.resources(2))
        served = follow(mesh, "desk", 40, 4.0)
        assert served.count("b") == 1
        assert served.index("b") < 12

    def test_and_the_small_ones_go_on_before_and_after(self, mesh: Transcript):
        mesh.join("desk", 2)
        mesh.submit("a", 10_000)
        order(mesh)
        mesh.submit("b", 50, requests=builders.resources(2))
        served = Counter(follow(mesh, "desk", 200, 4.0))
        assert served["b"] >= 8
        assert served["a"] > 100

    def test_only_one_of_many_nodes_is_kept_free(self, mesh: Transcript):
        for name in ("m1", "m2", "m3"):
            mesh.join(name, 2)
        mesh.submit("a", 10_000)
        order(mesh)
        mesh.submit("b", requests=builders.resources(2))
        order(mesh)
        mesh.pass_time(schedule.STARVED_SECONDS)
        mesh.hear("m1", "m2", "m3")
        for name in ("m1", "m2", "m3"):
            finish(mesh, name)
        assert order(mesh) == "aa"
        kept = [live.node.name for live in mesh.state.nodes.values() if len(live.held) == 1]
        finish(mesh, kept[0])
        assert order(mesh) == "b"

    def test_a_higher_priority_ignores_what_is_kept_for_a_lower(self, mesh: Transcript):
        mesh.join("desk", 2)
        mesh.submit("a", 2)
        order(mesh)
        mesh.submit("b", requests=builders.resources(2))
        order(mesh)
        mesh.pass_time(schedule.STARVED_SECONDS)
        mesh.hear("desk")
        mesh.submit("c", priority=1)
        finish(mesh, "desk")
        assert order(mesh) == "c"

    def test_nothing_is_kept_for_what_can_never_run(self, mesh: Transcript):
        mesh.join("desk", 2)
        mesh.submit("b", 5, requests=builders.resources(3))
        mesh.submit("a", 10_000)
        order(mesh)
        mesh.pass_time(100.0)
        mesh.hear("desk")
        assert follow(mesh, "desk", 3) == "aaa"


class TestCost:
    """Counted, not timed: how often nodes are asked for room."""

    @pytest.fixture
    def asked(self, monkeypatch) -> Counter[str]:
        counter: Counter[str] = Counter()
        for module, name in [(fitness, "has_slot"), (fitness, "objection"), (fitness, "has_backlog_room")]:
            original = getattr(module, name)

            def counted(*args, _original=original, _name=name):
                counter[_name] += 1
                return _original(*args)

            monkeypatch.setattr(module, name, counted)
        return counter

    @pytest.mark.parametrize("count", [50, 1_500])  # one look at each in each pass would be 30 000
    @pytest.mark.parametrize("kind", ["plain", "capped", "barred"])
    def test_a_placement_costs_the_same_whatever_the_queue(self, asked, count: int, kind: str):
        mesh = Transcript()
        names = [f"{number:05d}" for number in range(count)]
        mesh.join("desk", count if kind != "plain" else 1)
        for name in names:
            mesh.submit(name, 2 if kind == "capped" else 1, max_running=1 if kind == "capped" else None)
        mesh.skip()
        if kind != "plain":
            mesh.place(count)
        if kind == "barred":
            for live in list(mesh.state.jobs.values()):
                mesh.end("desk", live.job.id, outcome=Outcome.EXIT_CODE)
            mesh.join("nas", 1)
            mesh.pass_time(2.0)
            mesh.hear("desk", "nas")
            mesh.wait(0)
        mesh.submit("zz", 500)
        mesh.join("free", 1)
        mesh.skip()
        asked.clear()
        placed = 0
        for _ in range(20):
            placed += len(mesh.place())
            mesh.skip()
            key = next(iter(mesh.node("free").held))
            mesh.end("free", key[0], key[1], mesh.state.jobs[key[0]].tasks[key[1]].attempt, wall_seconds=9.0)
            mesh.skip()
        assert placed >= 20
        assert sum(asked.values()) < 20 * placed

    def test_a_pass_with_nothing_free_asks_each_node_once_for_each_kind(self, asked):
        mesh = Transcript()
        for name in ("m1", "m2"):
            mesh.join(name, 1)
        for number in range(1_500):
            mesh.submit(f"{number:05d}", type="command" if number % 2 else "script")
        mesh.place()
        mesh.skip()
        asked.clear()
        assert mesh.place() == []
        assert asked["has_slot"] <= 4
        assert asked["objection"] <= 4

    def test_ended_jobs_leave_the_lines_without_a_search(self):
        mesh = Transcript()
        for number in range(1000):
            mesh.submit(f"{number:05d}")
        mesh.skip()
        for number in range(1000):
            mesh.cancel(f"{number:05d}")
        mesh.skip()
        assert not mesh.state.queue
        assert not mesh.state.waiting()


class TestCutShort:
    def test_the_next_pass_goes_on_where_the_last_one_stopped(self, mesh: Transcript):
        """A thousand kinds that fit nowhere do not hide the one that does, however short a pass is."""
        mesh.join("desk")
        for number in range(1000):
            mesh.submit(f"{number:05d}", tags=(f"t{number}",))
        mesh.submit("a")
        mesh.skip()
        for _ in range(1000):
            if self.short_pass(mesh):
                break
        else:
            raise AssertionError("never placed")
        mesh.skip()
        assert mesh.where() == {"desk": "a/0"}

    def short_pass(self, mesh: Transcript) -> int:
        """A pass whose time is over after two questions."""
        answers, count = iter([True, False]), 0
        for placement in schedule.placements(mesh.state, mesh.now.steady, lambda: next(answers, False)):
            mesh.take(reactor.on_placed(mesh.state, placement, mesh.now))
            count += 1
        return count

    def test_what_was_left_is_placed_later(self, mesh: Transcript):
        mesh.join("desk", 5)
        mesh.submit("a", 3)
        mesh.submit("b", 3)
        assert order(mesh, 2) == "ab"
        assert order(mesh, 2) == "ab"
        assert order(mesh) == "a"


def test_the_same_seed_gives_the_same_schedule():
    def run(seed: int) -> list[tuple[str, int, str]]:
        mesh = Transcript(Settings(), seed)
        for number in range(5):
            mesh.join(f"m{number}", 2)
        for name in "abcd":
            mesh.submit(name, 20)
        story = []
        for step in range(40):
            placed = mesh.place()
            story += [(each.job_id, each.index, each.node_id) for each in placed]
            for number in range(5):
                held = list(mesh.node(f"m{number}").held)
                for job_id, index in held[: 1 + step % 2]:
                    outcome = Outcome.OK if (index + step) % 3 else Outcome.EXIT_CODE
                    attempt = mesh.state.jobs[job_id].tasks[index].attempt
                    mesh.end(f"m{number}", job_id[0], index, attempt, outcome, wall_seconds=1.0)
            mesh.hear(*[f"m{number}" for number in range(5)])
            mesh.wait(1.0)
            mesh.skip()
        return story

    assert run(1) == run(1)
    assert len(run(1)) > 80
    assert run(1) != run(2)
