import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.dashboard.wait_estimate import LATE, Facts, duration, outlook, rounded, seconds_to_answer


def facts(**known) -> Facts:
    plain = {"queued": 0, "ready": 0, "boot_ages": [], "max_instances": 10, "max_images_per_instance": 20}
    return Facts(**{**plain, **known})


@pytest.mark.parametrize(
    ("waiting", "known", "state", "message", "seconds"),
    [
        (3, {}, "queued", "In the queue; what it needs is being worked out.", None),
        (
            3,
            {"queued": 3},
            "queued",
            "In the queue; instances will be launched for it in a moment.",
            None,
        ),
        (
            3,
            {"queued": 3, "boot_ages": [2.0, 5.0, 1.0], "boot_seconds": 45.0},
            "launching",
            "Starting 3 instances: about 40 s until the first takes work.",
            40,
        ),
        (
            1,
            {"boot_ages": [0.0]},
            "launching",
            "Starting 1 instance: about 60 s until the first takes work.",
            60,
        ),
        (
            3,
            {"boot_ages": [2.0, 2.0], "boot_seconds": 45.0, "start_ages": [2.0], "start_seconds": 12.0},
            "launching",
            "Starting 3 instances: about 10 s until the first takes work.",
            10,
        ),
        (
            1,
            {"start_ages": [0.0], "boot_seconds": 45.0},
            "launching",
            "Starting 1 instance: about 20 s until the first takes work.",
            20,
        ),
        (
            5,
            {"queued": 9, "ready": 1, "boot_ages": [1.0], "start_ages": [1.0]},
            "classifying",
            "1 instance classifies 9 waiting images, 5 of them of this request. 2 more are starting.",
            None,
        ),
        (
            1,
            {"boot_ages": [50.0], "boot_seconds": 45.0, "not_ready": 2},
            "launching",
            "Starting 1 instance: the first takes work any moment now. Before, 2 instances never got ready.",
            1,
        ),
        (
            1,
            {"boot_ages": [LATE * 45], "boot_seconds": 45.0},
            "launching",
            "Starting 1 instance: this takes longer than the usual 45 s.",
            None,
        ),
        (
            31,
            {"queued": 31, "ready": 2, "images_per_second": 1.0},
            "classifying",
            "2 instances classify 31 waiting images: about 20 s.",
            20,
        ),
        (1, {"queued": 1, "ready": 1}, "classifying", "1 instance classifies 1 waiting image.", None),
        (
            5,
            {"queued": 1000, "ready": 2, "boot_ages": [1.0], "images_per_second": 5.0},
            "classifying",
            "2 instances classify 1,000 waiting images, 5 of them of this request: about 90 s."
            " 1 more is starting.",
            90,
        ),
        (
            300,
            {"ready": 10, "images_per_second": 0.1},
            "classifying",
            "10 instances classify 300 waiting images: about 5 minutes."
            " No more than 10 instances may run at once.",
            300,
        ),
        (
            2,
            {
                "queued": 2,
                "next_try": 11.2,
                "no_capacity": "could not launch: none left",
                "launch_error": "old",
            },
            "stalled",
            "EC2 has no capacity right now: trying again in about 15 s.",
            15,
        ),
        (
            2,
            {"queued": 2, "next_try": 3.5, "launch_error": "could not launch: no such AMI."},
            "stalled",
            "Launching fails, trying again in about 4 s: could not launch: no such AMI.",
            4,
        ),
    ],
)
def test_it_says_what_is_done_and_about_how_long(waiting, known, state, message, seconds):
    wait = outlook(waiting, facts(**known))
    assert (wait.state, wait.message, wait.estimate_seconds) == (state, message, seconds)


def test_a_reason_of_old_is_none_for_a_request_that_the_last_look_did_not_see():
    wait = outlook(1, facts(queued=0, next_try=0.0, no_capacity="none left last week"))
    assert wait.state == "queued"


def test_who_starts_helps_once_it_is_ready():
    alone = seconds_to_answer(100, facts(ready=1, images_per_second=1.0))
    joined = seconds_to_answer(100, facts(ready=1, images_per_second=1.0, boot_ages=[0.0], boot_seconds=20.0))
    assert (alone, joined) == (105, 60)
    started = facts(ready=1, images_per_second=1.0, start_ages=[0.0], start_seconds=10.0)
    assert seconds_to_answer(100, started) == 55


@given(
    st.integers(1, 10**5), st.integers(0, 50), st.lists(st.floats(0, 200), max_size=50), st.floats(0.01, 100)
)
def test_more_images_never_take_less_time(images, ready, boot_ages, speed):
    known = facts(ready=ready or 1, boot_ages=boot_ages, images_per_second=speed)
    few, many = seconds_to_answer(images, known), seconds_to_answer(2 * images, known)
    assert 1 <= few <= many


@given(st.floats(0, 10**6))
def test_an_estimate_is_rounded_up_and_not_by_much(seconds):
    assert seconds <= rounded(seconds) <= max(1, seconds + 15)


def test_a_long_time_is_told_in_minutes():
    assert [duration(s) for s in (5, 105, 120, 3600)] == ["5 s", "105 s", "2 minutes", "60 minutes"]
