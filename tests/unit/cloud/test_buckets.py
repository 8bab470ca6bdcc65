import json
from base64 import urlsafe_b64encode
from datetime import timedelta
from io import BytesIO

import pytest

from cloud.buckets import LARGEST_PREDICTION, Bucket, OutputBucket, read_url
from cloud.errors import CloudError, Conflict, NotFound
from cloud.image_id import ImageId
from cloud.prediction import LARGEST_PREVIEW, MOST_LABELS, Prediction, PreviewedPrediction
from tests.support.aws_errors import refusal
from tests.support.pictures import picture

REQUEST = "0123456789abcdef0123456789abcdef"
IMAGE = ImageId(f"{REQUEST}/0000-犬 +é%.jpg")


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode()


def test_an_image_comes_back_as_it_was_put(inputs):
    inputs.put_image(IMAGE, BytesIO(b"\xff\xd8" * 100_000), "image/jpeg")
    chunks, content_type = inputs.open_image(IMAGE)
    assert (b"".join(chunks), content_type) == (b"\xff\xd8" * 100_000, "image/jpeg")
    assert inputs.read(IMAGE)[0] == b"\xff\xd8" * 100_000


def test_one_request_does_not_show_anothers_images(inputs):
    other = "f" * 32
    for image_id in (f"{REQUEST}/0001-b.jpg", IMAGE, f"{other}/0000-c.jpg"):
        inputs.put_image(image_id, BytesIO(b"x"), "image/png")
    assert inputs.image_ids(REQUEST) == [IMAGE, f"{REQUEST}/0001-b.jpg"]
    assert inputs.image_ids("e" * 32) == []


def test_a_stray_object_is_no_image_and_is_named(inputs, outputs, caplog):
    for bucket in (inputs, outputs):
        bucket.write(f"{REQUEST}/notes.txt", b"x")
        bucket.write(IMAGE, b"x")
    for found in (inputs.image_ids(REQUEST), outputs.answered(REQUEST)):
        assert found == [IMAGE]
        assert found[0].filename == "犬 +é%.jpg"
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert f"the bucket test-input is ignored: '{REQUEST}/notes.txt' is no image-id" in caplog.text


def test_more_than_a_thousand_keys_are_listed_page_by_page(outputs, aws, on_call):
    pages = []
    on_call(aws.s3, "ListObjectsV2", lambda params: pages.append(params.setdefault("MaxKeys", 4)))
    expected = [f"{REQUEST}/{n:04d}-a.jpg" for n in range(10)]
    for key in expected:
        outputs.write(key, b"{}")
    assert outputs.answered(REQUEST) == expected
    assert len(pages) == 3


def test_an_image_that_is_not_there_is_not_found(inputs):
    with pytest.raises(NotFound, match=f"could not read s3://test-input/{REQUEST}/0009-gone.jpg"):
        inputs.open_image(f"{REQUEST}/0009-gone.jpg")


def test_a_prediction_comes_back_as_it_was_put(outputs):
    prediction = Prediction.classified(IMAGE, [("犬", 0.9)], model="resnet18", timings={"classify": 0.02})
    assert outputs.put_prediction(prediction)
    assert outputs.get_prediction(IMAGE) == prediction
    assert outputs.answered(REQUEST) == [IMAGE]


def test_an_image_without_answer_has_no_prediction(outputs):
    assert outputs.get_prediction(IMAGE) is None
    assert outputs.answered(REQUEST) == []


def test_the_prediction_of_another_image_is_none_of_this_one(outputs):
    other = ImageId(f"{REQUEST}/0001-b.jpg")
    outputs.write(IMAGE, Prediction.classified(other, [("forged", 0.9)]).model_dump_json().encode())
    found = outputs.get_prediction(IMAGE)
    assert (found.image_id, found.error.code) == (IMAGE, "broken_answer")


@pytest.mark.parametrize(
    "change",
    [
        {"label": None},
        {"confidence": None},
        {"confidence": 2},
        {"status": "failed"},
        {"error": {"code": "broken", "message": "…"}},
        {"answered_at": "2026-11-27T12:00:00"},
    ],
)
def test_a_prediction_that_no_worker_makes_is_broken(outputs, change):
    made = Prediction.classified(IMAGE, [("tabby", 0.9)]).model_dump(mode="json")
    outputs.write(IMAGE, json.dumps({**made, **change}).encode())
    assert outputs.get_prediction(IMAGE).error.code == "broken_answer"


