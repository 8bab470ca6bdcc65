"""Computes what a million images cost on AWS, from counted calls and the measured speed of a worker.

    .venv/bin/python -m bench.bill [--photos DIR] [--idle MINUTES]

It starts the system as `make run` does, sends 100 images in one request and then in 100 requests at once,
with the answer cache on and off, and prices the calls with cloud/prices.py. All photos differ, so that
nothing is answered from the cache. It also compares what the local AWS has counted with the bill of
`GET /fleet`. With --idle, it only counts the calls of so many minutes after the end of the last instance.
bench/README.md says how to read the tables.
"""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from bench.arguments import parser_with_photos
from bench.photos import different_photos
from bench.processes import cpu_seconds
from bench.worker import PHOTOS, prepare, run_worker
from cloud.prices import AS_OF, INSTANCE_HOUR, INSTANCE_TYPE, MILLION_CALLS, REGION, kind_of
from local.driver import ROOT, System, eventually, running

IMAGES, ROUNDS = 100, 3
WORKER_DELAY = 0.03  # seconds to S3 and SQS while the worker's speed is measured
SETTLED_SECONDS = 2.0  # after the last instance, until the controller has written what it still has to
MINUTES_A_MONTH = 365 / 12 * 24 * 60
THREAD_NAMES = ROOT / "bench" / "thread_names"
AUTOSCALER = "autoscaler"  # the name of its thread

Calls = Counter[tuple[str, str]]
"""The number of calls by service and operation."""


@dataclass
class Load:
    """The images of a load, and the calls and processor time that they took, over all its rounds."""

    images: int = 0
    calls: Calls = field(default_factory=Counter)
    cpu: Counter[str] = field(default_factory=Counter)
    """The seconds of processor time of `controller` and `local AWS`, and of the controller's `autoscaler`."""

    def per_image(self, call: tuple[str, str]) -> float:
        return self.calls[call] / self.images

    def cpu_ms(self, what: str) -> float:
        """Returns the milliseconds of the processor for an image."""
        return self.cpu[what] / self.images * 1000


def main() -> None:
    parser = parser_with_photos(__doc__)
    parser.add_argument("--idle", type=float, metavar="MINUTES", help="measure only an idle fleet")
    options = parser.parse_args()
    os.environ.setdefault("MODEL", "efficientnet_lite0")
    if options.idle:
        report_idle(options.idle, idle(options.idle, different_photos(1, options.photos)))
        return
    with tempfile.TemporaryDirectory() as name:
        photos = different_photos(2 * ROUNDS * IMAGES, options.photos)
        loads: dict[tuple[str, str], Load] = {}
        shares = []
        for cache in ("on", "off"):
            found, share = measure(Path(name) / "output", photos, cache)
            shares.append(f"{100 * share:.2f}%")
            loads |= {(shape, cache): load for shape, load in found.items()}
        speed = worker_speed(Path(name) / "photos", photos)
    report(loads, speed)
    print(f"\nof the dollars that the local AWS counted, the bill of /fleet has {' and '.join(shares)}")


def measure(output: Path, photos: list[bytes], cache: str) -> tuple[dict[str, Load], float]:
    """Returns what each load took, and what part of its dollars is on the bill of `GET /fleet`."""
    shapes: dict[str, Callable[[System, list[bytes]], None]] = {
        "in one request": in_one_request,
        "in 100 requests": in_many_requests,
    }
    loads = {shape: Load() for shape in shapes}
    left = iter(photos)
    with running(output, ANSWER_CACHE=cache, PYTHONPATH=str(THREAD_NAMES)) as system:
        billed, counted = on_the_bill(system), price_of(calls_of(system))
        for _ in range(ROUNDS):
            for shape, send in shapes.items():
                add_round(system, loads[shape], send, [next(left) for _ in range(IMAGES)])
        billed, counted = on_the_bill(system) - billed, price_of(calls_of(system)) - counted
        return loads, billed / counted


def idle(minutes: float, photos: list[bytes]) -> Calls:
    """Returns the calls of a fleet in the minutes after its last instance has ended."""
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "output", ANSWER_CACHE="on") as system:
        in_one_request(system, photos)
        settle(system)
        before = calls_of(system)
        time.sleep(60 * minutes)
        return calls_of(system) - before


def on_the_bill(system: System) -> float:
    """Returns the dollars of all calls so far on the bill of `GET /fleet`."""
    items = requests.get(f"{system.url}fleet", timeout=30).json()["money"]["items"]
    return sum(item["dollars"] for item in items if item["unit"] == "calls")


def price_of(calls: Calls) -> float:
    """Returns the dollars that so many calls cost."""
    return sum(price(call) * count for call, count in calls.items()) / 1_000_000


