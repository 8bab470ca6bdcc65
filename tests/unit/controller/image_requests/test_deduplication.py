"""The answer cache as a client sees it, with a worker that writes it as worker/consumer.py does."""

import time
from base64 import urlsafe_b64encode
from functools import partial
from hashlib import sha256
from io import BytesIO

import pytest

from cloud.image_id import ImageId
from cloud.model_version import model_choice, model_version
from cloud.prediction import Prediction, PreviewedPrediction
from cloud.prediction_cache import READ_SECONDS, CacheWriter
from controller.image_requests.journal import Journal
from tests.support.aws_errors import refusal
from tests.support.pictures import picture
from tests.support.threads import join_threads
from tests.support.web_client import post

PHOTOS = [picture("PNG"), picture("JPEG"), picture("BMP")]
NOW = {"Prefer": "respond-async"}


def photo(number: int, name: str = "a.png"):
    return BytesIO(PHOTOS[number]), name


@pytest.fixture
def runs() -> list[str]:
    """The images that a model has run for."""
    return []


@pytest.fixture
def classify(queue, inputs, outputs, settings, aws, runs, state):
    def classify(status: str = "classified", precision: str = "fp32", preview: bytes | None = None) -> None:
        version = model_version(model_choice(settings, aws.s3), "openvino", precision)
        writer = CacheWriter(state, version)
        while messages := queue.receive(10, 0):
            for message in messages:
                runs.append(message.body)
                kind = PreviewedPrediction if preview else Prediction
                made = kind.classified(
                    message.body,
                    [("tabby", 0.9)],
                    instance_id="i-1",
                    model="m",
                    precision=precision,
                    model_version=version,
                    preview=preview,
                    preview_of=message.body if preview else None,
                )
                if status == "failed":
                    made = Prediction.failed(message.body, "gave_up", "It crashed.")
                writer.add(sha256(inputs.read(message.body)[0]).hexdigest(), made)
                outputs.put_prediction(made)
            queue.delete(messages)
        writer.write()

    return classify


@pytest.fixture
def app(start, classify):
    app = start()
    app.extensions["services"].polling.wake_autoscaler = classify
    return app


@pytest.fixture
def client(app):
    return app.test_client()


def test_the_same_bytes_are_answered_without_a_run(client, runs):
    first = post(client, photo(0)).json["images"][0]
    again = post(client, photo(0, "other.png")).json["images"][0]
    assert len(runs) == 1
    assert (first["cached"], again["cached"]) == (False, True)
    assert again["filename"] == "other.png"
    same = ("label", "confidence", "predictions", "model", "instance_id", "timings", "answered_at")
    assert [again[name] for name in same] == [first[name] for name in same]


def test_a_request_that_needs_no_worker_wakes_nobody(start, client):
    post(client, photo(0))
    looks, other = [], start()
    other.extensions["services"].polling.wake_autoscaler = lambda: looks.append(1)
    reply = post(other.test_client(), photo(0), photo(0))
    assert reply.json["counts"]["classified"] == 2
    assert other.extensions["services"].polling.waiting().images == 0
    assert looks == []


def test_a_cached_answer_is_kept_like_any_other(client, start, inputs, outputs, state):
    post(client, photo(0))
    cached = post(client, photo(0)).json
    assert start().test_client().get(cached["url"]).json == cached
    assert client.get(f"{cached['url']}/images/0000-a.png").data == PHOTOS[0]
    join_threads("poll-")
    assert Journal(state, inputs, outputs).markers() == []


