"""Measures one worker, run as `python -m worker`, that works on a batch in a bucket some milliseconds away.

    .venv/bin/python -m bench.batch_worker [--photos DIR]

It prints a table beside the tight loop of the same engine. bench/README.md says how to read it.
"""

import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.arguments import parser_with_photos
from bench.photos import different_photos
from bench.stand_in_of_batches import BUCKET
from bench.worker import PHOTOS, REPEATS, Run, bare_model, different_labels, prepare, run_worker

ROUNDS = 3
DELAY = 0.03  # seconds


def main() -> None:
    parser = parser_with_photos(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"(default: {ROUNDS})")
    options = parser.parse_args()
    os.environ.setdefault("MODEL", "efficientnet_lite0")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, different_photos(PHOTOS, options.photos))
        loops, runs = [], []
        for _ in range(options.rounds):
            loops.append(bare_model(folder, "openvino"))
            runs.append(work_on_a_batch(folder, PHOTOS * REPEATS))
        report(runs, loops)


def work_on_a_batch(folder: Path, images: int, worker_module: str = "worker") -> Run:
    """Runs a worker on a batch of so many images, which are the photos in the folder again and again."""
    return run_worker(
        folder,
        DELAY,
        images,
        stand_in_module="bench.stand_in_of_batches",
        worker_module=worker_module,
        BATCH_SOURCES=f"s3://{BUCKET}",
    )


def report(runs: list[Run], loops: list[dict[str, Any]]) -> None:
    print(f"\n{loops[0]['model']}; medians of {len(runs)} rounds; {PHOTOS * REPEATS} images\n")
    rate = median(run.images_per_second for run in runs)
    own = median(loop["images_per_second"] for loop in loops)
    most = median(loop["images_per_second_on_all_cores"] for loop in loops)
    print(f"{'worker on a batch, AWS 30 ms away':52}{rate:8.1f} images/s")
    print(f"{'tight loop, decoding and classifying in turn':52}{own:8.1f} images/s")
    print(f"{'the same in a thread per core, the most there is':52}{most:8.1f} images/s")
    print(f"{'worker ÷ tight loop of its engine':52}{rate / own:8.2f}")
    print(f"{'worker ÷ the most there is':52}{rate / most:8.2f}")
    print(f"{'processor time an image':52}{median(run.cpu_ms for run in runs):8.1f} ms")
    print(f"{'that of the stand-in':52}{median(run.stand_in_cpu_ms for run in runs):8.1f} ms")
    print(f"{'peak memory':52}{median(run.peak_mb for run in runs):8.0f} MB")
    wrong = sum(different_labels(run, loop["labels"]) for run, loop in zip(runs, loops, strict=True))
    print(f"{'labels other than those of the tight loop':52}{wrong:8d}")
    print("\ncalls per image")
    for call, count in sorted(runs[0].calls.items(), key=lambda item: -item[1]):
        print(f"    {call:48}{count:8.4f}")


if __name__ == "__main__":
    main()
