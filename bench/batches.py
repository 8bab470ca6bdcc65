"""Measures a batch of images that lie in S3: calls, dollars, speed, and what a person waits meanwhile.

    .venv/bin/python -m bench.batches [--images 10000] [--photos DIR]

It starts the system as `make run` does, puts the images into the bucket of `make run`, and asks for a batch.
Then it asks for another one, and uploads one photo after the other while that one runs. bench/README.md says
how to read the table.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from bench.arguments import parser_with_photos
from bench.batch_worker import work_on_a_batch
from bench.bill import Calls, calls_of, price, settle
from bench.client import percentile
from bench.photos import different_photos
from bench.run import peak_memory
from bench.worker import PHOTOS, prepare
from cloud.prices import AS_OF, INSTANCE_HOUR, INSTANCE_TYPE, REGION
from local.driver import System, eventually, running

SOURCE = "photos"  # the bucket of `make run`
SINGLES = 100  # photos that a person uploads, one after the other
REPEATS = 10  # how often a worker gets each photo while its speed is measured
LONGEST = 3600  # seconds


def main() -> None:
    parser = parser_with_photos(__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="(default: 10,000)")
    options = parser.parse_args()
    os.environ.setdefault("MODEL", "efficientnet_lite0")
    photos = different_photos(PHOTOS + 2 * SINGLES, options.photos)
    stored, own = photos[:PHOTOS], photos[PHOTOS:]
    with tempfile.TemporaryDirectory() as name:
        with running(Path(name) / "output", MAX_INSTANCES="1") as system, peak_memory(system) as memory:
            put(system, "first/", stored, options.images)
            calls, seconds, answer = measure_batch(system, "first/")
            alone = measure_singles(system, own[:SINGLES], lambda: True)
            put(system, "second/", stored, options.images)
            place = ask(system, "second/")
            eventually(lambda: look(place)["answered"], 60, every=0.2)
            meanwhile = measure_singles(system, own[SINGLES:], lambda: not look(place)["complete"])
            requests.post(f"{place}/cancel", timeout=30).raise_for_status()
        prepare(folder := Path(name) / "photos", stored)
        speed = work_on_a_batch(folder, len(stored) * REPEATS).images_per_second
    report(options.images, calls, seconds, answer, speed)
    print(f"\n{'one photo, the worker has nothing else to do':52}{in_words(alone)}")
    print(f"{'one photo during a batch':52}{in_words(meanwhile)}")
    ratio = percentile(meanwhile, 95) / percentile(alone, 95)
    print(f"{'p95 during a batch ÷ p95 without':52}{ratio:8.2f}")
    for kind in ("controller", "worker"):
        print(f"{f'peak memory of a {kind}':52}{memory[kind]:8.0f} MB")


def put(system: System, prefix: str, photos: Sequence[bytes], count: int) -> None:
    s3 = system.client("s3")

    def put_one(number: int) -> None:
        s3.put_object(Bucket=SOURCE, Key=f"{prefix}{number:07}.jpg", Body=photos[number % len(photos)])

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(put_one, range(count)):
            pass


def ask(system: System, prefix: str) -> str:
    """Asks for a batch, and returns its address."""
    reply = requests.post(f"{system.url}batches", json={"source": f"s3://{SOURCE}/{prefix}"}, timeout=30)
    reply.raise_for_status()
    return system.url.rstrip("/") + str(reply.headers["Location"])


def look(place: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(place, timeout=30).json()
    return found


def measure_batch(system: System, prefix: str) -> tuple[Calls, float, dict[str, Any]]:
    """Returns the calls from the POST until no instance runs, the seconds of the batch, and its last answer.

    A person looks at the batch every two seconds, as its page does.
    """
    settle(system)
    before, started = calls_of(system), time.perf_counter()
    place = ask(system, prefix)
    answer = eventually(lambda: found if (found := look(place))["complete"] else None, LONGEST, every=2)
    seconds = time.perf_counter() - started
    settle(system)
    assert answer["classified"] == answer["images"], answer["failures"]
    return calls_of(system) - before, seconds, answer


def measure_singles(system: System, photos: Sequence[bytes], goes_on: Callable[[], bool]) -> list[float]:
    """Returns the seconds from POST to answer for one photo after the other, while a worker runs."""
    assert system.post(("first.jpg", photos[0])).ok
    seconds = []
    for photo in itertools.islice(photos, 1, None):
        started = time.perf_counter()
        reply = system.post(("photo.jpg", photo))
        seconds.append(time.perf_counter() - started)
        assert reply.status_code == 200, reply.text
    assert goes_on(), "The batch ended too early: give it more --images."
    return seconds


def report(images: int, calls: Calls, seconds: float, answer: dict[str, Any], speed: float) -> None:
    dollars = sum(price(call) * count for call, count in calls.items()) / images
    compute = INSTANCE_HOUR / 3600 / speed * 1_000_000
    print(f"\n{os.cpu_count()} cores; a batch of {images:,} images; {REGION}, prices as of {AS_OF}\n")
    print(f"{'from the POST to the last row':52}{seconds:8.1f} s, {images / seconds:.0f} images/s")
    print(f"{'AWS calls an image':52}{sum(calls.values()) / images:10.4f}")
    for call, count in calls.most_common():
        if count >= images / 10_000:
            print(f"    {' '.join(call):48}{count / images:10.4f}")
    print(f"{'dollars of requests per million images':52}{dollars:8.2f}")
    print(f"{f'compute, {speed:.0f} images/s a {INSTANCE_TYPE}':52}{compute:8.2f}")
    print(f"{'requests and compute':52}{dollars + compute:8.2f}")
    told = answer["dollars"]["so_far"] / images * 1_000_000
    print(f"{'as the page of the batch says, with the speed here':52}{told:8.2f}")


def in_words(seconds: Sequence[float]) -> str:
    p50, p95 = (1000 * percentile(seconds, percent) for percent in (50, 95))
    return f"{p50:8.0f} ms, p95 {p95:.0f} ms"


if __name__ == "__main__":
    main()
