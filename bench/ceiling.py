"""Measures the most that one worker does, however fast its decoders and its model are.

    .venv/bin/python -m bench.ceiling [--photos DIR]

It runs bench.weightless_worker. bench/README.md says how to read the table.
"""

import tempfile
from pathlib import Path
from statistics import median

from bench.arguments import parser_with_photos
from bench.batch_worker import DELAY, work_on_a_batch
from bench.photos import different_photos
from bench.worker import PHOTOS, Run, run_worker, write_photos

IMAGES, ROUNDS = 3000, 3
MODULE = "bench.weightless_worker"


def main() -> None:
    parser = parser_with_photos(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"(default: {ROUNDS})")
    options = parser.parse_args()
    runs: dict[str, list[Run]] = {"images of requests": [], "images of a batch": []}
    with tempfile.TemporaryDirectory() as name:
        write_photos(Path(name), different_photos(PHOTOS, options.photos))
        for _ in range(options.rounds):
            runs["images of requests"].append(run_worker(Path(name), DELAY, IMAGES, worker_module=MODULE))
            runs["images of a batch"].append(work_on_a_batch(Path(name), IMAGES, worker_module=MODULE))
    print(f"medians of {options.rounds} rounds; {IMAGES} images, AWS {DELAY * 1000:.0f} ms away\n")
    print(f"{'':24}{'images/s':>10}{'CPU/image':>12}{'cores':>8}")
    for name, found in runs.items():
        rate, cpu = median(run.steady for run in found), median(run.cpu_ms for run in found)
        print(f"{name:24}{rate:10.1f}{cpu:9.1f} ms{rate * cpu / 1000:8.2f}")


if __name__ == "__main__":
    main()
