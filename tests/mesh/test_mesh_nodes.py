"""The reactor by transcript: nodes that join, fall silent, leave, come back, drain and go for good."""

from __future__ import annotations

import builders
import msgspec
import pytest
from transcript import Transcript

from planetmesh.mesh import fitness, nodes
from planetmesh.mesh.nodes import PREFILL_PAUSE_SECONDS
from planetmesh.model.job import TaskState
from planetmesh.model.node import NodeLoad, NodeState
from planetmesh.settings import Weights
from planetmesh.wire.agent import Registered


def test_enrolled_then_joined(mesh: Transcript):
    mesh.join("desk")
    mesh.expect("""
        save node desk OFFLINE
        node desk changed
        save node desk HEALTHY
        desk <- Registered
        node desk changed
    """)


def test_the_welcome_says_who_and_where(mesh: Transcript):
    mesh.join("desk")
    (welcome,) = [e.message for e in mesh.unseen if isinstance(getattr(e, "message", None), Registered)]
    mesh.skip()
    assert (welcome.name, welcome.mesh_name, welcome.node_id) == ("desk", "home", builders.node_id("desk"))
    assert welcome.heartbeat_seconds == mesh.state.settings.heartbeat_seconds
    assert welcome.server_time == mesh.now.wall
    assert welcome.output_most_bytes == mesh.state.settings.output_most_bytes


def test_changed_settings_are_told_to_agents_that_are_connected(mesh: Transcript):
    mesh.join("desk")
    mesh.join("nas")
    mesh.cut("nas")
    mesh.skip()
    changed = msgspec.structs.replace(mesh.state.settings, heartbeat_seconds=1.0, prefill_most=5)
    effects = mesh.take(nodes.on_settings_changed(mesh.state, changed, "home", mesh.now))
    mesh.expect("desk <- Registered")
    assert (effects[0].message.heartbeat_seconds, effects[0].message.prefill_most) == (1.0, 5)
    assert mesh.state.settings is changed
    unheard = msgspec.structs.replace(changed, weights=Weights(rtt=9.0), max_node_losses=1)
    assert nodes.on_settings_changed(mesh.state, unheard, "home", mesh.now) == []


def test_shorter_times_blame_nobody_for_the_silence_before(mesh: Transcript):
    mesh.join("desk")
    mesh.wait(5.0)
    mesh.skip()
    changed = msgspec.structs.replace(
        mesh.state.settings, heartbeat_seconds=0.5, suspect_after_seconds=1.0, offline_after_seconds=2.0
    )
    mesh.take(nodes.on_settings_changed(mesh.state, changed, "home", mesh.now))
    mesh.skip()
    mesh.wait(8.9)
    assert mesh.node("desk").node.state is NodeState.HEALTHY
    mesh.wait(1.1)
    assert mesh.node("desk").node.state is NodeState.OFFLINE, "15 s after its last word, as before"
    mesh.join("desk")
    mesh.wait(2.0)
    assert mesh.node("desk").node.state is NodeState.OFFLINE, "and by the new numbers from its next word on"
    mesh.skip()


def test_silence_makes_suspect_then_offline_and_a_word_heals(mesh: Transcript):
    mesh.join("desk")
    mesh.skip()
    mesh.wait(5.9)
    mesh.expect("")
    mesh.wait(0.1)
    mesh.expect("""
        save node desk SUSPECT
        node desk changed
    """)
    mesh.submit("a")
    assert mesh.place() == []
    mesh.skip()
    mesh.hear("desk")
    mesh.expect("""
        save node desk HEALTHY
        node desk changed
    """)
    assert len(mesh.place()) == 1
    mesh.skip()
    mesh.wait(14.9)
    mesh.skip()
    mesh.wait(0.1)
    mesh.expect("""
        save node desk OFFLINE
        hang up desk link 1: silent
        save a/0 RETRYING #1 on desk lost
        keep a/0 #1 lost
        job a changed
        node desk changed
    """)
    mesh.hear("desk")
    mesh.expect("")


