from datetime import timedelta
from io import BytesIO
from threading import Thread

import pytest

from cloud.clock import now
from cloud.errors import CloudError, Conflict
from cloud.image_id import ImageId, shard_and_time
from cloud.prediction import Prediction
from controller.image_requests.journal import RENEW_SECONDS, Journal, Marker
from tests.support.aws_errors import refusal


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def make_journal(inputs, outputs, state, clock):
    return lambda: Journal(state, inputs, outputs, lambda: clock[0])


@pytest.fixture
def journal(make_journal) -> Journal:
    return make_journal()


@pytest.fixture
def puts(aws, on_call) -> list[str]:
    """The keys of the objects that are written."""
    found: list[str] = []
    on_call(aws.s3, "PutObject", lambda params: found.append(params["Key"]))
    return found


def names(journal: Journal) -> list[str]:
    """The names of the markers, without what makes each of them different from the others."""
    return [marker.name.partition("-")[0] for marker in journal.markers()]


def request(journal: Journal, second: int, rest: str = "ab") -> str:
    return f"{journal.shard}{0x6B000000 + second:08x}{rest * 9}"


def image(request_id: str, number: int = 0) -> ImageId:
    return ImageId.make(request_id, number, "cat.jpg")


def store(journal: Journal, *image_ids: ImageId) -> None:
    for image_id in image_ids:
        journal.inputs.put_image(image_id, BytesIO(b"x"), "image/png")


def answer(journal: Journal, *image_ids: ImageId) -> None:
    for image_id in image_ids:
        journal.outputs.put_prediction(Prediction.failed(image_id, "broken", "…"))


def test_requests_of_one_process_share_a_marker_that_goes_with_the_last(journal, puts):
    ids = [request(journal, second) for second in range(3)]
    for request_id in ids:
        journal.open(request_id)
    assert names(journal) == [shard_and_time(ids[0])]
    assert len(puts) == 1
    for request_id in ids:
        assert len(journal.markers()) == 1
        journal.close(request_id)
    assert journal.markers() == []


def test_what_waits_is_what_is_stored_and_not_answered_since_the_oldest_request(journal):
    old, first, second = (request(journal, n) for n in range(3))
    store(journal, image(old), *(image(r, n) for r in (first, second) for n in range(2)))
    journal.open(first)
    answer(journal, image(first, 0), image(second, 1))
    (marker,) = journal.markers()
    waiting = journal.images(marker).waiting
    assert list(waiting) == [image(first, 1), image(second, 0)]
    assert all(abs(now() - at) < timedelta(minutes=1) for at in waiting.values())


def test_the_images_of_other_processes_are_not_read(journal, make_journal):
    other = make_journal()
    store(journal, image(request(other, 1)))
    journal.open(request(journal, 0))
    (marker,) = journal.markers()
    assert journal.images(marker).waiting == {}


def test_of_two_requests_of_one_second_the_one_that_sorts_first_may_come_later(journal, puts):
    early, late = request(journal, 1, "11"), request(journal, 1, "ee")
    for request_id in (late, early):
        journal.open(request_id)
        store(journal, image(request_id))
    (marker,) = journal.markers()
    assert list(journal.images(marker).waiting) == [image(early), image(late)]


def test_a_request_that_seems_older_than_the_marker_gets_another_marker(journal):
    """The clock of the host was set back."""
    journal.open(request(journal, 100))
    journal.open(request(journal, 1))
    assert names(journal) == [shard_and_time(request(journal, 1))]


def test_a_marker_is_written_again_when_it_is_old_and_moves_on_to_the_oldest_that_waits(journal, clock, puts):
    journal.open(request(journal, 1))
    journal.open(request(journal, 2))
    journal.close(request(journal, 1))
    clock[0] += RENEW_SECONDS
    journal.open(request(journal, 3))
    assert names(journal) == [shard_and_time(request(journal, 2))]
    clock[0] += RENEW_SECONDS
    journal.open(request(journal, 4))
    assert names(journal) == [shard_and_time(request(journal, 2))]
    puts = [key for key in puts if key.startswith("open/")]
    assert len(puts) == 3


