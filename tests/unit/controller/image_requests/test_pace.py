from itertools import pairwise

import pytest

from controller.image_requests.pace import (
    LONE_SECONDS,
    PER_LISTING,
    SHARED_SECONDS,
    SLOWEST_SECONDS,
    Pace,
)


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def pace(clock) -> Pace:
    return Pace(lambda: clock[0])


def listing_times(pace: Pace, clock: list[float], images: int, seconds: float) -> list[float]:
    """Returns when listings that find nothing take place, in seconds since the images were sent."""
    sent_at, times = clock[0], []
    while clock[0] < sent_at + seconds:
        clock[0] += max(0.0, pace.pause(images, sent_at))
        times.append(clock[0] - sent_at)
        pace.note_listing(0)
    return times


def test_one_image_is_looked_for_often_at_first_and_seldom_after_a_long_time(pace, clock):
    times = listing_times(pace, clock, 1, 60)
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses[0] == pytest.approx(LONE_SECONDS)
    assert max(pauses) == pytest.approx(SLOWEST_SECONDS)
    assert pauses == pytest.approx(sorted(pauses))
    assert len(times) < 110


def test_one_image_is_not_looked_for_before_its_prediction_can_be_there(pace, clock):
    pace.note_answer(0.1, alone=True)
    assert listing_times(pace, clock, 1, 0.1)[0] == pytest.approx(0.08)


def test_a_slow_prediction_does_not_delay_the_next_one_for_long(pace, clock):
    pace.note_answer(100.0, alone=True)
    assert listing_times(pace, clock, 1, 1)[0] < 0.2


def test_the_time_that_an_image_took_beside_others_is_no_measure(pace, clock):
    pace.note_answer(0.1, alone=False)
    assert listing_times(pace, clock, 1, 1)[0] == pytest.approx(LONE_SECONDS)


def test_many_images_are_looked_for_less_often(pace, clock):
    assert listing_times(pace, clock, 100, 1)[0] == pytest.approx(SHARED_SECONDS)


def test_each_listing_finds_several_predictions_when_they_come_at_a_steady_rate(pace, clock):
    rate, listings, found, carry = 40.0, 0, 0, 0.0
    sent_at, started = clock[0], clock[0]
    while clock[0] < started + 20:
        pause = max(0.001, pace.pause(1000, sent_at))
        clock[0] += pause
        carry += pause * rate
        pace.note_listing(int(carry))
        listings, found, carry = listings + 1, found + int(carry), carry % 1
    assert found / listings > PER_LISTING * 0.7


def test_the_last_images_are_not_waited_for_longer_than_they_take(pace, clock):
    for _ in range(20):
        pace.pause(1000, clock[0])
        clock[0] += 0.1
        pace.note_listing(10)
    assert pace.pause(2, clock[0]) <= SHARED_SECONDS + 0.001


def test_clients_that_send_one_image_after_the_other_do_not_slow_each_other_down(pace, clock):
    """How fast predictions come depends on how soon they are found, because only then the next are sent."""
    waves = [wave(pace, clock, clients) for clients in [1] * 10 + [10] * 50]
    assert max(waves) < 0.3


def wave(pace: Pace, clock: list[float], clients: int) -> float:
    """Returns the seconds until the images of so many clients are found.

    The first prediction takes 50 ms, and each of the others 10 ms more.
    """
    sent_at, found = clock[0], 0
    while found < clients:
        clock[0] += max(0.001, pace.pause(clients - found, sent_at))
        ready = max(0, min(clients, int((clock[0] - sent_at - 0.04) / 0.01)))
        pace.note_listing(ready - found)
        found = ready
    return clock[0] - sent_at
