from datetime import UTC, datetime, timedelta

from controller.autoscaling.demand import Demand
from controller.autoscaling.scaling import HOLD_SECONDS, RATE_SECONDS

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_what_is_sent_close_together_is_kept_as_one_and_what_is_old_not_at_all():
    demand = Demand()
    demand.note_sent(1, 5, NOON)
    demand.note_sent(2, 7, after(1))
    demand.note_sent(0, 0, after(2))
    demand.note_sent(1, 1, after(3))
    assert [(s.requests, s.images) for s in demand.sent] == [(3, 12), (1, 1)]
    demand.note_sent(0, 0, after(RATE_SECONDS + 1))
    assert [(s.requests, s.images) for s in demand.sent] == [(1, 1)]


def test_what_a_look_wanted_holds_for_a_while():
    demand = Demand()
    demand.note_wanted(7, NOON)
    demand.note_wanted(2, after(1))
    assert demand.most_wanted(5.0, after(1)) == 7
    demand.note_wanted(2, after(HOLD_SECONDS + 0.5))
    assert demand.most_wanted(5.0, after(HOLD_SECONDS + 0.5)) == 2


def test_a_rate_of_arrivals_keeps_whom_it_needs_though_the_backlog_is_small():
    demand = Demand()
    for second in range(0, 100, 4):
        demand.note_sent(4, 40, after(second))
    demand.note_wanted(1, after(100))
    assert demand.most_wanted(5.0, after(100)) >= 2
    assert demand.most_wanted(0.5, after(100)) >= 20
