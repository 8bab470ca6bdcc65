"""Measures one worker, run as `python -m worker`, whose buckets and queue are some milliseconds away.

    .venv/bin/python -m bench.worker [--photos DIR]

It prints tables and writes bench/plots/worker.png. bench/README.md says how to read them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.arguments import parser_with_photos
from bench.photos import different_photos
from bench.stand_in_process import ask, environment, stand_in
from bench.start import print_start
from local.driver import ROOT

DELAYS = (0, 10, 30, 60)  # milliseconds
PHOTOS, REPEATS, ROUNDS = 300, 5, 3
LOOP_IMAGES = 600
SECONDS = 300  # the longest run of a worker
PLOT = ROOT / "bench" / "plots" / "worker.png"


@dataclass(frozen=True)
class Run:
    """What a worker did in one run."""

    images_per_second: float
    """From the first receive to the last delete."""
    steady: float
    """The same, but from the first quarter of the images to the last tenth."""
    cpu_ms: float
    """Processor time per image, without the start."""
    start_seconds: float
    """From the start of the process to its first receive."""
    resident_mb: float
    """The memory at the first receive, without that of its decoders."""
    decoders_mb: float
    """The memory of all decoders after the last image. What they share is counted once for each."""
    peak_mb: float
    calls: dict[str, float]
    """Calls per image."""
    labels: dict[str, str]
    stand_in_cpu_ms: float


def prepare(folder: Path, photos: Sequence[bytes]) -> None:
    """Writes the photos that a worker is to classify into the folder, and bakes the model."""
    write_photos(folder, photos)
    subprocess.run([sys.executable, "-m", "worker.bake"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def write_photos(folder: Path, photos: Sequence[bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for number, photo in enumerate(photos):
        (folder / f"{number:04}.jpg").write_bytes(photo)


def main() -> None:
    parser = parser_with_photos(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"(default: {ROUNDS})")
    options = parser.parse_args()
    os.environ.setdefault("MODEL", "efficientnet_lite0")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = different_photos(PHOTOS, options.photos)
        size = sum(map(len, photos)) / len(photos) / 1000
        print(f"{len(photos)} photos of {size:.0f} KB, {os.cpu_count()} cores")
        prepare(folder, photos)
        runs: dict[int, list[Run]] = {delay: [] for delay in DELAYS}
        loops: dict[str, list[dict[str, Any]]] = {"openvino": [], "torch": []}
        for number in range(options.rounds):
            for engine, found in loops.items():
                found.append(bare_model(folder, engine))
            for delay in DELAYS if number % 2 == 0 else reversed(DELAYS):
                runs[delay].append(run_worker(folder, delay / 1000))
        with_torch = run_worker(folder, 0.03, ENGINE="torch")
        report(runs, loops, with_torch)
        draw(runs, loops)
    print_start("openvino")
    print_start("torch")


def bare_model(folder: Path, engine: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.bare_model", str(folder), str(LOOP_IMAGES)]
    environment = os.environ | {"ENGINE": engine}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_worker(
    folder: Path,
    delay: float,
    messages: int = PHOTOS * REPEATS,
    stand_in_module: str = "bench.stand_in",
    worker_module: str = "worker",
    **settings: str,
) -> Run:
    """Lets a worker classify so many images, which are all photos in turn. `delay` is in seconds.

    Raises RuntimeError when it does not end as it should.
    """
    with stand_in(folder, delay, messages, stand_in_module) as url:
        started = time.time()
        worker = subprocess.Popen(
            [sys.executable, "-m", worker_module],
            cwd=ROOT,
            env=os.environ | environment(url) | settings,
            stderr=subprocess.DEVNULL,
        )
        try:
            ask(f"{url}/_watch", str(worker.pid).encode())
            if status := worker.wait(SECONDS):
                raise RuntimeError(f"the worker has ended with status {status}")
            return evaluate(ask(f"{url}/_record"), started, messages)
        finally:
            worker.kill()


def evaluate(record: dict[str, Any], started: float, messages: int) -> Run:
    start, end = record["start"], record["end"]
    counts, done = [], 0
    for at, count in record["deleted"]:
        done += count
        counts.append((at, done))
    first = next(one for one in counts if one[1] >= messages / 4)
    last = next(one for one in counts if one[1] >= messages * 0.9)
    return Run(
        images_per_second=messages / (end["at"] - start["at"]),
        steady=(last[1] - first[1]) / (last[0] - first[0]),
        cpu_ms=(end["cpu"] - start["cpu"]) / messages * 1000,
        start_seconds=start["at"] - started,
        resident_mb=start["resident"],
        decoders_mb=end["decoders"],
        peak_mb=end["peak"],
        calls={call: count / messages for call, count in record["calls"].items()},
        labels=record["labels"],
        stand_in_cpu_ms=record["own_cpu"] / messages * 1000,
    )


def report(runs: dict[int, list[Run]], loops: dict[str, list[dict[str, Any]]], with_torch: Run) -> None:
    print(f"\n{loops['openvino'][0]['model']}; medians of {len(runs[0])} rounds\n")
    print(f"{'worker':24}{'images/s':>10}{'steady':>10}{'CPU/image':>12}", end="")
    print(f"{'start':>10}{'at start':>10}{'peak':>10}{'decoders':>10}")
    for delay, found in runs.items():
        print_run(f"AWS {delay} ms away", found)
    print_run("torch, 30 ms away", [with_torch])
    own = median(loop["images_per_second"] for loop in loops["openvino"])
    torch = median(loop["images_per_second"] for loop in loops["torch"])
    most = median(loop["images_per_second_on_all_cores"] for loop in loops["openvino"])
    print(f"\n{'tight loop, decoding and classifying in turn':48}{own:8.1f} images/s")
    print(f"{'the same in a thread per core, the most there is':48}{most:8.1f} images/s")
    print(f"{'tight loop of torch':48}{torch:8.1f} images/s")
    rates = {delay: median(run.images_per_second for run in found) for delay, found in runs.items()}
    print(f"\n{'worker at 30 ms ÷ tight loop of its engine':48}{rates[30] / own:8.2f}")
    print(f"{'worker at 30 ms ÷ tight loop of torch':48}{rates[30] / torch:8.2f}")
    print(f"{'worker at 60 ms ÷ worker at 0 ms':48}{rates[60] / rates[0]:8.2f}")
    wrong = sum(
        different_labels(run, loops["torch"][0]["labels"]) for found in runs.values() for run in found
    )
    print(f"{'labels other than those of torch in fp32':48}{wrong:8d}")
    print(f"{'processor time of the stand-in an image':48}{runs[30][0].stand_in_cpu_ms:8.1f} ms")
    print("\ncalls per image, 30 ms away")
    for call, count in sorted(runs[30][0].calls.items(), key=lambda item: -item[1]):
        print(f"    {call:44}{count:8.2f}")


def print_run(name: str, runs: list[Run]) -> None:
    def middle(value: str) -> float:
        return median(getattr(run, value) for run in runs)

    print(
        f"{name:24}{middle('images_per_second'):10.1f}{middle('steady'):10.1f}{middle('cpu_ms'):9.1f} ms"
        f"{middle('start_seconds') * 1000:7.0f} ms{middle('resident_mb'):7.0f} MB{middle('peak_mb'):7.0f} MB"
        f"{middle('decoders_mb'):7.0f} MB"
    )


def different_labels(run: Run, labels: list[str]) -> int:
    return sum(labels[int(number)] != label for number, label in run.labels.items())


def draw(runs: dict[int, list[Run]], loops: dict[str, list[dict[str, Any]]]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    delays = list(runs)
    left.plot(delays, [median(r.images_per_second for r in runs[d]) for d in delays], "o-", label="worker")
    for engine, found in loops.items():
        loop = median(one["images_per_second"] for one in found)
        left.axhline(loop, linestyle=":", color="grey")
        left.annotate(f"tight loop, {engine}", (delays[-1], loop), ha="right", va="bottom")
    left.set(xlabel="delay of each AWS call (ms)", ylabel="images/s", ylim=(0, None))
    right.bar([str(d) for d in delays], [median(r.cpu_ms for r in runs[d]) for d in delays])
    right.set(xlabel="delay of each AWS call (ms)", ylabel="processor time per image (ms)")
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=110)
    print(f"\n{PLOT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
