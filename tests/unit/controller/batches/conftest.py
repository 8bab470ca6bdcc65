import pytest

from cloud.batches.store import BatchStore, queue_name
from cloud.buckets import Bucket
from cloud.provision import make_queue
from cloud.request_queue import RequestQueue
from controller.batches.lister import Lister
from tests.support.batch_work import SOURCE


@pytest.fixture
def store(aws, settings):
    aws.s3.create_bucket(Bucket=SOURCE)
    return BatchStore(Bucket(aws.s3, settings.state_bucket), Bucket(aws.s3, settings.output_bucket))


@pytest.fixture
def slices(aws, settings):
    """The queue of slices."""
    make_queue(aws.sqs, queue_name(settings.request_queue))
    return RequestQueue(aws.sqs, queue_name(settings.request_queue))


@pytest.fixture
def lister(aws, store, slices):
    return Lister(aws.s3, store, slices)
