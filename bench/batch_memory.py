"""Measures the memory that a batch takes in the controller, by the number of its images.

    .venv/bin/python -m bench.batch_memory [--images 1000,1000000]

The listing and the table of results run in a process of their own for each number. The images are made up as
they are read, so that nothing but the code itself needs memory. bench/README.md says how to read the table.
"""

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil

from bench.arguments import parser_of
from bench.large_batch import EmptyBucket, LargeResults, LargeSource, SentSlices
from bench.processes import peak_megabytes
from cloud.batches.batch import Batch
from cloud.batches.store import BatchStore
from cloud.image_id import new_request_id
from controller.batches.lister import Lister
from controller.batches.rows import outcomes
from controller.web.batch_tables import as_csv

ONE = "--of"
"""The option of the process that runs one of ACTS, and prints what it took."""


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--images", default="1000,100000,1000000", help="numbers of images, with commas")
    parser.add_argument(ONE, choices=ACTS, help="run only this, and print megabytes and seconds")
    options = parser.parse_args()
    counts = [int(count) for count in options.images.split(",")]
    if options.of:
        print(*measure(options.of, counts[0]))
        return
    print(f"{'images':>9}" + "".join(f"{name:>32}" for name in ACTS))
    for count in counts:
        print(f"{count:9}" + "".join(f"{in_a_process(name, count):>32}" for name in ACTS), flush=True)


def in_a_process(name: str, images: int) -> str:
    command = [sys.executable, "-m", "bench.batch_memory", ONE, name, "--images", str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    megabytes, seconds = map(float, done.stdout.split())
    return f"{megabytes:.0f} MB, {seconds:.1f} s"


def measure(name: str, images: int) -> tuple[float, float]:
    """Returns the most megabytes that this process had, and the seconds that it took."""
    started = time.perf_counter()
    ACTS[name](images)
    return peak_megabytes(psutil.Process()), time.perf_counter() - started


def list_images(images: int) -> None:
    queue = SentSlices()
    store = BatchStore(EmptyBucket(), EmptyBucket())  # type: ignore[arg-type]
    batch = Batch(batch_id=new_request_id(), source="s3://lab/photos/")
    for _ in Lister(LargeSource(images), store, queue).pages(batch):  # type: ignore[arg-type]
        pass
    assert sum(queue.sizes) == images


def write_table(images: int) -> None:
    pieces: Iterator[str] = as_csv(outcomes(LargeResults(images), new_request_id()), 5)  # type: ignore[arg-type]
    assert sum(piece.count("\r\n") for piece in pieces) == images + 1


ACTS = {"list": list_images, "table": write_table}

if __name__ == "__main__":
    main()
