import pytest

from cloud.batches.store import BatchStore
from cloud.buckets import Bucket
from controller.batches.keeper import Keeper
from controller.batches.lister import Lister
from controller.batches.watch import Watch
from tests.support.batch_work import batch_of, list_whole, photos
from tests.support.clocks import Clock
from tests.support.keepers import PRICE, looking_anew


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


@pytest.fixture
def clock():
    return Clock(0.0)


@pytest.fixture
def told():
    """The notices of all keepers."""
    return []


@pytest.fixture
def new_keeper(store, slices, lister, clock, told):
    """The keepers of processes, which look at S3 anew each time."""

    return lambda: looking_anew(
        Keeper(store, slices, Watch(store, PRICE), lister, tell=told.append, clock=clock)
    )


@pytest.fixture
def keeper(new_keeper):
    return new_keeper()


@pytest.fixture
def begin(store, aws, lister):
    def begin(*names, **more):
        batch = batch_of(**more)
        photos(aws.s3, *names)
        store.put(batch)
        list_whole(lister, batch)
        return batch

    return begin