def test_a_lost_link_is_not_a_lost_node(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a")
    mesh.place()
    mesh.start("desk", "a")
    mesh.skip()
    mesh.cut("desk")
    mesh.expect("node desk changed")
    mesh.wait(5.0)
    mesh.expect("")
    mesh.join("desk", held=(builders.held("a"),))
    mesh.expect("""
        save a/0 RUNNING #1 on desk
        job a changed
        save node desk HEALTHY
        desk <- Registered
        node desk changed
    """)
    assert mesh.where() == {"desk": "a/0"}


def test_news_of_an_old_link_is_ignored(mesh: Transcript):
    old = mesh.join("desk")
    mesh.skip()
    mesh.join("desk")
    mesh.expect("""
        hang up desk link 1: replaced
        save node desk HEALTHY
        desk <- Registered
        node desk changed
    """)
    node_id = builders.node_id("desk")
    mesh.take(nodes.on_link_lost(mesh.state, node_id, old))
    mesh.take(nodes.on_leaving(mesh.state, node_id, old, mesh.now))
    mesh.take(nodes.on_link_lost(mesh.state, builders.node_id("ghost"), 7))
    mesh.take(nodes.on_leaving(mesh.state, builders.node_id("ghost"), 7, mesh.now))
    mesh.expect("")
    assert mesh.node("desk").connected


class TestHello:
    def test_keeps_what_counts_and_drops_the_rest(self, mesh: Transcript):
        mesh.join("desk", 2)
        mesh.submit("a", 2)
        mesh.place()
        mesh.cut("desk")
        mesh.skip()
        held = (
            builders.held("a", 0, 1),
            builders.held("a", 1, 7),
            builders.held("gone", 0, 1),
            builders.held("a", 99, 1),
        )
        mesh.join("desk", 2, held=held)
        mesh.expect("""
            save a/0 RUNNING #1 on desk
            job a changed
            save a/1 QUEUED #1 on desk returned
            job a changed
            save node desk HEALTHY
            desk <- Registered drop a/1#7 gone/0#1 a/99#1
            node desk changed
        """)

    def test_of_a_new_process_loses_what_it_does_not_name(self, mesh: Transcript):
        mesh.join("desk", 2)
        mesh.submit("a", 2)
        mesh.place()
        mesh.start("desk", "a", 0)
        mesh.start("desk", "a", 1)
        mesh.skip()
        mesh.join("desk", 2, instance="i2", held=(builders.held("a", 1, running=False),))
        mesh.expect("""
            hang up desk link 1: replaced
            save a/1 RUNNING #1 on desk
            job a changed
            save a/0 RETRYING #1 on desk lost
            keep a/0 #1 lost
            job a changed
            save node desk HEALTHY
            desk <- Registered
            node desk changed
        """)

    def test_that_names_a_task_many_times_holds_it_once(self, mesh: Transcript):
        mesh.join("desk", 2)
        mesh.submit("a")
        mesh.place()
        mesh.wait(20.0)
        mesh.skip()
        mesh.join("desk", 2, held=(builders.held("a"),) * 5)
        assert mesh.skip().node("desk").used == builders.resources(1)

    def test_of_another_machine_with_the_same_identity_is_refused_while_the_first_lives(
        self, mesh: Transcript
    ):
        mesh.join("desk", machine="m1")
        mesh.skip()
        mesh.join("desk", machine="m2", instance="i2")
        mesh.expect("hang up desk link 2: duplicate")
        assert mesh.node("desk").session == 1
        assert mesh.node("desk").node.info.machine == "m1"
        mesh.cut("desk")
        mesh.skip()
        mesh.join("desk", machine="m2", instance="i2")
        assert mesh.skip().node("desk").session == 3

    def test_after_a_rejoin_the_end_of_a_job_is_told_to_who_still_had_it(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a")
        mesh.place()
        mesh.cut("desk")
        mesh.join("desk", held=(builders.held("a"),))
        mesh.skip()
        mesh.end("desk", "a")
        mesh.expect("""
            save a/0 COMPLETED #1 on desk ok
            job a changed
            save job a started completed
            desk <- CloseJob a
            job a ended COMPLETED
        """)

    def test_after_a_rejoin_the_details_of_a_job_are_sent_again(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", 2)
        mesh.place()
        mesh.cut("desk")
        mesh.join("desk", held=(builders.held("a"),))
        mesh.end("desk", "a")
        mesh.skip()
        mesh.place()
        mesh.expect("""
            save a/1 ASSIGNED #1 on desk
            desk <- OpenJob a
            desk <- AssignTask a/1 #1
            job a changed
        """)


class TestDrain:
    def test_gives_no_new_work_and_resumes(self, mesh: Transcript):
        mesh.join("desk")
        mesh.skip()
        mesh.drain("desk")
        mesh.expect("""
            save node desk HEALTHY draining
            desk <- Drain on
            node desk changed
        """)
        mesh.submit("a")
        assert mesh.place() == []
        mesh.skip()
        mesh.drain("desk", on=False)
        mesh.expect("""
            save node desk HEALTHY
            desk <- Drain off
            node desk changed
        """)
        assert len(mesh.place()) == 1
        mesh.skip()

    def test_at_once_is_told_and_what_comes_back_goes_elsewhere(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a")
        mesh.place()
        mesh.start("desk", "a")
        mesh.join("nas")
        mesh.skip()
        mesh.drain("desk", at_once=True)
        mesh.expect("""
            save node desk HEALTHY draining
            desk <- Drain on now
            node desk changed
        """)
        mesh.give_back("desk", "a")
        mesh.place()
        assert mesh.skip().where() == {"nas": "a/0"}

    def test_is_told_again_to_a_node_that_comes_back(self, mesh: Transcript):
        mesh.join("desk")
        mesh.cut("desk")
        mesh.drain("desk")
        mesh.skip()
        mesh.join("desk")
        mesh.expect("""
            save node desk HEALTHY draining
            desk <- Registered
            desk <- Drain on
            node desk changed
        """)


class TestGoing:
    def test_leaving_needs_no_silence(self, mesh: Transcript):
        session = mesh.join("desk")
        mesh.submit("a")
        mesh.place()
        mesh.skip()
        mesh.take(nodes.on_leaving(mesh.state, builders.node_id("desk"), session, mesh.now))
        mesh.expect("""
            save node desk OFFLINE
            save a/0 RETRYING #1 on desk lost
            keep a/0 #1 lost
            job a changed
            node desk changed
        """)

    def test_revoked_is_hung_up_and_its_tasks_go_elsewhere(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a")
        mesh.place()
        mesh.skip()
        mesh.take(nodes.on_node_revoked(mesh.state, builders.node_id("desk"), mesh.now))
        mesh.expect("""
            hang up desk link 1: revoked
            save node desk OFFLINE
            save a/0 RETRYING #1 on desk lost
            keep a/0 #1 lost
            job a changed
            node desk changed
        """)

    def test_who_leaves_for_good_gives_its_tasks_to_others_at_once(self, mesh: Transcript):
        desk = builders.node_id("desk")
        mesh.join("desk")
        mesh.submit("a")
        mesh.place()
        mesh.cut("desk")
        mesh.skip()
        mesh.take(nodes.on_node_left(mesh.state, desk, mesh.now))
        mesh.expect("""
            save node desk OFFLINE
            save a/0 RETRYING #1 on desk lost
            keep a/0 #1 lost
            job a changed
            node desk changed
        """)
        for gone in (desk, builders.node_id("ghost")):
            mesh.take(nodes.on_node_left(mesh.state, gone, mesh.now))
        mesh.expect("")

    def test_a_link_that_came_meanwhile_is_hung_up(self, mesh: Transcript):
        mesh.join("desk")
        mesh.skip()
        mesh.take(nodes.on_node_left(mesh.state, builders.node_id("desk"), mesh.now))
        mesh.expect("""
            hang up desk link 1: revoked
            save node desk OFFLINE
            node desk changed
        """)

    def test_who_is_no_member_any_more_gets_nothing_and_can_never_run_it(self, mesh: Transcript):
        desk, nas = builders.node_id("desk"), builders.node_id("nas")
        mesh.join("desk")
        mesh.join("nas")
        mesh.skip()
        mesh.take(nodes.on_members_known(mesh.state, {nas}))
        mesh.expect("node desk changed")
        mesh.take(nodes.on_members_known(mesh.state, {nas}))
        mesh.expect("")
        mesh.submit("a", 2)
        assert [each.node_id for each in mesh.place()] == [nas]
        reason = fitness.objection(mesh.job("a").signature, mesh.node("desk"))
        assert reason is not None
        assert reason.lasting
        mesh.take(nodes.on_members_known(mesh.state, {nas, desk}))
        assert [each.node_id for each in mesh.place()] == [desk]
        mesh.skip()

    def test_forgotten_leaves_no_trace_and_no_task_behind(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a")
        mesh.place()
        mesh.cut("desk")
        mesh.skip()
        mesh.take(nodes.on_node_forgotten(mesh.state, builders.node_id("desk"), mesh.now))
        mesh.expect("""
            save a/0 RETRYING #1 on desk lost
            keep a/0 #1 lost
            job a changed
            remove node desk
        """)
        mesh.wait(2.0)
        mesh.join("nas")
        mesh.place()
        assert mesh.skip().where() == {"nas": "a/0"}


def test_a_coordinator_that_slept_blames_nobody(mesh: Transcript):
    mesh.join("desk")
    mesh.skip()
    mesh.pass_time(3600.0)
    mesh.take(nodes.on_woken(mesh.state, mesh.now))
    mesh.wait(0.5)
    mesh.expect("")
    mesh.wait(5.0)
    mesh.wait(1.0)
    mesh.expect("""
        save node desk SUSPECT
        node desk changed
    """)
    mesh.wait(10.0)
    assert mesh.skip().node("desk").node.state is NodeState.OFFLINE


def test_a_heartbeat_may_ride_on_the_next_commit(mesh: Transcript):
    mesh.join("desk")
    mesh.skip()
    mesh.take(nodes.on_heartbeat(mesh.state, builders.node_id("desk"), NodeLoad(0.5, running=1), mesh.now))
    mesh.expect("""
        save node desk HEALTHY (later)
        node desk changed
    """)
    assert mesh.node("desk").load.cpu == 0.5


def test_round_trips_are_smoothed(mesh: Transcript):
    mesh.join("desk")
    mesh.skip()
    for seconds in (0.010, 0.020):
        mesh.take(nodes.on_rtt(mesh.state, builders.node_id("desk"), seconds))
    mesh.expect("")
    assert mesh.node("desk").rtt_seconds == pytest.approx(0.012)


def test_a_new_name_and_tags(mesh: Transcript):
    mesh.join("desk", tags=("gpu",))
    mesh.skip()
    node_id = builders.node_id("desk")
    mesh.take(nodes.on_node_described(mesh.state, node_id, None, ("fast",)))
    assert mesh.node("desk").node.all_tags == {"gpu", "fast"}
    mesh.take(nodes.on_node_described(mesh.state, node_id, "table", None))
    mesh.expect("""
        save node desk HEALTHY
        node desk changed
        save node table HEALTHY
        node desk changed
    """)
    assert mesh.node("desk").node.tags == ("fast",)


class TestPullBack:
    def backlog(self, mesh: Transcript, count: int) -> None:
        """`desk` runs one short task of `a` and has more behind it."""
        mesh.join("desk")
        mesh.submit("a", count)
        mesh.place()
        mesh.end("desk", "a", 0, wall_seconds=0.01)
        mesh.place()
        mesh.start("desk", "a", 1)
        mesh.skip()
        assert len(mesh.node("desk").held) == count - 1

    def test_as_much_as_others_could_start(self, mesh: Transcript):
        self.backlog(mesh, 9)
        mesh.join("nas", 2)
        mesh.skip()
        mesh.wait(0.9)
        mesh.expect("")
        mesh.wait(0.2)
        mesh.expect("desk <- RecallTasks a/2#1 a/3#1")
        mesh.wait(0.5)
        mesh.expect("")
        mesh.give_back("desk", "a", 2)
        mesh.give_back("desk", "a", 3)
        mesh.place()
        assert mesh.skip().where()["nas"] == "a/2 a/3"

    def test_none_if_nobody_else_could(self, mesh: Transcript):
        self.backlog(mesh, 5)
        mesh.join("nas", 0.5)
        mesh.skip()
        mesh.wait(2.0)
        mesh.expect("")

    def test_the_node_gets_no_backlog_for_a_while(self, mesh: Transcript):
        self.backlog(mesh, 5)
        mesh.join("nas", 1)
        mesh.wait(1.5)
        mesh.give_back("desk", "a", 2)
        mesh.drain("nas")
        assert mesh.place() == []
        mesh.pass_time(PREFILL_PAUSE_SECONDS)
        assert len(mesh.place()) == 1
        mesh.skip()

    def test_a_started_one_is_not_recalled(self, mesh: Transcript):
        self.backlog(mesh, 3)
        mesh.start("desk", "a", 2)
        mesh.join("nas", 4)
        mesh.skip()
        mesh.wait(2.0)
        mesh.expect("")
        assert mesh.task("a", 2).state is TaskState.RUNNING
