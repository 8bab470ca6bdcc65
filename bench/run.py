"""Measures from outside what the whole system does with real photos, in one run.

    .venv/bin/python -m bench.run [--photos DIR]

It starts the system as `make run` does, and prints a table. bench/README.md says how to read it.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles
from typing import Any

import psutil

from bench.arguments import parser_of
from bench.photos import PHOTOS, different_photos
from local.__main__ import FALLBACK
from local.driver import ROOT, System, eventually, running

SINGLES = 50
BURST, CLIENTS = 200, 100
LARGE_REQUEST = 100


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of JPEG files (default: scikit-image's photos)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "output") as system:
        files = photo_files(options.photos, Path(folder))
        with peak_memory(system) as memory:
            cold = measure_cold(system, files)
            singles = measure_singles(system, files)
            burst, wrong = measure_burst(system, files)
            calls = measure_calls(system, files)
        bare = measure_bare(system, files)
        cold["100 requests, one new photo each, from zero"] = measure_rush(Path(folder) / "rush")
        report(bare, cold, singles, burst, count_wrong(wrong, bare["labels"]), calls, memory)


def photo_files(given: Path | None, folder: Path) -> list[Path]:
    photos = folder / "photos"
    photos.mkdir()
    found = {path.stem: path.read_bytes() for path in sorted(given.glob("*.jpg"))} if given else None
    for name, data in (found or {name: data for name, (data, _) in PHOTOS.items()}).items():
        (photos / f"{name}.jpg").write_bytes(data)
    return sorted(photos.iterdir())


def post(system: System, *files: Path) -> dict[str, Any]:
    reply = system.post(*((file.name, file.read_bytes()) for file in files))
    reply.raise_for_status()
    answer: dict[str, Any] = reply.json()
    return answer


def measure_cold(system: System, files: list[Path]) -> dict[str, float]:
    """Returns the seconds from a POST to the launch call and to the answer, and from it to zero instances."""
    eventually(lambda: not system.active())
    posted = time.time()
    post(system, files[0])
    answered = time.time()
    eventually(lambda: not system.active())
    lives = [life for life in system.record()["instances"] if life["launched"] > posted]
    return {
        "POST to launch call": min(life["launched"] for life in lives) - posted,
        "POST to answer, with no worker running": answered - posted,
        "last answer to first terminate call": min(life["terminate_called"] for life in lives) - answered,
        "last answer to zero instances": max(life["terminate_called"] for life in lives) - answered,
    }


def measure_singles(system: System, files: list[Path]) -> list[float]:
    """Returns the seconds from POST to answer, for one client with one photo at a time and a warm worker."""
    post(system, files[0])
    seconds = []
    for n in range(SINGLES):
        started = time.perf_counter()
        post(system, files[n % len(files)])
        seconds.append(time.perf_counter() - started)
    return seconds


def measure_burst(system: System, files: list[Path]) -> tuple[dict[str, float], list[tuple[str, str | None]]]:
    post(system, *files)  # so that workers run
    latencies: list[float] = []

    def one(n: int) -> tuple[str, str | None]:
        started = time.perf_counter()
        file = files[n % len(files)]
        answer = post(system, file)
        latencies.append(time.perf_counter() - started)
        return str(file), answer["images"][0]["label"]

    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(one, range(BURST)))
    seconds = time.perf_counter() - started
    return {
        "images per second": BURST / seconds,
        "p50": percentile(latencies, 50),
        "p99": percentile(latencies, 99),
    }, answers


def measure_rush(output: Path) -> float:
    """Returns the seconds until 100 requests at once are answered when nothing runs.

    The system may have at most 15 instances.
    """
    photos = different_photos(CLIENTS)
    with running(output, MAX_INSTANCES="15") as system, ThreadPoolExecutor(CLIENTS) as clients:
        started = time.perf_counter()
        replies = list(clients.map(lambda photo: system.post(("photo.jpg", photo)), photos))
        seconds = time.perf_counter() - started
        for reply in replies:
            reply.raise_for_status()
        return seconds


def measure_calls(system: System, files: list[Path]) -> dict[str, float]:
    """Returns the AWS calls per image of one large request, by operation."""
    eventually(lambda: not system.active())
    before = system.record()["calls"]
    post(system, *(files[n % len(files)] for n in range(LARGE_REQUEST)))
    eventually(lambda: not system.active())
    after = system.record()["calls"]
    return {
        f"{service} {operation}": (count - before.get(service, {}).get(operation, 0)) / LARGE_REQUEST
        for service, operations in after.items()
        for operation, count in operations.items()
        if count > before.get(service, {}).get(operation, 0)
    }


def measure_bare(system: System, files: list[Path]) -> dict[str, Any]:
    fallback = FALLBACK if FALLBACK["MODEL"] in system.log() else {}
    done = subprocess.run(
        [sys.executable, "-m", "bench.bare_model", files[0].parent, "100"],
        cwd=ROOT,
        env=os.environ | fallback,
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    found["labels"] = dict(zip(map(str, files), found["labels"], strict=True))
    return found


def count_wrong(answers: list[tuple[str, str | None]], labels: dict[str, str]) -> int:
    return sum(labels[file] != label for file, label in answers)


@contextlib.contextmanager
def peak_memory(system: System) -> Iterator[dict[str, float]]:
    """Yields the most megabytes that a process of each kind has had (VmHWM), complete after the block."""
    peaks: dict[str, float] = {}
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.25):
            for process in [psutil.Process(system.process.pid), *system.children()]:
                with contextlib.suppress(psutil.Error, OSError, StopIteration):
                    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                    line = next(x for x in status if x.startswith("VmHWM"))
                    kind = kind_of(" ".join(process.cmdline()))
                    peaks[kind] = max(peaks.get(kind, 0), int(line.split()[1]) / 1024)

    thread = threading.Thread(target=sample)
    thread.start()
    yield peaks
    over.set()
    thread.join()


def kind_of(command: str) -> str:
    kinds = {
        "gunicorn": "controller",
        "-m worker": "worker",
        "-m local": "local AWS",
        "processes.py": "guardian",
    }
    return next((kind for words, kind in kinds.items() if words in command), "shell")


def percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def report(
    bare: dict[str, Any],
    cold: dict[str, float],
    singles: list[float],
    burst: dict[str, float],
    wrong: int,
    calls: dict[str, float],
    memory: dict[str, float],
) -> None:
    print(f"\n{bare['model']}, {os.cpu_count()} cores\n")
    rows = [
        ("bare model, one image, p50", f"{percentile(bare['singles'], 50) * 1000:8.0f} ms"),
        ("system, one image, worker running, p50", f"{percentile(singles, 50) * 1000:8.0f} ms"),
        ("system, one image, worker running, p99", f"{percentile(singles, 99) * 1000:8.0f} ms"),
        ("bare model, batches, all cores", f"{bare['images_per_second']:8.1f} images/s"),
        (f"system, {BURST} images from {CLIENTS} clients", f"{burst['images per second']:8.1f} images/s"),
        ("    p50 of a request", f"{burst['p50'] * 1000:8.0f} ms"),
        ("    p99 of a request", f"{burst['p99'] * 1000:8.0f} ms"),
        ("    labels other than the bare model's", f"{wrong:8d}"),
        *((name, f"{seconds * 1000:8.0f} ms") for name, seconds in cold.items()),
        (f"AWS calls per image, {LARGE_REQUEST} in one request", f"{sum(calls.values()):8.2f}"),
        *((f"    {name}", f"{count:8.2f}") for name, count in sorted(calls.items(), key=lambda c: -c[1])),
        *((f"peak memory of a {kind}", f"{peak:8.0f} MB") for kind, peak in sorted(memory.items())),
    ]
    for name, value in rows:
        print(f"{name:48}{value}")


if __name__ == "__main__":
    main()
