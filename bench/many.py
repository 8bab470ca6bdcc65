"""How the system grows with the hosts of its controller: calls, contention for the lease, time to a launch.

    .venv/bin/python -m bench.many [--hosts 1,4,16]

Each host is a Gunicorn of its own with two processes, all on the same local AWS. The instances are simulated,
and this program answers in their place. For each number of hosts, there is a new system. An idle hour is
passed in a minute (see hurried_idleness/sitecustomize.py); everything else takes its time.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Event, Thread

import boto3
import psutil
import requests
from prometheus_client.parser import text_string_to_metric_families

from bench.arguments import parser_of
from bench.client import percentile
from bench.photos import different_photos
from bench.simulated import simulated
from cloud.buckets import OutputBucket
from cloud.image_id import ImageId
from cloud.prediction import Prediction
from cloud.request_queue import MAX_BATCH, RequestQueue
from local.__main__ import DEFAULTS
from local.driver import ROOT, System, eventually, free_port

PROCESSES = 2  # of each host
START_SECONDS = 600.0  # the longest start of all hosts, which compete for the processor
HURRY, IDLE_SECONDS = 60.0, 60.0  # so an idle hour
IDLE_AFTER = 20.0  # seconds until the pauses of a hurried idle host have grown to the longest
LIGHT_SECONDS, LIGHT_EVERY, LIGHT_ANSWER = 60.0, 5.0, 0.5
ALONE, TOGETHER = 6, 3  # rounds of one POST from zero, and of one POST to each host at once
BUSY = "another process runs its autoscaler"
HURRIED = ROOT / "bench" / "hurried_idleness"
ASYNC = {"Prefer": "respond-async"}

Calls = Counter[str]
"""The calls that all hosts made, by operation; `conflicts` are the conditional writes that came second."""


@dataclass(frozen=True)
class Row:
    hosts: int
    idle: float
    """Calls of AWS in an idle hour."""
    light: float
    """Calls of AWS in an hour with an image every LIGHT_EVERY seconds."""
    light_conflicts: float
    """Conditional writes in such an hour that came second."""
    alone: list[float]
    """Seconds from a POST, when no instance runs, until an instance is launched."""
    together: list[float]
    """Seconds from one POST to each host at once until all instances for them are launched."""
    together_calls: float
    """Calls for each of these POSTs until no instance runs any more."""
    together_conflicts: float
    """Conditional writes for each of these POSTs that came second."""
    busy: int
    """How often a process did not get the lease within its patience."""


class Hosts:
    """The hosts of a controller, the first of which is that of the system itself."""

    def __init__(self, system: System, urls: Sequence[str], logs: Sequence[Path], hurry: Path) -> None:
        self.system, self.urls, self.logs, self.hurry = system, urls, logs, hurry
        access = {"aws_access_key_id": system.key.id, "aws_secret_access_key": system.key.secret}
        session = boto3.Session(region_name="us-east-1", **access)
        s3, sqs = (session.client(kind, endpoint_url=system.endpoint) for kind in ("s3", "sqs"))
        self.outputs = OutputBucket(s3, DEFAULTS["OUTPUT_BUCKET"])
        self.queue = RequestQueue(sqs, "image-requests")

    def calls(self) -> Calls:
        found: Calls = Counter()
        for url in self.urls:
            text = requests.get(f"{url}metrics", timeout=30).text
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name == "classifier_aws_calls_total":
                        found[sample.labels["operation"]] += int(sample.value)
                    elif sample.name == "classifier_aws_errors_total":
                        refused = sample.labels["code"] == "PreconditionFailed"
                        found["conflicts"] += int(sample.value) * refused
        return found

    def busy(self) -> int:
        return sum(log.read_text().count(BUSY) for log in self.logs)

    def post(self, host: int, photo: bytes) -> None:
        files = [("image_file", ("photo.jpg", photo))]
        reply = requests.post(self.urls[host], files=files, headers=ASYNC, timeout=60)
        assert reply.status_code == 202, reply.text

    def answer_all(self) -> None:
        """Answers what is in the queue, in place of the workers."""
        while messages := self.queue.receive(MAX_BATCH, 0):
            for message in messages:
                self.outputs.put_prediction(
                    Prediction.classified(ImageId(message.body), [("simulated", 1.0)])
                )
            self.queue.delete(messages)

    def launches(self) -> list[float]:
        """Returns when each instance was launched, in seconds since the epoch."""
        return [life["launched"] for life in self.system.record()["instances"]]

    def end_all(self) -> None:
        """Answers everything and waits until no instance is left."""

        def ended() -> bool:
            self.answer_all()
            return not self.system.instances("pending", "running", "shutting-down")

        eventually(ended, 60, every=0.2)
        time.sleep(3)  # the last runs see their ends


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--hosts", default="1,4,16", help="numbers of hosts, with commas")
    options = parser.parse_args()
    os.environ.setdefault("MODEL", "efficientnet_lite0")  # it is not run, but `make run` bakes it
    print(f"{psutil.cpu_count()} cores; {PROCESSES} processes a host; calls an hour, and for each POST")
    print(
        f"{'hosts':>6}{'idle':>8}{'a process':>11}{'light load':>12}{'a process':>11}{'conflicts':>11}"
        f"{'POST to launch':>21}{'all hosts at once':>22}{'calls':>8}{'conflicts':>11}{'Busy':>6}"
    )
    for hosts in map(int, options.hosts.split(",")):
        show(measure(hosts))


def measure(count: int) -> Row:
    photos = iter(different_photos(200))
    with hosts_of_a_system(count) as hosts:
        idle = calls_when_idle(hosts)
        light = calls_under_light_load(hosts, photos)
        hosts.end_all()
        alone = [time_to_launch(hosts, [n % count], photos) for n in range(ALONE)]
        before = hosts.calls()
        spent: Calls = Counter()
        together = []
        for _ in range(TOGETHER):
            before = hosts.calls()
            together.append(time_to_launch(hosts, range(count), photos))
            spent += hosts.calls() - before
        hour = 3600 / LIGHT_SECONDS
        posts = TOGETHER * count
        return Row(
            count,
            idle.total() - idle["conflicts"],
            (light.total() - light["conflicts"]) * hour,
            light["conflicts"] * hour,
            alone,
            together,
            (spent.total() - spent["conflicts"]) / posts,
            spent["conflicts"] / posts,
            hosts.busy(),
        )


@contextmanager
def hosts_of_a_system(count: int) -> Iterator[Hosts]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        hurry = folder / "hurry"
        hurry.write_text(str(HURRY))
        settings = {
            "WEB_CONCURRENCY": str(PROCESSES),
            "WEB_THREADS": "16",
            "MAX_INSTANCES": str(count),
            "MAX_IMAGES_PER_INSTANCE": "1",
            "BOOT_TIMEOUT": "3600",
            "PYTHONPATH": str(HURRIED),
            "HURRY_FILE": str(hurry),
        }
        system = running.enter_context(simulated(folder / "output", **settings))
        [arbiter] = system.arbiters()
        logs = [ROOT / ".local" / str(system.port) / "controller.log"]
        urls = [system.url]
        for number in range(1, count):
            logs.append(folder / f"{number}.log")
            urls.append(running.enter_context(host(arbiter, logs[-1], folder / f"metrics-{number}")))
        for url in urls:
            eventually(lambda url=url: is_ready(url), START_SECONDS, every=0.5)
        yield Hosts(system, urls, logs, hurry)


@contextmanager
def host(arbiter: psutil.Process, log: Path, metrics: Path) -> Iterator[str]:
    """Runs one more Gunicorn like this one for the duration of the block. Yields its URL."""
    port = free_port()
    bind = {"BIND": f"127.0.0.1:{port}", "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "controller.wsgi:app"],
            cwd=ROOT,
            env=arbiter.environ() | bind,
            stdout=output,
            stderr=output,
        )
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}readyz", timeout=5).ok
    except requests.RequestException:
        return False


def calls_when_idle(hosts: Hosts) -> Calls:
    """Returns the calls of an idle hour, when the pauses have grown to the longest."""
    time.sleep(IDLE_AFTER)
    before = hosts.calls()
    time.sleep(IDLE_SECONDS)
    spent = hosts.calls() - before
    hosts.hurry.write_text("1")
    time.sleep(3)
    return spent


def calls_under_light_load(hosts: Hosts, photos: Iterator[bytes]) -> Calls:
    """Returns the calls of LIGHT_SECONDS in which an image comes every LIGHT_EVERY seconds."""
    before, over = hosts.calls(), Event()

    def answer() -> None:
        while not over.wait(LIGHT_ANSWER):
            hosts.answer_all()

    answers = Thread(target=answer)
    answers.start()
    end, number = time.monotonic() + LIGHT_SECONDS, 0
    while time.monotonic() < end:
        hosts.post(number % len(hosts.urls), next(photos))
        number += 1
        time.sleep(LIGHT_EVERY)
    over.set()
    answers.join()
    return hosts.calls() - before


def time_to_launch(hosts: Hosts, receivers: Sequence[int], photos: Iterator[bytes]) -> float:
    """Sends one image to each of these hosts at once, when no instance runs.

    Returns the seconds from the first POST until an instance is launched for each.
    """
    known, before = len(hosts.launches()), time.time()
    with ThreadPoolExecutor(len(receivers)) as clients:
        list(clients.map(lambda receiver: hosts.post(receiver, next(photos)), receivers))
    eventually(lambda: len(hosts.launches()) >= known + len(receivers), 60, every=0.1)
    seconds = sorted(hosts.launches())[-1] - before
    hosts.end_all()
    return seconds


def show(row: Row) -> None:
    processes = row.hosts * PROCESSES
    alone = f"{median(row.alone):.2f} s, p90 {percentile(row.alone, 90):.2f} s"
    together = f"{median(row.together):.2f} s, most {max(row.together):.2f} s"
    print(
        f"{row.hosts:>6}{row.idle:>8.0f}{row.idle / processes:>11.0f}{row.light:>12.0f}"
        f"{row.light / processes:>11.0f}{row.light_conflicts:>11.0f}{alone:>21}{together:>22}"
        f"{row.together_calls:>8.1f}{row.together_conflicts:>11.2f}{row.busy:>6}",
        flush=True,
    )


if __name__ == "__main__":
    main()
