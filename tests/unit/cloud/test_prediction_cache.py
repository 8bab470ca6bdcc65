import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from cloud import prediction_cache
from cloud.prediction import Prediction, PreviewedPrediction
from cloud.prediction_cache import (
    LARGEST_BATCH,
    LARGEST_KEPT,
    PREFIX,
    READ_AT_ONCE,
    READ_SECONDS,
    READING_SECONDS,
    WRITE_PREDICTIONS,
    WRITE_SECONDS,
    CacheWriter,
    PredictionCache,
)
from tests.support.aws_errors import refusal
from tests.support.pictures import picture

CHOICE, HASH, OTHER = "resnet18-0123", "ab" * 32, "cd" * 32
VERSION, INT8 = f"{CHOICE}-openvino-fp32", f"{CHOICE}-openvino-int8"
IMAGE = "0123456789abcdef0123456789abcdef/0000-cat.jpg"
CAT = Prediction.classified(IMAGE, [("tabby", 0.9)], model_version=VERSION, instance_id="i-1")
LYNX = Prediction.classified(IMAGE, [("lynx", 0.8)], model_version=VERSION, instance_id="i-2")


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def writer(state, clock) -> CacheWriter:
    return CacheWriter(state, VERSION, lambda: clock[0])


@pytest.fixture
def cache(state, clock):
    with ThreadPoolExecutor(4) as pool:
        yield PredictionCache(state, pool, lambda: clock[0])


def keys(state) -> list[str]:
    return list(state.keys(PREFIX))


def test_what_a_worker_writes_is_found_for_the_same_bytes_and_the_same_model_only(writer, cache):
    writer.add(HASH, CAT)
    writer.write()
    cache.read(CHOICE)
    assert cache.get(CHOICE, HASH) == CAT
    assert cache.get("resnet18-4567", HASH) is None
    assert cache.get(CHOICE, OTHER) is None


def test_a_preview_is_not_in_the_cache_but_where_it_is_stored(state, writer, cache):
    jpeg = picture("JPEG")
    writer.add(HASH, PreviewedPrediction(**{**dict(CAT), "preview_of": IMAGE, "preview": jpeg}))
    writer.write()
    [key] = keys(state)
    assert len(state.read(key)[0]) < 700
    cache.read(CHOICE)
    assert cache.get(CHOICE, HASH) == CAT.model_copy(update={"preview_of": IMAGE})


def test_what_a_process_has_learned_itself_is_found_at_once(cache):
    cache.put(HASH, CAT)
    assert cache.get(CHOICE, HASH) == CAT


@pytest.mark.parametrize("learned_here", [True, False])
def test_the_version_of_the_newest_prediction_counts(state, writer, cache, clock, learned_here):
    """With PRECISION=auto, other workers may have another precision."""
    later = CAT.answered_at + timedelta(seconds=1)
    newest = LYNX.model_copy(update={"model_version": INT8, "answered_at": later})
    writer.add(HASH, CAT)
    writer.write()
    cache.read(CHOICE)
    if learned_here:
        cache.put(OTHER, newest)
    else:
        int8 = CacheWriter(state, INT8)
        int8.add(OTHER, newest)
        int8.write()
        clock[0] += READ_SECONDS
        cache.read(CHOICE)
    assert cache.get(CHOICE, HASH) is None, "it was another precision"
    assert cache.get(CHOICE, OTHER) == newest
    cache.put(HASH, CAT)
    assert cache.get(CHOICE, OTHER) == newest, "CAT is older"


def test_predictions_are_written_together(writer, state, clock):
    writer.add(HASH, CAT)
    writer.add(OTHER, LYNX)
    writer.write_if_due()
    assert keys(state) == []
    clock[0] += WRITE_SECONDS
    writer.write_if_due()
    assert len(keys(state)) == 1
    clock[0] += WRITE_SECONDS
    writer.write_if_due()
    assert len(keys(state)) == 1, "there is nothing new"


def test_many_predictions_are_written_as_soon_as_there_are_enough(writer, state):
    for number in range(WRITE_PREDICTIONS):
        assert keys(state) == []
        writer.add(f"{number:064x}", CAT)
    assert len(keys(state)) == 1


def test_a_failure_is_not_kept(writer, cache, state):
    failed = Prediction.failed(IMAGE, "gave_up", "No worker could.")
    writer.add(HASH, failed)
    writer.write()
    cache.put(HASH, failed)
    assert keys(state) == []
    assert cache.get(CHOICE, HASH) is None


def test_without_a_version_nothing_is_written(state):
    writer = CacheWriter(state, "")
    writer.add(HASH, CAT)
    writer.write()
    assert keys(state) == []


