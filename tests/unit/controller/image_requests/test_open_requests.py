from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest

from cloud.errors import CloudError
from cloud.image_id import ImageId
from cloud.prediction import Prediction
from controller.image_requests.open_requests import PREFIX, UPLOAD_SECONDS, OpenRequest, OpenRequests

REQUEST = "0123456789abcdef0123456789ab"


def image(number: int) -> ImageId:
    return ImageId(f"{REQUEST}/{number:04d}-cat.jpg")


@pytest.fixture
def open_requests(inputs, outputs, state) -> OpenRequests:
    return OpenRequests(state, inputs, outputs)


@pytest.fixture
def ask(inputs):
    def put(*numbers: int) -> None:
        for number in numbers:
            inputs.put_image(image(number), BytesIO(b"x"), "image/png")

    return put


@pytest.fixture
def answer(outputs):
    def put(*numbers: int) -> None:
        for number in numbers:
            outputs.put_prediction(Prediction.failed(image(number), "broken", "…"))

    return put


def request(images: int, seconds: float = 0) -> OpenRequest:
    return OpenRequest(
        request_id=REQUEST, images=images, since=datetime.now(UTC) - timedelta(seconds=seconds)
    )


def test_an_open_request_is_seen_until_it_is_closed(open_requests):
    open_requests.open(REQUEST, 3)
    assert open_requests.ids() == [REQUEST]
    found = open_requests.get(REQUEST)
    assert (found.request_id, found.images) == (REQUEST, 3)
    assert 0 <= found.age < 5
    open_requests.close(REQUEST)
    open_requests.close(REQUEST)
    assert open_requests.ids() == []
    assert open_requests.get(REQUEST) is None


def test_its_record_is_none_of_its_images(open_requests, inputs, ask):
    open_requests.open(REQUEST, 1)
    ask(0)
    assert inputs.image_ids(REQUEST) == [image(0)]
    assert open_requests.ids() == [REQUEST]


def test_a_broken_record_is_named(open_requests, inputs):
    open_requests.state.write(f"{PREFIX}{REQUEST}", b"{")
    with pytest.raises(CloudError, match=f"s3://test-output-state/open/{REQUEST} is broken"):
        open_requests.get(REQUEST)


def test_a_request_waits_while_an_image_is_unanswered(open_requests, ask, answer):
    ask(0, 1, 2)
    answer(1)
    progress = open_requests.progress(request(3))
    assert (progress.uploaded, progress.complete) == (True, False)
    assert progress.unanswered == [image(0), image(2)]


def test_a_request_is_complete_when_all_is_answered(open_requests, ask, answer):
    ask(0, 1)
    answer(0, 1)
    progress = open_requests.progress(request(2))
    assert progress.complete
    assert progress.unanswered == []


def test_files_that_were_refused_at_once_count_as_answered(open_requests, ask, answer):
    ask(0)
    answer(0, 1)
    assert open_requests.progress(request(2)).complete


def test_a_request_whose_upload_goes_on_is_not_complete(open_requests, ask, answer):
    ask(0)
    answer(0)
    progress = open_requests.progress(request(2))
    assert (progress.uploaded, progress.complete) == (False, False)


def test_an_upload_that_died_does_not_wait_for_ever(open_requests, ask, answer):
    ask(0)
    answer(0)
    assert open_requests.progress(request(2, UPLOAD_SECONDS + 1)).complete


def test_an_upload_that_died_before_its_first_image_ends_too(open_requests):
    assert not open_requests.progress(request(2)).complete
    assert open_requests.progress(request(2, UPLOAD_SECONDS + 1)).complete
