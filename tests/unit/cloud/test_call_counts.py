"""Every call that AWS charges is counted once per try, and each count gets into the fleet's bill once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from cloud.call_counts import WORTH_BOOKING, CallCounts, UnbookedCalls
from cloud.errors import CloudError
from cloud.prices import MILLION_CALLS, CallKind
from tests.support.conditional_writes import handling, lost_reply


@pytest.fixture
def counts(aws):
    """What the clients call from now on."""
    found = CallCounts()
    for client in aws:
        found.follow(client.meta.events)
    yield found
    for client in aws:
        client.meta.events.unregister("response-received", found._on_try)


@pytest.fixture
def unbooked() -> UnbookedCalls:
    return UnbookedCalls(CallCounts())


def still(unbooked: UnbookedCalls) -> Counter[str]:
    _, booked = unbooked.read_with_booked(lambda: None)
    return unbooked.since(booked)


def test_the_calls_are_counted_by_what_they_cost(counts, inputs, queue, aws):
    inputs.write("key", b"body")
    inputs.read("key")
    inputs.delete("key")
    list(inputs.keys(""))
    queue.send(["a"])
    aws.ec2.describe_instances()
    assert counts.so_far() == {"s3_put": 2, "s3_get": 1, "sqs": 2}  # the queue's address is asked for, too


def test_each_try_counts_as_aws_charges_it(counts, inputs):
    with lost_reply(inputs.s3):
        inputs.write("key", b"body")
    assert counts.so_far() == {"s3_put": 2}


@pytest.mark.parametrize(
    ("error", "tries"), [(EndpointConnectionError, 1), (ConnectTimeoutError, 1), (ReadTimeoutError, 2)]
)
def test_a_try_that_has_not_reached_aws_does_not_count(counts, inputs, error, tries):
    errors = [error(endpoint_url="https://s3")]

    def fail(**_):
        if errors:
            raise errors.pop()

    with lost_reply(inputs.s3), handling(inputs.s3, "before-send", fail):
        inputs.write("key", b"body")
    assert counts.so_far() == {"s3_put": tries}


def test_calls_that_aws_refuses_count(counts, inputs):
    with pytest.raises(inputs.s3.exceptions.NoSuchKey):
        inputs.s3.get_object(Bucket=inputs.name, Key="nothing")
    assert counts.so_far() == {"s3_get": 1}


def test_no_call_of_many_threads_is_lost():
    counts = CallCounts()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: counts.add(CallKind.SQS), range(8000)))
    assert counts.so_far() == {"sqs": 8000}


def test_each_call_is_booked_once_with_the_write_that_stores_it(unbooked):
    total = Counter()
    unbooked.counts.add(CallKind.S3_GET)
    with unbooked.added_to(total):
        assert total == {"s3_get": 1, "s3_put": 1}
        unbooked.counts.add(CallKind.S3_PUT)
    assert still(unbooked) == {}
    unbooked.counts.add(CallKind.SQS)
    assert still(unbooked) == {"sqs": 1}
    with unbooked.added_to(total):
        pass
    assert total == {"s3_get": 1, "s3_put": 2, "sqs": 1}


def test_calls_stay_unbooked_when_the_total_cannot_be_stored(unbooked):
    unbooked.counts.add(CallKind.SQS)
    with pytest.raises(CloudError), unbooked.added_to(Counter()):
        raise CloudError("S3 is down")
    assert still(unbooked) == {"sqs": 1}
    total = Counter()
    with unbooked.added_to(total):
        pass
    assert total["sqs"] == 1


def test_a_reader_misses_no_call_that_is_booked_while_he_reads(unbooked):
    """The autoscaler books in its own thread."""
    stored = Counter()
    unbooked.counts.add(CallKind.SQS)

    def read():
        before = stored.copy()
        if not stored:
            with unbooked.added_to(stored):
                pass
        return before

    found, booked = unbooked.read_with_booked(read)
    assert (found + unbooked.since(booked))["sqs"] == 1


def test_a_reader_counts_no_call_twice_that_is_stored_and_not_booked_yet(unbooked):
    stored, readings, booking = Counter(), [], ExitStack()
    unbooked.counts.add(CallKind.SQS)
    booking.enter_context(unbooked.added_to(stored))

    def read():
        readings.append(stored)
        if len(readings) == 2:
            booking.close()
        return stored.copy()

    found, booked = unbooked.read_with_booked(read)
    assert (found + unbooked.since(booked))["sqs"] == 1


def test_calls_are_worth_booking_once_they_have_cost_enough(unbooked):
    for _ in range(round(WORTH_BOOKING / MILLION_CALLS[CallKind.S3_PUT] * 1_000_000) - 1):
        unbooked.counts.add(CallKind.S3_PUT)
    assert not unbooked.worth_booking()
    unbooked.counts.add(CallKind.S3_PUT)
    assert unbooked.worth_booking()
