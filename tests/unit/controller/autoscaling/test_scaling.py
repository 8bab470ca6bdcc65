import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.autoscaling.observation import Counts
from controller.autoscaling.scaling import instances_to_launch, lowest_free_numbers, wanted_instances

numbers = st.integers(0, 10**6)
positive = st.integers(1, 1000)


def counted(visible=0, in_flight=0, delayed=0, just_sent=0, pending=0, running=0):
    return Counts(visible, in_flight, delayed, just_sent, pending, running)


@pytest.mark.parametrize(
    ("backlog", "images_per_instance", "maximum", "wanted"),
    [
        (0, 20, 10, 0),
        (1, 20, 10, 1),
        (20, 20, 10, 1),
        (21, 20, 10, 2),
        (199, 20, 10, 10),
        (200, 20, 10, 10),
        (201, 20, 10, 10),
        (1_000_000, 20, 10, 10),
        (5, 1, 10, 5),
        (5, 1000, 10, 1),
        (7, 3, 1, 1),
    ],
)
def test_wanted(backlog, images_per_instance, maximum, wanted):
    assert wanted_instances(backlog, images_per_instance, maximum) == wanted


@pytest.mark.parametrize(
    ("wanted", "active", "launched"), [(0, 0, 0), (3, 0, 3), (3, 1, 2), (3, 3, 0), (3, 5, 0), (0, 5, 0)]
)
def test_to_launch(wanted, active, launched):
    assert instances_to_launch(wanted, active) == launched


@pytest.mark.parametrize(
    ("counts", "backlog"),
    [
        (counted(), 0),
        (counted(visible=3), 3),
        (counted(in_flight=3), 3),
        (counted(delayed=3), 3),
        (counted(visible=1, in_flight=2, delayed=4), 7),
        (counted(just_sent=5), 5),
        (counted(visible=3, just_sent=5), 5),
        (counted(visible=5, just_sent=3), 5),
    ],
)
def test_what_was_just_sent_counts_even_where_the_queues_counts_lag(counts, backlog):
    assert counts.backlog == backlog


@given(numbers, positive, positive, st.integers(0, 2000))
def test_never_above_the_maximum_and_never_negative(backlog, images_per_instance, maximum, active):
    wanted = wanted_instances(backlog, images_per_instance, maximum)
    launched = instances_to_launch(wanted, active)
    assert 0 <= wanted <= maximum
    assert launched >= 0
    assert active + launched <= max(active, maximum)


@given(numbers, numbers, positive, positive)
def test_a_longer_queue_never_wants_fewer(one, other, images_per_instance, maximum):
    shorter, longer = sorted([one, other])
    assert wanted_instances(shorter, images_per_instance, maximum) <= wanted_instances(
        longer, images_per_instance, maximum
    )


@given(st.integers(1, 10**6), positive, positive)
def test_one_image_is_enough_for_a_worker_and_none_is_idle_for_want_of_images(
    backlog, images_per_instance, maximum
):
    wanted = wanted_instances(backlog, images_per_instance, maximum)
    assert wanted >= 1
    assert (wanted - 1) * images_per_instance < backlog
    assert wanted == maximum or wanted * images_per_instance >= backlog


@given(numbers, numbers, numbers, numbers)
def test_the_backlog_misses_nothing_that_anybody_knows_of(visible, in_flight, delayed, just_sent):
    backlog = counted(visible, in_flight, delayed, just_sent).backlog
    assert backlog >= just_sent
    assert backlog >= visible + in_flight + delayed


@pytest.mark.parametrize(
    ("taken", "count", "numbers"),
    [
        (set(), 3, [1, 2, 3]),
        ({1, 2}, 2, [3, 4]),
        ({1, 3}, 3, [2, 4, 5]),
        ({2, 40}, 2, [1, 3]),
        ({0}, 1, [1]),
        ({1}, 0, []),
    ],
)
def test_the_lowest_free_numbers(taken, count, numbers):
    assert lowest_free_numbers(taken, count) == numbers


@given(st.sets(st.integers(1, 50)), st.integers(0, 50))
def test_numbers_are_free_and_no_lower_one_is_left_out(taken, count):
    numbers = lowest_free_numbers(taken, count)
    assert len(numbers) == count
    assert not taken & set(numbers)
    assert set(range(1, max(numbers, default=0) + 1)) <= taken | set(numbers)
