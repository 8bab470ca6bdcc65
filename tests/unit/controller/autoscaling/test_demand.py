from controller.autoscaling.demand import LONGEST_HOLD_SECONDS, Demand
from controller.autoscaling.rate_scaling import CalledFor
from controller.autoscaling.scaling import HOLD_SECONDS, RATE_SECONDS, Sent


def test_what_is_sent_close_together_is_kept_as_one_and_what_is_old_not_at_all():
    demand = Demand()
    demand.note_sent(1, 5, 0)
    demand.note_sent(2, 7, 1)
    demand.note_sent(0, 0, 2)
    demand.note_sent(1, 1, 3)
    assert demand.arrivals(3) == (Sent(3, 3, 12), Sent(0, 1, 1))
    assert [(s.requests, s.images) for s in demand.sent] == [(3, 12), (1, 1)]
    demand.note_sent(0, 0, RATE_SECONDS + 1)
    assert [(s.requests, s.images) for s in demand.sent] == [(1, 1)]


def test_what_a_plan_called_for_holds_for_a_while():
    demand = Demand()
    demand.note_called_for(7, 0)
    demand.note_called_for(2, 1)
    assert demand.called_for_lately(1) == (7, 2)
    assert demand.called_for_lately(HOLD_SECONDS + 0.5) == (2,)
    demand.note_called_for(2, HOLD_SECONDS + 0.5)
    assert demand.called_for_lately(HOLD_SECONDS + 0.5) == (2,)


def test_of_what_plans_called_for_only_what_no_later_one_called_for_is_kept():
    demand = Demand()
    for now, instances in enumerate([3, 9, 4, 1, 4, 2, 2]):
        demand.note_called_for(instances, now)
    assert demand.levels(6) == (CalledFor(5, 9), CalledFor(2, 4), CalledFor(0, 2))
    demand.note_called_for(0, 5 + LONGEST_HOLD_SECONDS)
    assert [c.instances for c in demand.levels(5 + LONGEST_HOLD_SECONDS)] == [2, 0]