def test_a_preview_is_that_of_the_first_image_with_the_same_bytes_until_it_is_deleted(app, client, classify):
    app.extensions["services"].polling.wake_autoscaler = partial(classify, preview=picture("JPEG"))
    first = post(client, photo(0, "犬 a.heic"), photo(0)).json
    again = post(client, photo(0, "b.heic")).json
    for image in (*first["images"], *again["images"]):
        assert image["preview"].startswith(f"/requests/{image['image_id'].split('/')[0]}/previews/000")
        shown = client.get(image["preview"])
        assert (shown.data, shown.mimetype) == (picture("JPEG"), "image/jpeg")
        assert shown.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in shown.headers["Content-Security-Policy"]
    [image] = again["images"]
    for form in ("", "?format=csv", "/events"):
        told = client.get(again["url"] + form).text
        assert first["request_id"] not in told
        assert urlsafe_b64encode(picture("JPEG")).decode()[:20] not in told
    assert client.delete(first["url"]).status_code == 204
    gone = client.get(image["preview"])
    assert gone.status_code == 404
    assert "was deleted with the earlier picture" in gone.json["error"]["message"]


def test_an_image_whose_preview_was_deleted_is_classified_again(app, client, classify, runs):
    app.extensions["services"].polling.wake_autoscaler = partial(classify, preview=picture("JPEG"))
    assert client.delete(post(client, photo(0, "a.heic")).json["url"]).status_code == 204
    for cached in (False, True):
        [image] = post(client, photo(0, "a.heic")).json["images"]
        assert image["cached"] is cached
        assert client.get(image["preview"]).data == picture("JPEG")
    assert len(runs) == 2


def test_without_a_preview_none_is_named_or_shown(client):
    answer = post(client, photo(0)).json
    assert answer["images"][0]["preview"] is None
    assert client.get(f"{answer['url']}/previews/0000-a.png").status_code == 404
    assert client.get(f"{answer['url']}/previews/a.png").status_code == 404


def test_equal_images_of_one_request_are_one_run(client, runs):
    answer = post(client, photo(0), photo(1), photo(0), photo(0)).json
    assert [ImageId(image_id).number for image_id in runs] == [0, 1]
    assert [i["status"] for i in answer["images"]] == ["classified"] * 4
    assert [i["cached"] for i in answer["images"]] == [False, False, True, True]
    assert [ImageId(i["image_id"]).number for i in answer["images"]] == [0, 1, 2, 3]


def test_equal_images_count_as_one_for_the_fleet(start):
    app = start()
    post(app.test_client(), photo(0), photo(0), photo(1), headers=NOW)
    waiting = app.extensions["services"].polling.waiting()
    assert (waiting.just_sent, waiting.images, len(waiting.requests)) == (2, 2, 1)


def test_equal_images_share_a_failure_and_the_next_request_tries_again(app, runs, classify):
    polling = app.extensions["services"].polling
    polling.wake_autoscaler = lambda: classify("failed")
    answer = post(app.test_client(), photo(0), photo(0)).json
    assert [i["error"]["code"] for i in answer["images"]] == ["gave_up"] * 2
    polling.wake_autoscaler = classify
    assert post(app.test_client(), photo(0)).json["images"][0]["cached"] is False
    assert len(runs) == 2


def test_what_is_no_image_is_refused_each_time(client):
    for _ in range(2):
        answer = post(client, (BytesIO(b"milk"), "a.txt"), (BytesIO(b"milk"), "b.txt")).json
        assert [(i["error"]["code"], i["cached"]) for i in answer["images"]] == [("not_an_image", False)] * 2


def test_a_broken_batch_is_not_used(start, client, classify, state, runs):
    post(client, photo(0))
    for key in list(state.keys("cache/")):
        state.write(key, b"\x00")
    app = start()
    app.extensions["services"].polling.wake_autoscaler = classify
    other = app.test_client()
    assert post(other, photo(0)).json["images"][0]["cached"] is False
    assert post(other, photo(0)).json["images"][0]["cached"] is True
    assert len(runs) == 2


def test_a_process_finds_what_another_one_has_learned_within_seconds(
    start, client, classify, runs, monkeypatch
):
    other = start()
    other.extensions["services"].polling.wake_autoscaler = classify
    assert post(other.test_client(), photo(1)).json["images"][0]["cached"] is False
    post(client, photo(0))
    cache = other.extensions["services"].submissions.deduplication.cache
    monkeypatch.setattr(cache, "clock", lambda: time.monotonic() + READ_SECONDS)
    assert post(other.test_client(), photo(0)).json["images"][0]["cached"] is True
    assert len(runs) == 2