def test_the_first_answer_stays(outputs):
    first = Prediction.classified(IMAGE, [("tabby", 0.9)])
    assert outputs.put_prediction(first)
    assert not outputs.put_prediction(Prediction.failed(IMAGE, "gave_up", "too late"))
    assert outputs.get_prediction(IMAGE) == first


@pytest.mark.parametrize(
    "body",
    [b"", b"junk", b'{"status": "classified"}', b'{"image_id": "1", "status": "failed"}', b"\x80\x04pickle"],
)
def test_an_object_that_is_no_prediction_is_a_failed_one_and_is_named(outputs, body, caplog):
    outputs.write(IMAGE, body)
    prediction = outputs.get_prediction(IMAGE)
    assert (prediction.image_id, prediction.status) == (IMAGE, "failed")
    assert prediction.error.code == "broken_answer"
    assert f"s3://test-output/{IMAGE} is broken" in caplog.text


def previewed(preview: object = picture("JPEG")) -> PreviewedPrediction:
    return PreviewedPrediction.classified(IMAGE, [("tabby", 0.9)], preview=preview, preview_of=IMAGE)


def test_a_preview_is_stored_with_its_prediction_and_read_only_by_itself(outputs):
    outputs.put_prediction(previewed())
    assert outputs.get_preview(IMAGE) == picture("JPEG")
    prediction = outputs.get_prediction(IMAGE)
    assert (type(prediction), prediction.preview_of, prediction.label) == (Prediction, IMAGE, "tabby")
    assert list(outputs.keys("")) == [IMAGE]


def test_a_cached_prediction_has_the_preview_of_the_earlier_image_while_that_is_stored(outputs):
    outputs.put_prediction(previewed())
    copy = ImageId(f"{'f' * 32}/0000-b.heic")
    outputs.put_prediction(outputs.get_prediction(IMAGE).of(copy))
    assert outputs.get_preview(copy) == picture("JPEG")
    outputs.delete(IMAGE)
    assert outputs.get_preview(copy) is None
    assert outputs.get_prediction(copy).label == "tabby"


def test_predictions_without_a_preview_have_none(outputs):
    assert outputs.get_preview(IMAGE) is None
    outputs.put_prediction(Prediction.classified(IMAGE, [("tabby", 0.9)]))
    assert outputs.get_preview(IMAGE) is None


@pytest.mark.parametrize(
    "preview",
    [
        "",
        "no base64!",
        7,
        b64(b"<script>"),
        b64(picture("PNG")),
        b64(picture("JPEG") + bytes(LARGEST_PREVIEW)),
    ],
)
def test_what_is_no_small_jpeg_is_no_preview_and_harms_no_prediction(outputs, preview):
    good = previewed().model_dump(mode="json")
    outputs.write(IMAGE, json.dumps({**good, "preview": preview}).encode())
    assert outputs.get_preview(IMAGE) is None
    assert outputs.get_prediction(IMAGE).label == "tabby"


def test_an_object_that_is_far_too_large_is_no_prediction_and_is_not_read(outputs, caplog):
    outputs.write(IMAGE, previewed().model_dump_json().encode().ljust(LARGEST_PREDICTION + 1))
    assert outputs.get_prediction(IMAGE).error.code == "broken_answer"
    assert outputs.get_preview(IMAGE) is None
    assert f"s3://test-output/{IMAGE} is broken: it has 200,001 bytes" in caplog.text


def test_a_prediction_in_an_archive_is_a_failed_one(outputs, caplog):
    outputs.write(IMAGE, previewed().model_dump_json().encode(), StorageClass="DEEP_ARCHIVE")
    assert outputs.get_prediction(IMAGE).error.code == "broken_answer"
    assert outputs.get_preview(IMAGE) is None
    assert f"s3://test-output/{IMAGE} is broken" in caplog.text


