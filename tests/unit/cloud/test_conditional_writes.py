"""409 (try again), 412 (the condition does not hold) and lost replies, at each kind of conditional write."""

import secrets
from collections.abc import Callable

import pytest

from cloud.errors import RACED, CloudError, Conflict
from cloud.image_id import ImageId, new_request_id
from cloud.prediction import Prediction
from controller.autoscaling.shared_state import SharedState
from controller.image_requests.idempotency import Claim, IdempotencyKeys
from controller.image_requests.journal import Journal
from tests.support.aws_errors import refusal
from tests.support.conditional_writes import lost_reply, raced
from tests.support.submissions import uploads

IMAGE = ImageId.make(new_request_id(), 0, "cat.png")


@pytest.fixture
def predict(outputs) -> Callable[[], None]:
    def predict() -> None:
        if not outputs.put_prediction(Prediction.classified(IMAGE, [("tabby", 0.9)])):
            raise Conflict("it has a prediction already")

    return predict


@pytest.fixture
def hold(inputs, outputs, state) -> Callable[[], None]:
    return lambda: Journal(state, inputs, outputs).hold(IMAGE.request_id, IfNoneMatch="*")


@pytest.fixture
def claim(state) -> Callable[[], None]:
    def claim() -> None:
        request_id = new_request_id()
        claimed = IdempotencyKeys(state).claim("idempotency/x", request_id, uploads(request_id, "cat.png"))
        if not isinstance(claimed, Claim):
            raise Conflict("the key is used already")
        claimed.accept()

    return claim


@pytest.fixture
def replace(state) -> Callable[[], None]:
    etag = state.write("thing", b"the one before")
    return lambda: state.write("thing", secrets.token_bytes(8), IfMatch=etag) and None


WRITES = ["predict", "hold", "claim", "replace"]


@pytest.fixture(params=WRITES)
def write(request) -> Callable[[], None]:
    """A conditional write that succeeds once."""
    return request.getfixturevalue(request.param)


def test_a_write_that_raced_another_is_tried_again(write, aws):
    with raced(aws.s3, times=2) as refused:
        write()
    assert len(refused) == 2


def test_a_write_that_races_others_all_the_time_is_no_conflict(write, aws):
    with raced(aws.s3, times=100), pytest.raises(CloudError, match="Try again") as raised:
        write()
    assert (type(raised.value), raised.value.code) == (CloudError, RACED)
    write()


def test_a_write_after_another_is_a_conflict(write, aws):
    write()
    with pytest.raises(Conflict):
        write()


def test_a_write_whose_reply_was_lost_has_succeeded(write, aws):
    with lost_reply(aws.s3):
        write()


def test_a_write_after_another_is_a_conflict_even_if_a_reply_was_lost(write, aws):
    write()
    with lost_reply(aws.s3), pytest.raises(Conflict):
        write()


def test_who_may_not_read_what_is_stored_takes_it_for_that_of_another(outputs, aws, on_call):
    def forbid(params):
        raise refusal("AccessDenied", "GetObject")

    on_call(aws.s3, "GetObject", forbid)
    with lost_reply(aws.s3):
        assert not outputs.put_prediction(Prediction.classified(IMAGE, [("tabby", 0.9)]))
    assert outputs.answered(IMAGE.request_id) == [IMAGE]


def test_a_key_whose_replies_were_lost_is_released(state, aws):
    request_id = new_request_id()
    with lost_reply(aws.s3):
        claimed = IdempotencyKeys(state).claim("idempotency/x", request_id, uploads(request_id, "cat.png"))
        assert claimed.release()


@pytest.mark.parametrize("moment", [lost_reply, lambda s3: raced(s3, times=2)], ids=["lost reply", "raced"])
def test_the_lease_is_taken_and_given_back_with_its_notes(state, aws, moment, caplog):
    shared = SharedState(state)
    for _ in range(2):  # the object is made, and then changed
        with moment(aws.s3), shared.hold(0) as lease:
            lease.state.ended_images += 1
    assert (shared.peek().ended_images, shared.peek().holder) == (2, None)
    assert "longer than its lease" not in caplog.text
