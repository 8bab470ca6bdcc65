"""Request-ids that a process can tell from guesses without AWS."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cloud.errors import CloudError
from cloud.image_id import is_request_id, new_request_id, shard_of
from controller.image_requests.request_ids import KEY_OBJECT, RequestIds
from tests.support.aws_errors import refusal


@pytest.fixture
def calls(aws, on_call):
    """The operations of S3 that were called."""
    called = []
    for operation in ("GetObject", "PutObject", "HeadObject", "ListObjectsV2"):
        on_call(aws.s3, operation, lambda params, operation=operation: called.append(operation))
    return called


def test_every_process_knows_the_ids_of_the_others_and_no_guess(state):
    one, other = RequestIds(state, "aaaaaa"), RequestIds(state, "bbbbbb")
    made = [one.new(), other.new()]
    assert [shard_of(request_id) for request_id in made] == ["aaaaaa", "bbbbbb"]
    assert all(is_request_id(request_id) for request_id in made)
    assert all(ids.genuine(request_id) for request_id in made for ids in (one, other))
    assert not any(one.genuine(new_request_id("aaaaaa")) for _ in range(100))


def test_a_changed_digit_is_no_id_of_ours(state):
    ids = RequestIds(state, "aaaaaa")
    request_id = ids.new()
    for place in range(len(request_id)):
        digit = "0" if request_id[place] != "0" else "1"
        assert not ids.genuine(request_id[:place] + digit + request_id[place + 1 :])


@pytest.mark.parametrize("text", ["", "x", "../../fleet/state", "é" * 32, "A" * 32, "0" * 31, "0" * 33])
def test_what_is_no_request_id_at_all_costs_no_call(state, calls, text):
    assert not RequestIds(state, "aaaaaa").genuine(text)
    assert calls == []


def test_a_thousand_guesses_cost_one_call(state, calls):
    RequestIds(state, "aaaaaa").new()
    calls.clear()
    other = RequestIds(state, "bbbbbb")
    assert not any(other.genuine(new_request_id()) for _ in range(1000))
    assert calls == ["GetObject"]


def test_processes_that_start_at_once_agree_on_one_key(state):
    all_ids = [RequestIds(state, f"{n:06x}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(RequestIds.new, all_ids))
    assert all(ids.genuine(request_id) for ids in all_ids for request_id in made)


def test_the_key_is_written_again_before_the_lifecycle_rule_deletes_it(state, s3_clock, calls):
    time = 0.0
    ids = RequestIds(state, "aaaaaa", lambda: time)
    request_id = ids.new()
    calls.clear()
    time, s3_clock.ahead = 3599, 3599
    ids.new()
    assert calls == []
    time, s3_clock.ahead = 3601, 3700
    assert ids.genuine(request_id)
    assert calls == ["GetObject", "PutObject"]


def test_a_key_that_was_deleted_is_put_back_by_who_knows_it(state):
    time = 0.0
    ids = RequestIds(state, "aaaaaa", lambda: time)
    request_id = ids.new()
    state.delete(KEY_OBJECT)
    time = 3601
    ids.new()
    assert RequestIds(state, "bbbbbb").genuine(request_id)


def test_an_outage_of_s3_stops_only_a_process_that_has_not_read_the_key(state, aws, on_call):
    time = 0.0
    ids = RequestIds(state, "aaaaaa", lambda: time)
    request_id = ids.new()

    def refuse(params):
        raise refusal("SlowDown", "GetObject")

    on_call(aws.s3, "GetObject", refuse)
    time = 3601
    assert ids.genuine(request_id)
    with pytest.raises(CloudError, match="SlowDown"):
        RequestIds(state, "bbbbbb").new()
