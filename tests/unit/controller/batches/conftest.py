import pytest

from cloud.batches.store import BatchStore
from cloud.buckets import Bucket
from controller.batches.lister import Lister


@pytest.fixture
def slices(batch_queue):
    """The queue of slices."""
    return batch_queue


@pytest.fixture
def store(aws, slices, settings):
    return BatchStore(Bucket(aws.s3, settings.state_bucket), Bucket(aws.s3, settings.output_bucket))


@pytest.fixture
def lister(aws, store, slices):
    return Lister(aws.s3, store, slices)