def add_round(
    system: System, load: Load, send: Callable[[System, list[bytes]], None], photos: list[bytes]
) -> None:
    """Sends the photos when no instance runs, and counts until none runs again."""
    settle(system)
    calls, cpu = calls_of(system), cpu_of(system)
    send(system, photos)
    load.cpu.update(cpu_of(system) - cpu)
    settle(system)
    load.calls.update(calls_of(system) - calls)
    load.images += len(photos)


def in_one_request(system: System, photos: list[bytes]) -> None:
    check(system.post(*((f"{n}.jpg", photo) for n, photo in enumerate(photos))))


def in_many_requests(system: System, photos: list[bytes]) -> None:
    with ThreadPoolExecutor(len(photos)) as clients:
        for reply in clients.map(lambda photo: system.post(("photo.jpg", photo)), photos):
            check(reply)


def check(reply: Any) -> None:
    """Raises an error unless every image has got its label from a worker."""
    reply.raise_for_status()
    images = reply.json()["images"]
    assert all(image["label"] and not image["cached"] for image in images), images


def settle(system: System) -> None:
    eventually(lambda: all(life["terminated"] for life in system.record()["instances"]), every=0.2)
    time.sleep(SETTLED_SECONDS)


def calls_of(system: System) -> Calls:
    record = system.record()["calls"]
    return Counter({(s, o): count for s, operations in record.items() for o, count in operations.items()})


def cpu_of(system: System) -> Counter[str]:
    """Returns the seconds of the processor that the processes of the system have taken so far."""
    controllers = [*system.arbiters(), *system.controllers()]
    return Counter(
        {
            "controller": sum(map(cpu_seconds, controllers)),
            AUTOSCALER: sum(seconds for process in controllers for seconds in autoscaler_seconds(process)),
            "local AWS": cpu_seconds(psutil.Process(system.process.pid)),
        }
    )


def autoscaler_seconds(process: psutil.Process) -> Iterator[float]:
    """Yields the seconds of the processor of each thread of the process that is an autoscaler."""
    for thread in process.threads():
        with suppress(OSError):  # the thread has ended
            name = Path(f"/proc/{process.pid}/task/{thread.id}/comm").read_text().strip()
            if name == AUTOSCALER:
                yield thread.user_time + thread.system_time


def worker_speed(folder: Path, photos: list[bytes]) -> float:
    """Returns the images per second of one worker on this machine."""
    prepare(folder, photos[:PHOTOS])
    return run_worker(folder, WORKER_DELAY).images_per_second


def report(loads: dict[tuple[str, str], Load], speed: float) -> None:
    compute = INSTANCE_HOUR / 3600 / speed * 1_000_000
    print(f"\n{psutil.cpu_count()} cores, {ROUNDS} times {IMAGES} images, all different")
    print(f"{REGION}, prices as of {AS_OF}\n")
    print(f"{'':40}" + "".join(f"{shape:>17}" for shape, _ in loads))
    print(f"{'':40}" + "".join(f"{'cache ' + cache:>17}" for _, cache in loads))
    print_by_operation("calls per image", loads, lambda load, call: load.per_image(call))
    print_by_operation(
        "dollars of requests per million images",
        loads,
        lambda load, call: price(call) * load.per_image(call),
    )
    print_row(f"compute, {speed:.0f} images/s a {INSTANCE_TYPE}", [compute] * len(loads))
    print("\nprocessor time per image, in ms")
    for what in ("controller", "local AWS"):
        print_row(f"    {what}", [load.cpu_ms(what) for load in loads.values()])
    shares = [load.cpu[AUTOSCALER] / load.cpu["controller"] for load in loads.values()]
    print_row("autoscaler's share of the controller, in %", [100 * share for share in shares])


def print_by_operation(
    title: str, loads: dict[tuple[str, str], Load], value: Callable[[Load, tuple[str, str]], float]
) -> None:
    """Prints a row for each operation, the largest first, and their sum."""
    every = {call for load in loads.values() for call in load.calls}
    rows = {" ".join(call): [value(load, call) for load in loads.values()] for call in every}
    print_row(f"\n{title}", [sum(column) for column in zip(*rows.values(), strict=True)])
    for name, values in sorted(rows.items(), key=lambda row: -sum(row[1])):
        if max(values) >= 0.005:
            print_row(f"    {name}", values)


def print_row(name: str, values: list[float]) -> None:
    end = name.removeprefix("\n")
    print(name[: len(name) - len(end)] + f"{end:40}" + "".join(f"{value:17.2f}" for value in values))


def report_idle(minutes: float, calls: Calls) -> None:
    month = price_of(calls) * MINUTES_A_MONTH / minutes
    print(f"an idle controller process: {month:.3f} dollars a month; calls in {minutes:g} minutes")
    for call, count in calls.most_common():
        print(f"    {' '.join(call):36}{count:17d}")


def price(call: tuple[str, str]) -> float:
    """Returns the dollars that a million of these calls cost."""
    kind = kind_of(*call)
    return MILLION_CALLS[kind] if kind else 0.0


if __name__ == "__main__":
    main()
