"""When sender reports are due."""

from sightline_agent.liveness import Timings
from sightline_agent.reports import Schedule

TIMINGS = Timings(report_least=2.0, report_most=3.0, report_hurried=0.1, sound=0.5)


def test_reports_hurry_while_the_tracks_relation_is_news() -> None:
    schedule = Schedule(TIMINGS)
    assert 2.0 <= schedule.seconds() <= 3.0
    schedule.begin()
    assert [schedule.seconds() for _ in range(4)] == [0.6, 0.1, 0.1, 0.1]  # the first once there is sound
    assert 2.0 <= schedule.seconds() <= 3.0
    schedule.again()
    assert [schedule.seconds() for _ in range(20)] == [0.1] * 20
    assert 2.0 <= schedule.seconds() <= 3.0