def test_an_answer_of_a_worker_with_another_model_is_not_used_again(app, client, runs, queue, outputs):
    """Its weights were replaced while it ran, so it does not know the version of its model."""

    def classify():
        for message in queue.receive(10, 0):
            runs.append(message.body)
            outputs.put_prediction(Prediction.classified(message.body, [("tabby", 0.9)]))
            queue.delete([message])

    app.extensions["services"].polling.wake_autoscaler = classify
    for _ in range(2):
        assert post(client, photo(0)).json["images"][0]["cached"] is False
    assert len(runs) == 2


def test_an_answer_of_another_precision_is_not_used_again(app, start, client, classify, runs):
    """With PRECISION=auto, what was baked and the worker's processor decide on the precision."""
    polling = app.extensions["services"].polling
    polling.wake_autoscaler = partial(classify, precision="int8")
    assert post(client, photo(0)).json["images"][0]["cached"] is False
    assert post(client, photo(0)).json["images"][0]["cached"] is True
    polling.wake_autoscaler = partial(classify, precision="fp32")
    assert post(client, photo(1)).json["images"][0]["cached"] is False
    polling.wake_autoscaler = lambda: None
    for process in (client, start().test_client()):
        answer = post(process, photo(0), photo(1), headers=NOW | {"Prefer": "wait=0"}).json
        assert [i["status"] for i in answer["images"]] == ["waiting", "classified"]
        assert answer["images"][1]["precision"] == "fp32"
    assert len(runs) == 2


def test_off_means_that_every_image_is_classified(start, classify, runs):
    app = start(answer_cache="off")
    app.extensions["services"].polling.wake_autoscaler = classify
    for _ in range(2):
        answer = post(app.test_client(), photo(0), photo(0)).json
        assert [i["cached"] for i in answer["images"]] == [False, False]
    assert len(runs) == 4


def test_other_weights_at_the_same_place_are_another_model(start, client, runs, inputs, classify):
    def app(**changes):
        made = start(**changes)
        made.extensions["services"].polling.wake_autoscaler = classify
        return made.test_client()

    post(client, photo(0))
    url = f"s3://{inputs.name}/weights.pt"
    inputs.write("weights.pt", b"one")
    for expected in (2, 3):
        assert post(app(weights=url), photo(0)).json["images"][0]["cached"] is False
        assert len(runs) == expected
        inputs.write("weights.pt", b"two")


def test_without_a_version_workers_are_asked_and_the_reason_is_said_once(
    start, client, classify, runs, caplog
):
    post(client, photo(0))
    app = start(weights="/nowhere/weights.pt")
    app.extensions["services"].polling.wake_autoscaler = classify
    for _ in range(2):
        assert post(app.test_client(), photo(0)).json["images"][0]["cached"] is False
    assert len(runs) == 3
    assert caplog.text.count("/nowhere/weights.pt cannot be read") == 1


def test_a_cache_that_s3_does_not_show_costs_a_run(start, client, classify, runs, aws, on_call):
    post(client, photo(0))

    def refuse(params):
        if params["Key"].startswith("cache/"):
            raise refusal("SlowDown", "GetObject")

    on_call(aws.s3, "GetObject", refuse)
    other = start()
    other.extensions["services"].polling.wake_autoscaler = classify
    assert post(other.test_client(), photo(0)).json["images"][0]["cached"] is False
    assert len(runs) == 2


def test_it_costs_no_call_for_each_image(start, aws, on_call):
    def calls(**changes) -> int:
        made = start(**changes)
        before = len(seen)
        post(made.test_client(), photo(0), photo(1), photo(1), headers=NOW | {"Prefer": "wait=0"})
        return len(seen) - before

    seen: list[str] = []
    for operation in ("GetObject", "PutObject", "HeadObject"):
        on_call(aws.s3, operation, lambda params: seen.append(params["Key"]))
    calls()  # which also makes the key of the request-ids
    assert calls() == calls(answer_cache="off")
