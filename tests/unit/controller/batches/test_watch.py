import gc
import tracemalloc

import pytest

from cloud.batches.batch import Row
from cloud.batches.slice import Slice
from controller.batches import watch as module
from controller.batches.findings import find
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


def test_rows_with_more_text_than_any_worker_writes_are_not_remembered(store):
    """A worker that was taken over can write so many that they would fill the memory."""
    batch_id = "f" * 32
    store.put(batch_of(batch_id=batch_id))
    long = tabby(0, "0.jpg").model_copy(update={"label": "x" * 9_000})
    for number in range(NEWEST):
        rows = [long.model_copy(update={"position": number * ROWS + n}) for n in range(ROWS - 1)]
        last = tabby(number * ROWS + ROWS - 1, "z.jpg")
        store.put_rows(Slice.of(batch_id, 0, range(number * ROWS, (number + 1) * ROWS)), [*rows, last], 1.0)
    watch = Watch(store, 0.1)
    tracemalloc.start()
    assert look(watch, batch_id) == NEWEST, "those that a worker may have written"
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 500_000


def test_labels_that_no_model_has_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("controller.batches.findings.MOST_COUNTED", 3)
    labels = ["cat", "dog", "x" * 30_000, "forged", "cat", "forged too"]
    found = find(tabby(n, f"{n}.jpg").model_copy(update={"label": label}) for n, label in enumerate(labels))
    assert found.classified == 6
    assert {one.label: one.count for one in found.labels} == {"cat": 2, "dog": 1, "x" * 200: 1}
    assert max(len(one.label) for one in found.sample) == 200


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