def test_a_marker_that_cannot_be_written_refuses_the_request_and_no_other(journal, aws, on_call):
    journal.open(request(journal, 1))

    def refuse(params):
        raise refusal("SlowDown", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    with pytest.raises(CloudError, match="SlowDown"):
        journal.open(request(journal, 0))
    journal.open(request(journal, 2))
    assert names(journal) == [shard_and_time(request(journal, 1))]


def test_a_marker_that_cannot_be_deleted_is_replaced_as_s3_may_have_deleted_it(journal, aws, on_call, puts):
    failures = []

    def refuse(params):
        if not failures:
            failures.append(1)
            raise refusal("SlowDown", "DeleteObject")

    on_call(aws.s3, "DeleteObject", refuse)
    journal.open(request(journal, 1))
    with pytest.raises(CloudError, match="SlowDown"):
        journal.close(request(journal, 1))
    journal.open(request(journal, 2))
    assert len(puts) == 2
    journal.close(request(journal, 2))
    assert names(journal) == [shard_and_time(request(journal, 1))]


def test_requests_that_come_at_once_share_one_write(journal, puts):
    threads = [Thread(target=journal.open, args=[request(journal, 1, f"{n:02x}")]) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert puts == [marker.key for marker in journal.markers()]
    assert len(puts) == 1


def test_a_request_that_another_process_began_has_its_own_marker(journal, make_journal):
    taken_over = request(make_journal(), 1)
    journal.hold(taken_over)
    assert names(journal) == [taken_over]
    journal.close(taken_over)
    assert journal.markers() == []


def test_a_request_that_is_opened_and_held_is_noted_until_it_is_closed_twice(journal):
    """Two POSTs with one idempotency key may upload it."""
    one = request(journal, 1)
    store(journal, image(one))
    journal.open(one)
    journal.hold(one)
    journal.close(one)
    assert [list(journal.images(marker).waiting) for marker in journal.markers()] == [[image(one)]]
    journal.close(one)
    assert journal.markers() == []


def test_a_request_is_held_once_and_waits_since_then(journal, monkeypatch):
    one = request(journal, 1)
    store(journal, image(one, 0), image(one, 1))
    journal.hold(one, IfNoneMatch="*")
    with pytest.raises(Conflict):
        journal.hold(one, IfNoneMatch="*")
    answer(journal, image(one, 1))
    (marker,) = journal.markers()
    later = Marker(marker.name, marker.written_at + timedelta(hours=1))
    assert journal.images(later).waiting == {image(one, 0): later.written_at}
    journal.release(one)
    journal.release(one)
    assert journal.markers() == []


def test_a_request_that_is_left_waiting_no_longer_holds_the_marker_of_its_process(journal):
    left, other = request(journal, 1), request(journal, 2)
    journal.open(left)
    journal.leave(left)
    assert names(journal) == [left]
    journal.open(other)
    assert names(journal) == [left, shard_and_time(other)]
    journal.close(other)
    assert names(journal) == [left]


def test_a_request_that_cannot_be_left_waiting_leaves_the_marker_of_its_process(journal, aws, on_call):
    """S3 takes no marker of its own. Recovery deletes the shared one when nothing waits any more."""
    down = []

    def refuse(params):
        if down:
            raise refusal("SlowDown", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    first, second = request(journal, 1), request(journal, 2)
    journal.open(first)
    journal.open(second)
    down.append(1)
    journal.leave(first)
    journal.close(second)
    (marker,) = journal.markers()
    assert marker.after == shard_and_time(first)
    journal.forget(marker)
    assert journal.markers() == [], "it is nobody's any more"


def test_a_request_that_never_had_a_marker_is_noted_with_the_next_one(journal, aws, on_call):
    """S3 has taken some of its images, and then nothing any more."""
    down = [1]

    def refuse(params):
        if down:
            raise refusal("SlowDown", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    first, second = request(journal, 1), request(journal, 2)
    with pytest.raises(CloudError):
        journal.open(first)
    journal.leave(first)
    down.clear()
    journal.open(second)
    journal.close(second)
    (marker,) = journal.markers()
    assert marker.after == shard_and_time(first)
    journal.open(request(journal, 3))
    journal.close(request(journal, 3))
    assert journal.markers() == [marker]


def test_a_marker_is_forgotten_unless_it_is_that_of_the_process_itself(journal, make_journal):
    other = make_journal()
    journal.open(request(journal, 1))
    other.open(request(other, 1))
    for marker in journal.markers():
        journal.forget(marker)
    assert names(journal) == [shard_and_time(request(journal, 1))]


def test_who_forgets_an_old_marker_does_not_delete_the_one_that_replaces_it(journal, make_journal, clock):
    journal.open(request(journal, 1))
    (old,) = journal.markers()
    clock[0] += RENEW_SECONDS
    journal.open(request(journal, 2))
    make_journal().forget(old)
    assert names(journal) == [shard_and_time(request(journal, 1))]


def test_a_process_whose_marker_was_forgotten_writes_it_again_in_time(journal, make_journal, clock):
    other = make_journal()
    journal.open(request(journal, 1))
    (marker,) = other.markers()
    other.forget(marker)
    clock[0] += RENEW_SECONDS
    journal.open(request(journal, 2))
    assert names(journal) == [shard_and_time(request(journal, 1))]
