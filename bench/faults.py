"""Puts the whole system under load, and kills, freezes and takes away its parts at random.

    .venv/bin/python -m bench.faults --minutes 10 --seed 1

The seed decides on the faults and their times. At the end, counts are printed. The exit status is 1 if a
count that must be zero is not zero, or if there were more instances than the maximum.
"""

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
import requests

from bench.arguments import parser_of
from bench.photos import PHOTOS
from local.driver import System, eventually, running

MAX_INSTANCES = 2
VISIBILITY_TIMEOUT = 5
SETTLE_SECONDS = 240
SETTINGS = {
    "MODEL": "efficientnet_lite0",
    "MAX_INSTANCES": str(MAX_INSTANCES),
    "MAX_IMAGES_PER_INSTANCE": "5",
    "VISIBILITY_TIMEOUT": str(VISIBILITY_TIMEOUT),
    "MAX_RECEIVES": "6",
    "LOCAL_BOOT_SECONDS": "1",
    "WEB_CONCURRENCY": "2",
}
ASYNC = {"Prefer": "respond-async"}


class Faults:
    """Lets faults happen. Each method causes one fault, and repairs it where that is possible.

    It returns False when there was nothing that the fault could have happened to.
    """

    def __init__(self, system: System, draw: random.Random, over: Event) -> None:
        self.system, self.draw, self.over = system, draw, over
        self.happened: Counter[str] = Counter()

    def run(self) -> None:
        choices: list[Callable[[], bool]] = [
            self.kill_a_worker,
            self.freeze_a_worker,
            self.spot_notice,
            self.kill_a_controller,
            self.no_capacity,
            self.slow_naming,
        ]
        while not self.over.wait(self.draw.uniform(2, 8)):
            fault = self.draw.choice(choices)
            with suppress(psutil.Error, requests.RequestException):
                if fault():
                    self.happened[fault.__name__.replace("_", " ")] += 1

    def workers(self) -> list[psutil.Process]:
        ids = [i["InstanceId"] for i in self.system.instances("running")]
        return [p for instance_id in ids for p in self.system.processes_of(instance_id)]

    def kill_a_worker(self) -> bool:
        found = self.workers()
        if found:
            self.draw.choice(found).kill()
        return bool(found)

    def freeze_a_worker(self) -> bool:
        found = self.workers()
        if found:
            process = self.draw.choice(found)
            process.suspend()
            self.over.wait(VISIBILITY_TIMEOUT * 1.5)
            process.resume()
        return bool(found)

    def spot_notice(self) -> bool:
        found = self.system.instances("running")
        if found:
            instance_id = self.draw.choice(found)["InstanceId"]
            self.system.interrupt(instance_id, 10)
        return bool(found)

    def kill_a_controller(self) -> bool:
        found = self.system.controllers()
        if found:
            self.draw.choice(found).kill()
        return bool(found)

    def no_capacity(self) -> bool:
        self.system.limit(0)
        self.over.wait(5)
        self.system.limit(None)
        return True

    def slow_naming(self) -> bool:
        self.system.delay("CreateTags", 2)
        self.over.wait(5)
        self.system.delay("CreateTags", 0)
        return True


def load(system: System, draw: random.Random, over: Event, addresses: dict[str, int]) -> None:
    """Posts some photos again and again, at times with a file that is no photo.

    Adds the address of each request that was accepted to `addresses`, with the number of its files.
    """
    photos = [(f"{name}.jpg", data) for name, (data, _) in PHOTOS.items()]
    photos.append(("notes.txt", b"no picture"))
    while not over.wait(draw.uniform(0.2, 3)):
        files = draw.choices(photos, k=draw.randint(1, 12))
        with suppress(requests.RequestException):  # its controller died, so the client was told nothing
            reply = system.post(*files, headers=ASYNC)
            if reply.status_code == 202:
                addresses[system.url.rstrip("/") + reply.headers["Location"]] = len(files)


def fetch(address: str) -> dict[str, Any]:
    while True:
        with suppress(requests.RequestException):
            found: dict[str, Any] = requests.get(address, timeout=30).json()
            return found


def settle(system: System, addresses: dict[str, int]) -> list[dict[str, Any]]:
    """Waits until every request is complete, for at most SETTLE_SECONDS. Returns the answers."""
    waiting, answers = list(addresses), []
    until = time.monotonic() + SETTLE_SECONDS
    while waiting:
        answer = fetch(waiting[-1])
        if answer.get("complete") or time.monotonic() > until:
            answers.append(answer)
            waiting.pop()
        else:
            Event().wait(0.5)
    with suppress(AssertionError):
        eventually(lambda: not system.instances("pending", "running", "shutting-down"), 60)
    return answers


def count(system: System, addresses: dict[str, int], answers: list[dict[str, Any]]) -> dict[str, int]:
    images = [image for answer in answers for image in answer.get("images", [])]
    s3 = system.client("s3")
    paginator = s3.get_paginator("list_object_versions")
    versions = [
        v["Key"] for page in paginator.paginate(Bucket="output-predictions") for v in page["Versions"]
    ]
    written = Counter(versions)
    listing = s3.get_paginator("list_objects_v2").paginate(Bucket="input-images")
    stored = {item["Key"] for page in listing for item in page.get("Contents", [])}
    record = system.record()
    sent = sum(addresses.values())
    return {
        "images sent": sent,
        "answered with a label": sum(image["status"] == "classified" for image in images),
        "answered failed, with a reason": sum(bool(image["error"]) for image in images),
        "lost": sent - sum(image["status"] != "waiting" for image in images),
        "answered twice": sum(written[image["image_id"]] > 1 for image in images),
        "keys in only one of the buckets": len(stored ^ set(versions)),
        "instances launched": len(record["instances"]),
        "instances at once, at most": record["most_instances_at_once"],
        "instances left over": len(system.instances("pending", "running", "shutting-down")),
    }


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    over, addresses = Event(), dict[str, int]()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "output", **SETTINGS) as system:
        system.client("s3").put_bucket_versioning(
            Bucket="output-predictions", VersioningConfiguration={"Status": "Enabled"}
        )
        faults = Faults(system, random.Random(options.seed), over)
        sender = Thread(target=load, args=[system, random.Random(options.seed + 1), over, addresses])
        breaker = Thread(target=faults.run)
        sender.start()
        breaker.start()
        Event().wait(options.minutes * 60)
        over.set()
        sender.join()
        breaker.join()
        answers = settle(system, addresses)
        counts = count(system, addresses, answers)
    reasons = Counter(i["error"]["code"] for a in answers for i in a["images"] if i["error"])
    print(f"\n{options.minutes:g} minutes, seed {options.seed}")
    for title, table in (("faults", faults.happened), ("reasons", reasons), ("count", counts)):
        print(f"\n{title}", *(f"  {name:32}{number:6}" for name, number in table.items()), sep="\n")
    zeros = ("lost", "answered twice", "keys in only one of the buckets", "instances left over")
    good = all(counts[name] == 0 for name in zeros) and counts["instances at once, at most"] <= MAX_INSTANCES
    print("\nas it should be" if good else "\nNOT as it should be")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
