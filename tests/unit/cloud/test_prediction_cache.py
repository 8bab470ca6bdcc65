import pytest

from cloud.prediction import Prediction
from cloud.prediction_cache import PREFIX, PredictionCache
from tests.support.aws_errors import refusal

VERSION, HASH = "resnet18-0123", "ab" * 32
IMAGE = "0123456789abcdef0123456789ab/0000-cat.jpg"
CAT = Prediction.classified(IMAGE, [("tabby", 0.9)], model="resnet18", instance_id="i-1")


@pytest.fixture
def cache(state) -> PredictionCache:
    return PredictionCache(state)


def test_an_answer_is_found_for_the_same_bytes_and_the_same_model_only(cache):
    cache.put(VERSION, HASH, CAT)
    assert cache.get(VERSION, HASH) == CAT
    assert cache.get("resnet18-4567", HASH) is None
    assert cache.get(VERSION, "cd" * 32) is None


def test_a_failure_is_not_kept(cache, state):
    cache.put(VERSION, HASH, Prediction.failed(IMAGE, "gave_up", "No worker could."))
    assert list(state.keys(PREFIX)) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80\x04 pickle",
        b"{}",
        f'{{"image_id": "{IMAGE}", "status": "classified"}}'.encode(),
        Prediction.failed(IMAGE, "gave_up", "x").model_dump_json().encode(),
    ],
)
def test_what_is_no_label_is_not_used_and_replaced_by_the_next_answer(cache, state, body):
    state.write(f"{PREFIX}{VERSION}/{HASH}", body)
    assert cache.get(VERSION, HASH) is None
    cache.put(VERSION, HASH, CAT)
    assert cache.get(VERSION, HASH) == CAT


def test_an_s3_that_refuses_costs_the_saving_and_no_more(cache, aws, on_call, caplog):
    def refuse(params):
        raise refusal("SlowDown", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    on_call(aws.s3, "GetObject", refuse)
    cache.put(VERSION, HASH, CAT)
    assert cache.get(VERSION, HASH) is None
    assert "SlowDown" in caplog.text


def test_entries_are_forgotten_like_everything_else(aws, settings):
    rules = aws.s3.get_bucket_lifecycle_configuration(Bucket=settings.output_bucket)["Rules"]
    assert [(rule["Filter"], rule["Expiration"], rule["Status"]) for rule in rules] == [
        ({"Prefix": ""}, {"Days": 30}, "Enabled")
    ]
