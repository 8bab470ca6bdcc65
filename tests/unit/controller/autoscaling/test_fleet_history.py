import json
from datetime import timedelta

import pytest

from controller.autoscaling.fleet_history import (
    KEY,
    SAMPLE_SECONDS,
    FleetHistory,
    Sample,
    Sent,
    sent_in,
    thinned,
)
from tests.support.samples import NOON, idle, sample


@pytest.fixture
def history(state) -> FleetHistory:
    return FleetHistory(state)


def test_there_is_none_at_first(history):
    assert history.read() == []


def test_samples_are_read_as_they_were_added_whoever_reads(history, state):
    history.add(sample(0, 7))
    history.add(sample(5, 3))
    assert FleetHistory(state).read() == [sample(0, 7), sample(5, 3)]


@pytest.mark.parametrize(
    ("last", "new", "kept"),
    [
        (None, idle(0), False),
        (None, sample(0), True),
        (idle(0), idle(3600), False),
        (idle(0), sample(1), True),
        (sample(0), sample(1, 9), False),
        (sample(0), sample(SAMPLE_SECONDS), True),
        (sample(0), sample(1, ready=2), True),
        (sample(0), sample(1, starting=1), True),
        (sample(0), idle(1), True),
        (sample(3600), sample(0), True),  # written by a clock that runs ahead
    ],
)
def test_a_sample_is_kept_when_it_tells_something(last, new, kept):
    assert new.worth_keeping(last) is kept


@pytest.mark.parametrize("junk", [b"", b"{", b"[]]", b'[{"at": 1}]', b'{"a": 1}', b"\xff\xfe", b"[" * 10**6])
def test_what_cannot_be_read_gives_way_to_the_next_sample(history, state, junk, caplog):
    state.write(KEY, junk)
    assert history.read() == []
    assert "fleet/history is broken" in caplog.text
    history.add(sample(0))
    assert history.read() == [sample(0)]


def test_fields_of_a_later_version_do_no_harm(history, state):
    state.write(KEY, json.dumps([sample(0).model_dump(mode="json") | {"spare": 1}]).encode())
    assert history.read() == [sample(0)]


def test_what_a_clock_that_runs_ahead_has_written_gives_way(history):
    history.add(sample(0))
    history.add(sample(3600))
    history.add(sample(5))
    assert history.read() == [sample(0), sample(5)]


def test_old_samples_are_thinned_to_their_peak_and_their_end():
    burst = [sample(n * 5, n % 40) for n in range(24)]  # two minutes from noon on
    later = NOON + timedelta(hours=1)
    kept = thinned([*burst, idle(119)], later)
    assert max(s.visible for s in kept) == max(s.visible for s in burst)
    assert kept[-1] == idle(119)
    assert len(kept) <= 6
    assert thinned(kept, later) == kept


def test_what_was_sent_in_each_minute_survives_the_thinning():
    kept: list[Sample] = []
    for n in range(0, 7200, 5):
        new = sample(n).model_copy(update={"sent": {n // 60: Sent(1, n % 7)}})
        kept = thinned([*kept, new], new.at)
    assert len(kept) < 400
    assert sent_in(kept) == {
        minute: Sent(12, sum(n % 7 for n in range(minute * 60, minute * 60 + 60, 5))) for minute in range(120)
    }
    again = thinned(kept, NOON + timedelta(hours=9))
    assert len(again) < 30
    assert sent_in(again) == sent_in(kept)


def test_what_was_sent_is_read_as_it_was_added_and_may_be_missing(history, state):
    new = sample(5).model_copy(update={"sent": {29_000_000: Sent(2, 7)}})
    old = {name: value for name, value in sample(0).model_dump(mode="json").items() if name != "sent"}
    state.write(KEY, json.dumps([old]).encode())
    history.add(new)
    assert history.read() == [sample(0), new]


def test_a_busy_day_stays_small(history):
    kept: list[Sample] = []
    for n in range(0, 86400 * 2, 300):
        kept = thinned([*kept, *(sample(n + m) for m in range(0, 300, 5))], NOON + timedelta(seconds=n + 300))
    assert kept[0].at >= kept[-1].at - timedelta(days=1, minutes=15)
    assert len(kept) < 700


def test_a_history_of_any_length_is_thinned_by_the_next_sample(history, state):
    many = [sample(n / 10).model_dump(mode="json") for n in range(20_000)]
    state.write(KEY, json.dumps(many).encode())
    history.add(sample(86400))
    assert len(history.read()) < 30
