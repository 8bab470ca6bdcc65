"""Measures how the controller's time, memory and calls grow with images, clients and workers.

    .venv/bin/python -m bench.growth [--photos DIR] [images] [clients] [workers] [waiting]

The workers are simulated: a process answers at a fixed pace and does not look at the images, so that the
controller is what is measured. Each row has a system of its own. This prints a table for each part and draws
bench/plots/growth.png. bench/README.md says how to read them.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import psutil

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.arguments import parser_with_photos
from bench.bill import AUTOSCALER, THREAD_NAMES, calls_of, cpu_of
from bench.client import Post, Reply, form_of, percentile, send_all
from bench.photos import different_photos
from bench.processes import peak_megabytes
from bench.simulated import simulated
from bench.simulated_worker import LABEL, simulated_workers
from local.driver import ROOT

RATE = 10.0  # images a second of one simulated worker
WORKERS = 10  # unless they are what grows
IMAGES = (1, 10, 100, 1000)
CLIENTS = (1, 10, 100, 500)
WORKER_COUNTS = (1, 4, 16)
WORKERS_CLIENTS, SECONDS_OF_WORK = 100, 6
WAITING, WAITING_PROCESSES = 1000, 2
PLOT = ROOT / "bench" / "plots" / "growth.png"


@dataclass(frozen=True)
class Row:
    """The figures of one load: one row of the table."""

    size: int
    """The number of images, clients or workers."""
    images: int
    labelled: int
    """How many images came back with their label, in a 200."""
    seconds: float
    """From the first POST to the last reply."""
    p50: float
    """Seconds of a request."""
    calls: float
    """Calls of AWS per image, those of the simulated workers included."""
    cpu_ms: float
    """Processor time of the controller per image."""
    autoscaler: float
    """The autoscaler's share of that time, from 0 to 1."""
    peak_mb: float
    """The largest memory of a process of the controller."""


def main() -> None:
    parts = {"images": grow_images, "clients": grow_clients, "workers": grow_workers, "waiting": many_waiting}
    parser = parser_with_photos(__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"some of {', '.join(parts)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.parts) - parts.keys():
        parser.error(f"there is no part {', '.join(unknown)}")
    os.environ.setdefault("MODEL", "efficientnet_lite0")  # it is not run, but `make run` bakes it
    photos = different_photos(max(*IMAGES, WAITING), options.photos)
    print(f"{psutil.cpu_count()} cores; a simulated worker answers {RATE:.0f} images/s")
    tables = {name: grow(photos) for name, grow in parts.items() if name in (options.parts or parts)}
    if not options.parts:
        draw(tables)
        print(f"\n{PLOT.relative_to(ROOT)}")


def grow_images(photos: Sequence[bytes]) -> list[Row]:
    print_header(f"images in one request, {WORKERS} workers", "images")
    return [shown(measure(size, [form_of(photos[:size])], 1)) for size in IMAGES]


def grow_clients(photos: Sequence[bytes]) -> list[Row]:
    print_header(f"clients with one photo each, {WORKERS} workers", "clients")
    return [shown(measure(size, forms(photos[:size]), size)) for size in CLIENTS]


def grow_workers(photos: Sequence[bytes]) -> list[Row]:
    print_header(f"workers, {SECONDS_OF_WORK} s of work for them from {WORKERS_CLIENTS} clients", "workers")
    return [
        shown(measure(workers, forms(photos[: int(workers * RATE * SECONDS_OF_WORK)]), 100, workers))
        for workers in WORKER_COUNTS
    ]


def many_waiting(photos: Sequence[bytes]) -> list[Row]:
    """Lets the workers begin only when the images of all clients are in the queue."""
    print_header(f"clients that wait at once, {WAITING_PROCESSES} controller processes", "clients")
    return [
        shown(
            measure(WAITING, forms(photos[:WAITING]), WAITING, processes=WAITING_PROCESSES, backlog=WAITING)
        )
    ]


def forms(photos: Sequence[bytes]) -> list[Post]:
    return [form_of([photo]) for photo in photos]


def measure(
    size: int, posts: list[Post], clients: int, workers: int = WORKERS, processes: int = 1, backlog: int = 0
) -> Row:
    """Sends the POSTs to a new system. The workers begin when `backlog` images are in the queue."""
    settings = {
        "WEB_CONCURRENCY": str(processes),
        "MAX_INSTANCES": str(workers),
        "BOOT_TIMEOUT": "3600",
        "PYTHONPATH": str(THREAD_NAMES),
    }
    images = sum(post.body.count(b"filename=") for post in posts)
    with (
        tempfile.TemporaryDirectory() as folder,
        simulated(Path(folder) / "output", **settings) as system,
        simulated_workers(system, workers * RATE, backlog),
    ):
        calls, cpu = calls_of(system), cpu_of(system)
        replies, seconds = send_all(system.url, posts, clients)
        took = cpu_of(system) - cpu
        return Row(
            size,
            images,
            sum(map(labelled, replies)),
            seconds,
            percentile([reply.seconds for reply in replies], 50),
            (calls_of(system) - calls).total() / images,
            took["controller"] / images * 1000,
            took[AUTOSCALER] / took["controller"],
            max(map(peak_megabytes, system.controllers())),
        )


def labelled(reply: Reply) -> int:
    """Returns how many images of the request came back with their label, in a 200."""
    if reply.status != 200:
        return 0
    return sum(image["label"] == LABEL for image in json.loads(reply.body)["images"])


def print_header(title: str, size: str) -> None:
    names = (
        "images",
        "labelled",
        "seconds",
        "images/s",
        "p50",
        "calls/image",
        "CPU/image",
        "autoscaler",
        "peak",
    )
    print(f"\n{title}\n{size:>8}" + "".join(f"{name:>12}" for name in names))


def shown(row: Row) -> Row:
    """Prints the row, and returns it."""
    rate = row.images / row.seconds
    print(
        f"{row.size:>8}{row.images:>12}{row.labelled:>12}{row.seconds:>12.2f}{rate:>12.1f}{row.p50:>10.2f} s"
        f"{row.calls:>12.2f}{row.cpu_ms:>9.1f} ms{row.autoscaler:>12.0%}{row.peak_mb:>9.0f} MB",
        flush=True,
    )
    return row


def draw(tables: dict[str, list[Row]]) -> None:
    """Draws a column for each table with more than one row: time, memory and calls by its size."""
    columns = {
        "images": "images in one request",
        "clients": "clients with one photo each",
        "workers": "workers",
    }
    figure, axes = plt.subplots(3, len(columns), figsize=(11, 8), sharex="col", layout="constrained")
    for column, (name, label) in zip(axes.T, columns.items(), strict=True):
        sizes = [row.size for row in tables[name]]
        seconds, memory, calls = column
        seconds.plot(sizes, [row.seconds for row in tables[name]], "o-", label="measured")
        pace = [row.images / RATE / (row.size if name == "workers" else WORKERS) for row in tables[name]]
        seconds.plot(sizes, pace, ":", color="grey", label="pace of the workers")
        memory.plot(sizes, [row.peak_mb for row in tables[name]], "o-")
        calls.plot(sizes, [row.calls for row in tables[name]], "o-")
        for axis in column:
            axis.set(xscale="log", ylim=(0, None))
        calls.set(xlabel=label)
    for row, label in zip(
        axes, ("seconds for all", "memory of the controller (MB)", "calls of AWS per image"), strict=True
    ):
        row[0].set(ylabel=label)
    axes[0, 0].legend(frameon=False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=110)


if __name__ == "__main__":
    main()