@pytest.mark.parametrize(
    "long",
    [
        {"model": "x" * 100_000},
        {"label": "x" * 100_000},
        {"predictions": [{"label": "x" * 6000, "confidence": 0.5}] * 2},
        {"timings": {"x" * 100_000: 1.0}},
    ],
)
def test_what_has_more_text_than_any_answer_is_no_prediction(outputs, long):
    """A thousand of them are in memory together, several times."""
    outputs.write(IMAGE, json.dumps({**previewed().model_dump(mode="json"), **long}).encode())
    assert outputs.get_prediction(IMAGE).error.code == "broken_answer"


@pytest.mark.parametrize(
    "many",
    [
        {"predictions": [{"label": "a", "confidence": 0.5}] * (MOST_LABELS + 1)},
        {"timings": dict.fromkeys(map(str, range(100)), 1.0)},
    ],
)
def test_what_has_more_parts_than_any_answer_is_no_prediction(outputs, many):
    """Each part takes many times the memory of its text, and a request has up to 1,000 answers."""
    outputs.write(IMAGE, json.dumps({**previewed().model_dump(mode="json"), **many}).encode())
    assert outputs.get_prediction(IMAGE).error.code == "broken_answer"


def test_a_conditional_write_is_refused_when_somebody_else_wrote_first(outputs):
    etag = outputs.write("thing", b"1", IfNoneMatch="*")
    with pytest.raises(Conflict):
        outputs.write("thing", b"2", IfNoneMatch="*")
    newer = outputs.write("thing", b"3", IfMatch=etag)
    with pytest.raises(Conflict):
        outputs.write("thing", b"4", IfMatch=etag)
    assert outputs.read("thing") == (b"3", newer)


def test_an_objects_age_is_told_by_s3s_own_clock(outputs, s3_clock):
    outputs.write("thing", b"1")
    s3_clock.ahead = 90
    body, _, age = outputs.read_aged("thing")
    assert body == b"1"
    assert timedelta(seconds=89) <= age <= timedelta(seconds=92)


def test_what_is_deleted_is_gone_and_deleting_again_is_no_error(outputs):
    outputs.write("thing", b"1")
    outputs.delete("thing")
    outputs.delete("thing")
    with pytest.raises(NotFound):
        outputs.read("thing")


def test_a_bucket_that_does_not_exist_is_named(clients):
    bucket = Bucket(clients.s3, "missing-bucket")
    with pytest.raises(NotFound, match="could not reach the bucket missing-bucket"):
        bucket.check()
    with pytest.raises(NotFound, match="could not list s3://missing-bucket/"):
        list(bucket.keys(""))
    clients.s3.create_bucket(Bucket="missing-bucket")
    bucket.check()


def test_a_body_that_breaks_off_is_a_cloud_error(aws, settings):
    class Broken:
        def read(self):
            from botocore.exceptions import ResponseStreamingError

            raise ResponseStreamingError(error="connection lost")

    class S3:
        def get_object(self, **_):
            return {"ContentLength": 9, "Body": Broken(), "ETag": '"1"'}

    with pytest.raises(CloudError, match=r"could not read s3://test-output/thing: .*connection lost"):
        OutputBucket(S3(), settings.output_bucket).read("thing")


def test_a_bucket_that_may_not_be_written_says_so(outputs, aws, on_call):
    def refuse(params):
        raise refusal("AccessDenied", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    with pytest.raises(CloudError, match=r"could not write s3://test-output/.*AccessDenied"):
        outputs.put_prediction(Prediction.failed(IMAGE, "broken", "…"))


def test_a_placeholder_is_a_key_but_no_image(inputs):
    inputs.put_placeholder(IMAGE)
    assert inputs.image_ids(REQUEST) == [IMAGE]
    with pytest.raises(NotFound, match="placeholder"):
        inputs.open_image(IMAGE)


def test_an_object_is_read_by_its_url(inputs):
    inputs.write("models/v1/resnet.pt", b"weights")
    assert read_url(inputs.s3, f"s3://{inputs.name}/models/v1/resnet.pt") == b"weights"
    with pytest.raises(NotFound, match="models/v2"):
        read_url(inputs.s3, f"s3://{inputs.name}/models/v2")
