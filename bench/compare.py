"""Compares the system with what a user would pick instead of it, and with the one that it succeeds.

    .venv/bin/python -m bench.compare [--photos DIR] [--only "the system,LitServe"] [--engines torch,openvino]

These are LitServe, Mosec, BentoML, Ray Serve and Celery, each as its documentation has a user write it, and
the plain system that this one succeeds (bench/servers/). They run in an interpreter of their own (--python),
which has the packages of bench/requirements.txt. In the first table, they run the network with torch, in the
second with the engine of the workers. Each contender runs with one worker and with two (the slow Celery with
two), in turns with the others, and the better run counts. bench/README.md says how to read the tables.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from itertools import islice
from pathlib import Path

import psutil

from bench.arguments import parser_with_photos
from bench.client import Post, Reply, percentile, send, send_all
from bench.contenders import CannotServe, Contender, Serving, contenders
from bench.photos import different_photos
from bench.processes import cpu_seconds, peak_megabytes
from local.driver import ROOT

CLIENTS, BURST = 100, 200
WARM, SINGLES, MANY = 100, 20, 200
AT_ONCE = 32  # requests of the one client with many photos, where a request has one
START_SECONDS = 60


@dataclass(frozen=True)
class Run:
    contender: str
    workers: int
    first: float
    """Seconds from its start, with nothing running, until its first answer."""
    single: float
    """Seconds of a request, of one client with one photo at a time; the median."""
    burst: float
    """Images per second of 100 clients with one photo at a time."""
    p50: float
    """Seconds of a request of these clients."""
    p99: float
    cpu_ms: float
    """Processor time per image meanwhile."""
    many: float
    """Images per second of one client with 200 photos at once."""
    peak_mb: float
    """The sum of the largest memory of each process."""
    labels: tuple[str, ...]


def main() -> None:
    parser = parser_with_photos(__doc__)
    parser.add_argument("--python", default=".venv-bench/bin/python", help="(default: %(default)s)")
    parser.add_argument("--only", default="", help="names of contenders, with commas (default: all)")
    parser.add_argument("--engines", default="torch,openvino", help="(default: %(default)s)")
    options = parser.parse_args()
    if not Path(options.python).exists():
        sys.exit(f"{options.python} is missing: run `make .venv-bench/.installed`, or use --python.")
    python = str(Path(options.python).absolute())
    os.environ.setdefault("MODEL", "efficientnet_lite0")
    subprocess.run([sys.executable, "-m", "worker.bake"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    names = [name for name in options.only.split(",") if name]
    found = [one for one in contenders(python) if one.name in names or not names]
    found = [one for one in found if is_installed(one, python)]
    photos = different_photos(WARM + SINGLES + BURST + MANY, options.photos)
    print(f"{psutil.cpu_count()} cores, {len(photos)} photos, all different")
    for engine in options.engines.split(","):
        report(engine, list(runs(found, engine, photos)))


def is_installed(contender: Contender, python: str) -> bool:
    """Returns whether the interpreter has what the contender needs, and says why if it has not."""
    if not contender.package:
        return True
    tried = subprocess.run([python, "-c", f"import {contender.package}"], capture_output=True, text=True)
    if tried.returncode:
        print(f"Without {contender.name}: {tried.stderr.strip().splitlines()[-1]}")
    return tried.returncode == 0


def runs(found: Sequence[Contender], engine: str, photos: Sequence[bytes]) -> Iterator[Run]:
    for workers in sorted({number for contender in found for number in contender.workers}):
        for contender in [one for one in found if workers in one.workers]:
            try:
                yield measure(contender, workers, engine, photos)
            except CannotServe as error:
                print(f"Without {contender.name}, {workers} workers: {error}")


def measure(contender: Contender, workers: int, engine: str, photos: Sequence[bytes]) -> Run:
    environment = {"MODEL": os.environ["MODEL"], "ENGINE": engine, "WORKERS": str(workers)}
    left = iter(photos)

    def posts(images: int) -> list[Post]:
        return [contender.post_of([photo]) for photo in islice(left, images)]

    warm, singles, burst = posts(WARM), posts(SINGLES), posts(BURST)
    rest = list(left)
    many = [contender.post_of(rest)] if contender.many else [contender.post_of([one]) for one in rest]
    started = time.perf_counter()
    with contender.start(environment) as serving:
        first_answer(serving, warm[0])
        first = time.perf_counter() - started
        check(send_all(serving.url, warm[1:], len(warm) - 1)[0])
        alone, _ = send_all(serving.url, singles, 1)
        cpu = cpu_by_process(serving)
        together, seconds = send_all(serving.url, burst, CLIENTS)
        cpu_ms = sum(taken - cpu.get(pid, 0) for pid, taken in cpu_by_process(serving).items()) / BURST * 1000
        of_one, seconds_of_one = send_all(serving.url, many, min(AT_ONCE, len(many)))
        peak_mb = sum(value for _, value in each(serving, peak_megabytes))
    replies = check([*alone, *together, *of_one])
    return Run(
        contender.name,
        workers,
        first,
        percentile([reply.seconds for reply in alone], 50),
        BURST / seconds,
        percentile([reply.seconds for reply in together], 50),
        percentile([reply.seconds for reply in together], 99),
        cpu_ms,
        MANY / seconds_of_one,
        peak_mb,
        tuple(label for reply in replies for label in contender.labels(reply.body)),
    )


def first_answer(serving: Serving, post: Post) -> None:
    """Asks until there is an answer. Raises CannotServe when the server ends, or has none in time."""
    latest = time.monotonic() + START_SECONDS
    while time.monotonic() < latest:
        serving.check()
        with suppress(OSError, HTTPException):
            if send(serving.url, post).status == 200:
                return
        time.sleep(0.05)
    raise CannotServe(f"there is no answer within {START_SECONDS} s")


def check(replies: list[Reply]) -> list[Reply]:
    """Raises CannotServe unless every reply is an answer."""
    for reply in replies:
        if reply.status != 200:
            raise CannotServe(f"a reply has the status {reply.status}: {reply.body[:200]!r}")
    return replies


def cpu_by_process(serving: Serving) -> dict[int, float]:
    return {process.pid: seconds for process, seconds in each(serving, cpu_seconds)}


def each(
    serving: Serving, value: Callable[[psutil.Process], float]
) -> Iterator[tuple[psutil.Process, float]]:
    """Yields the processes of the contender that have not ended meanwhile, each with a value."""
    for process in serving.processes():
        with suppress(psutil.Error, OSError, StopIteration):
            yield process, value(process)


def report(engine: str, found: list[Run]) -> None:
    """Prints the better run of each contender, in images per second of 100 clients."""
    print(f"\n{os.environ['MODEL']}; the others run it with {engine}\n")
    names = ("images/s", "p50", "p99", "CPU/image", "one photo", f"{MANY} at once", "peak", "start", "differ")
    print(f"{'':17}{'workers':>8}" + "".join(f"{name:>12}" for name in names))
    best = {run.contender: run for run in sorted(found, key=lambda run: run.burst)}
    expected = next(iter(found)).labels
    for name in dict.fromkeys(run.contender for run in found):
        run = best[name]
        differ = sum(one != other for one, other in zip(run.labels, expected, strict=True))
        print(
            f"{name:17}{run.workers:>8}{run.burst:>12.1f}{run.p50 * 1000:>9.0f} ms{run.p99 * 1000:>9.0f} ms"
            f"{run.cpu_ms:>9.1f} ms{run.single * 1000:>9.1f} ms{run.many:>10.1f}/s{run.peak_mb:>9.0f} MB"
            f"{run.first:>10.1f} s{differ:>12}"
        )
    if {"the system", "LitServe"} <= best.keys():
        system, other = best["the system"], best["LitServe"]
        print(f"\nthe system ÷ LitServe: {system.burst / other.burst:.2f} of the images per second,", end="")
        print(f" {system.single / other.single:.2f} of the time for one photo")


if __name__ == "__main__":
    main()
