from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.small_worker import Brightness
from worker.pipeline import Pipeline
from worker.work_queue import WorkQueue


def work(name: str, rank: int, labels: int = 5) -> SimpleNamespace:
    return SimpleNamespace(name=name, rank=rank, labels=labels, pixels=None, timings={})


def test_images_of_requests_pass_those_of_batches_and_each_kind_keeps_its_order():
    queue = WorkQueue()
    queue.end()
    for name, rank in (("row 1", 1), ("image 1", 0), ("row 2", 1), ("image 2", 0)):
        queue.put(work(name, rank))  # type: ignore[arg-type]
    assert [queue.get().name for _ in range(4)] == ["image 1", "image 2", "row 1", "row 2"]  # type: ignore
    assert queue.get() is None


def test_images_of_requests_and_of_batches_do_not_share_a_run_of_the_model():
    queue = WorkQueue()
    for name, rank in (("row 1", 1), ("image 1", 0), ("image 2", 0), ("row 2", 1), ("row 3", 1)):
        queue.put(work(name, rank))  # type: ignore[arg-type]
    queue.end()
    assert [one.name for one in queue.get_more(0, 4)] == ["image 1", "image 2"]
    assert queue.get_more(0, 4) == []
    assert [one.name for one in queue.get_more(1, 2)] == ["row 1", "row 2"]
    assert [one.name for one in queue.get_more(1, 2)] == ["row 3"]
    assert queue.get() is None


@pytest.mark.parametrize(("seconds", "rows"), [(0.0, 8), (0.001, 8), (0.003, 3), (0.5, 1)])
def test_rows_keep_the_model_so_shortly_that_an_image_of_a_request_hardly_waits(seconds, rows):
    class Model(Brightness):
        batch_sizes = tuple(range(1, 9))

    pipeline = Pipeline(Model(), None, [])  # type: ignore[arg-type]
    pipeline.seconds_an_image = seconds
    assert pipeline.most_at_once(work("row", 1)) == rows  # type: ignore[arg-type]
    assert pipeline.most_at_once(work("image", 0)) == 8  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "milliseconds", "rows"), [(1, 4, 8), (1, 30, 8), (20, 4, 64), (64, 30, 8)]
)
def test_rows_fill_a_batch_on_a_gpu_which_takes_no_longer_for_it(monkeypatch, images, milliseconds, rows):
    clock = iter((0, milliseconds / 1000))
    monkeypatch.setattr("worker.pipeline.time.perf_counter", lambda: next(clock))

    class Model(Brightness):
        batch_sizes = 8, 64

    works = [work("row", 1) for _ in range(images)]
    for one in works:
        one.pixels = np.zeros((8, 8, 3), np.uint8)
    pipeline = Pipeline(Model(), None, [])  # type: ignore[arg-type]
    pipeline.classify(works)  # type: ignore[arg-type]
    assert pipeline.most_at_once(work("row", 1)) == rows  # type: ignore[arg-type]


def test_each_image_gets_as_many_labels_as_it_wants_from_one_run_of_the_model():
    asked = []

    class Model(Brightness):
        def classify(self, images, labels):
            asked.append((len(images), labels))
            return [[(f"label {n}", 1 / (n + 1)) for n in range(labels)] for _ in images]

    works = [work("image", 0), work("row", 1, 20), work("row", 1, 1)]
    for one in works:
        one.pixels = b""
    tops = Pipeline(Model(), None, []).classify(works)  # type: ignore[arg-type]
    assert asked == [(3, 20)]
    assert [len(top) for top in tops] == [5, 20, 1]
