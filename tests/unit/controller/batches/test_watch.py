import gc

import pytest

from cloud.batches.batch import Row
from cloud.batches.slice import Slice
from controller.batches import watch as module
from controller.batches.progress import NEWEST
from controller.batches.watch import Watch
from tests.support.batch_work import batch_of, tabby

ROWS = 5


@pytest.fixture
def running(store):
    """The ids of some batches that run, each of which has as many new results as are shown."""
    ids = [f"{number:032x}" for number in range(4)]
    for batch_id in ids:
        store.put(batch_of(batch_id=batch_id))
        for number in range(NEWEST):
            part = Slice.of(batch_id, 0, range(number * ROWS, (number + 1) * ROWS))
            store.put_rows(part, [tabby(n, f"{n}.jpg") for n in part.positions], 1.0)
    return ids


def look(watch: Watch, batch_id: str) -> int:
    """Returns how many images the newest results have, as somebody sees it who looks at the batch."""
    watched = watch.of(batch_id)
    assert watched
    return watched.findings(watched.progress()).classified


def test_who_looks_at_many_batches_that_run_leaves_few_rows_in_memory(store, running, monkeypatch):
    """The newest rows of a batch take up to 60 MB with all labels, and 100 batches may be open."""
    monkeypatch.setattr(module, "MOST_RESULTS", NEWEST)
    watch = Watch(store, 0.1)
    before = rows_in_memory()
    assert [look(watch, batch_id) for batch_id in running] == [NEWEST * ROWS] * len(running)
    assert rows_in_memory() - before <= NEWEST * ROWS


def test_the_newest_results_are_read_once(store, running, monkeypatch, aws, on_call):
    monkeypatch.setattr(module, "FINDINGS_SECONDS", 0.0)
    monkeypatch.setattr(module, "LARGEST_SHARE", 1.0)
    watch = Watch(store, 0.1)
    look(watch, running[0])
    read: list[str] = []
    on_call(aws.s3, "GetObject", lambda params: read.append(params["Key"]))
    assert look(watch, running[0]) == NEWEST * ROWS
    assert not [key for key in read if "/results/" in key]


def rows_in_memory() -> int:
    gc.collect()
    return sum(type(one) is Row for one in gc.get_objects())  # isinstance may make an object warn
