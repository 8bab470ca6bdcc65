import time

from controller.autoscaling.shared_state import ACT_BEFORE_SECONDS
from controller.batches.loads import Loads
from controller.batches.watch import Watch
from tests.support.batch_work import batch_of


def test_many_open_batches_are_read_before_a_run_of_the_autoscaler_is_too_late(store, aws, on_call):
    """Each takes three calls, one after the other."""
    for number in range(40):
        store.put(batch_of(batch_id=f"{number:032x}"))
    on_call(aws.s3, "ListObjectsV2", lambda params: time.sleep(0.1))
    began = time.monotonic()
    assert len(Loads(store, Watch(store, 0.1)).get()) == 40
    assert time.monotonic() - began < ACT_BEFORE_SECONDS / 2