def test_a_process_lists_again_only_after_a_while_and_reads_each_batch_once(
    writer, cache, clock, aws, on_call
):
    calls = []
    on_call(aws.s3, "ListObjectsV2", lambda params: calls.append("list"))
    on_call(aws.s3, "GetObject", lambda params: calls.append("get"))
    cache.read(CHOICE)
    writer.add(HASH, CAT)
    writer.write()
    cache.read(CHOICE)
    assert calls == ["list"]
    for expected in (["list", "list", "get"], ["list", "list", "get", "list"]):
        clock[0] += READ_SECONDS
        cache.read(CHOICE)
        assert calls == expected
    assert cache.get(CHOICE, HASH) == CAT


def test_the_newest_batches_are_listed_first_and_their_predictions_are_kept_the_longest(
    state, cache, clock, monkeypatch
):
    monkeypatch.setattr(prediction_cache, "LISTED", 2)
    monkeypatch.setattr(prediction_cache, "KEPT", 2)
    for second, sha256 in enumerate(("1" * 64, "2" * 64, "3" * 64)):
        at = datetime(2027, 1, 15, 8, 0, second, tzinfo=UTC)
        monkeypatch.setattr(prediction_cache, "now", lambda at=at: at)
        writer = CacheWriter(state, VERSION)
        writer.add(sha256, CAT)
        writer.write()
    cache.read(CHOICE)
    assert [bool(cache.get(CHOICE, digit * 64)) for digit in "123"] == [False, True, True]
    cache.put(HASH, CAT)
    assert [bool(cache.get(CHOICE, digit * 64)) for digit in "123"] == [False, False, True]


def test_no_more_batches_are_read_than_there_are_predictions_to_keep(state, cache, aws, on_call, monkeypatch):
    """A worker that was taken over may write many large ones, which together would fill the memory."""
    monkeypatch.setattr(prediction_cache, "KEPT", 3)
    for number in range(3 * READ_AT_ONCE):
        state.write(f"{PREFIX}{CHOICE}/{number:010d}-forged", forged())
    read = []
    on_call(aws.s3, "GetObject", lambda params: read.append(params["Key"]))
    cache.read(CHOICE)
    assert sorted(read) == keys(state)[:READ_AT_ONCE]


def test_requests_do_not_wait_long_for_batches_that_take_long_to_read(state, cache, aws, on_call, clock):
    for number in range(3 * READ_AT_ONCE):
        state.write(f"{PREFIX}{CHOICE}/{number:010d}-slow", b"{}")
    read = []

    def slow(params):
        read.append(params["Key"])
        clock[0] += READING_SECONDS

    on_call(aws.s3, "GetObject", slow)
    cache.read(CHOICE)
    assert len(read) == READ_AT_ONCE


def forged(**change) -> bytes:
    """A batch of a prediction with a change that no worker makes."""
    return json.dumps({OTHER: {**CAT.model_dump(mode="json"), **change}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80\x04 pickle",
        b"[]",
        b'{"ab": {"status": "classified"}}',
        forged(answered_at="2026-11-27T12:00:00"),
        forged(label="x" * LARGEST_BATCH),
    ],
)
def test_a_broken_batch_is_not_used_and_does_not_hide_the_others(writer, cache, state, body, caplog):
    state.write(f"{PREFIX}{CHOICE}/0000000000-broken", body)
    writer.add(HASH, CAT)
    writer.write()
    cache.read(CHOICE)
    assert cache.get(CHOICE, HASH) == CAT
    assert "0000000000-broken is broken" in caplog.text
    assert cache.get(CHOICE, OTHER) is None


@pytest.mark.parametrize(
    "change",
    [{"label": "x" * LARGEST_KEPT}, {"answered_at": "2999-01-01T00:00:00Z", "model_version": INT8}],
)
def test_a_prediction_that_no_worker_makes_is_not_kept(writer, cache, state, change):
    state.write(f"{PREFIX}{CHOICE}/0000000000-forged", forged(**change))
    writer.add(HASH, CAT)
    writer.write()
    cache.read(CHOICE)
    assert cache.get(CHOICE, HASH) == CAT
    assert cache.get(CHOICE, OTHER) is None


@pytest.mark.parametrize("operation", ["PutObject", "ListObjectsV2", "GetObject"])
def test_an_s3_that_refuses_costs_the_saving_and_no_more(writer, cache, aws, on_call, caplog, operation):
    def refuse(params):
        raise refusal("SlowDown", operation)

    on_call(aws.s3, operation, refuse)
    writer.add(HASH, CAT)
    writer.write()
    cache.read(CHOICE)
    assert cache.get(CHOICE, HASH) is None
    assert "SlowDown" in caplog.text


def test_batches_are_forgotten_like_everything_else(aws, settings):
    rules = aws.s3.get_bucket_lifecycle_configuration(Bucket=settings.output_bucket)["Rules"]
    assert [(rule["Filter"], rule["Expiration"], rule["Status"]) for rule in rules] == [
        ({"Prefix": ""}, {"Days": 30}, "Enabled")
    ]
