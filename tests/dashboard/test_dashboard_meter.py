"""Ends by the second, and each job's rate."""

from __future__ import annotations

from dashboard_views import counts, job_view

from planetmesh.dashboard.meter import SECONDS_KEPT, Meter, Paces


def test_ends_are_counted_in_their_second() -> None:
    meter = Meter()
    meter.count(10.1, 2, 1)
    meter.count(10.9, 1, 0)
    meter.count(12.0, 5, 0)
    done, failed = meter.series(13.5)
    assert done[-4:] == (3, 0, 5, 0)
    assert failed[-4:] == (1, 0, 0, 0)
    assert len(done) == SECONDS_KEPT
    assert meter.watched_seconds == 3


def test_after_a_long_sleep_the_chart_is_empty() -> None:
    meter = Meter()
    meter.count(1.0, 7, 0)
    assert not any(meter.series(1e9)[0])


def test_counters_that_go_back_count_nothing() -> None:
    meter = Meter()
    meter.count(1.0, -3, -1)
    assert not any(meter.series(1.0)[0])


def test_a_jobs_rate() -> None:
    paces = Paces()
    for second in range(4):
        paces.measure(float(second), job_view("a", tasks=counts(queued=100, completed=second * 10)))
    assert paces.per_second() == {job_view("a").id: 10.0}
    paces.forget(job_view("a").id)
    assert paces.per_second() == {}
