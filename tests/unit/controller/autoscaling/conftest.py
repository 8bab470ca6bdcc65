import pytest

from cloud.buckets import Bucket, InputBucket, OutputBucket
from cloud.clients import Clients
from cloud.request_queue import RequestQueue
from tests.support.world import World


@pytest.fixture
def world(
    aws: Clients, queue: RequestQueue, inputs: InputBucket, outputs: OutputBucket, state: Bucket
) -> World:
    return World(aws, queue, inputs, outputs, state)
