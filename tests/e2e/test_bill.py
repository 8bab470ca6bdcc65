"""The bill on `GET /fleet` beside what the local AWS has counted, from no instance to no instance."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from signal import SIGHUP
from threading import Event

import pytest
import requests

from bench.photos import different_photos
from cloud.prices import INSTANCE_HOUR, CallKind, dollars_for, kind_of
from controller.dashboard.fleet_view import FRESH_SECONDS
from local.driver import System, eventually

IMAGES, IN_ONE_REQUEST, BESIDES = 60, 20, 10
TOLERANCE = 0.02
CALLED = [kind for kind in CallKind if kind is not CallKind.SNS]  # that needs a NOTIFY_TOPIC


@dataclass
class Sums:
    """What has come together since the start, on the bill or by the local AWS's own count."""

    calls: Counter[str]
    instances: float
    """Dollars."""

    def __sub__(self, other: "Sums") -> "Sums":
        calls = {kind: self.calls[kind] - other.calls[kind] for kind in CALLED}
        return Sums(Counter(calls), self.instances - other.instances)


def on_the_bill(system: System) -> Sums:
    money = requests.get(f"{system.url}fleet", timeout=20).json()["money"]
    rows = {item["item"]: item for item in money["items"]}
    assert money["dollars"] == pytest.approx(sum(row["dollars"] for row in rows.values()), abs=1e-8)
    assert not money["charged"]
    return Sums(Counter({kind: int(rows[kind]["amount"]) for kind in CALLED}), rows["instances"]["dollars"])


def counted(system: System) -> Sums:
    record = system.record()
    calls: Counter[str] = Counter()
    for service, operations in record["calls"].items():
        for operation, count in operations.items():
            if kind := kind_of(service, operation):
                calls[kind] += count
    lives = [max(60, life["terminated"] - life["launched"]) for life in record["instances"]]
    return Sums(calls, sum(lives) / 3600 * INSTANCE_HOUR)


def both(system: System) -> tuple[Sums, Sums]:
    """Returns the bill and the count of the same moment: the calls for the bill itself are on it."""
    Event().wait(FRESH_SECONDS)  # an older bill would be shown again
    return on_the_bill(system), counted(system)


def send(system: System) -> None:
    """Sends the images in requests of many and of one, two at a time."""
    photos = [(f"{n}.jpg", photo) for n, photo in enumerate(different_photos(IMAGES))]
    many = IMAGES - BESIDES
    requests_ = [photos[n : n + IN_ONE_REQUEST] for n in range(0, many, IN_ONE_REQUEST)]
    requests_ += [[photo] for photo in photos[many:]]
    with ThreadPoolExecutor(2) as clients:
        for reply in clients.map(lambda files: system.post(*files), requests_):
            assert {image["status"] for image in reply.json()["images"]} == {"classified"}


def wait_for_nothing(system: System) -> None:
    """Waits until every instance has ended, and the fleet's state says so."""

    def at_rest() -> bool:
        shown = requests.get(f"{system.url}fleet?format=json", timeout=20).json()
        return "nothing waits and nothing runs" in shown["decisions"][0]["why"]

    eventually(lambda: all(life["terminated"] for life in system.record()["instances"]), 60)
    eventually(at_rest, 30, every=0.5)


def expect_agreement(bill: Sums, count: Sums) -> None:
    for kind in CALLED:
        assert count.calls[kind] > 25
        assert bill.calls[kind] == pytest.approx(count.calls[kind], rel=TOLERANCE, abs=2), kind
    assert dollars_for(bill.calls) == pytest.approx(dollars_for(count.calls), rel=TOLERANCE)
    assert bill.instances == pytest.approx(count.instances, rel=TOLERANCE)


def test_the_bill_agrees_with_what_aws_counts(start):
    system = start(ANSWER_CACHE="on")
    bill_before, count_before = both(system)
    send(system)
    wait_for_nothing(system)
    bill, count = both(system)
    expect_agreement(bill - bill_before, count - count_before)


def test_the_calls_of_every_process_get_onto_the_bill_also_when_it_ends(start):
    system = start(ANSWER_CACHE="on", WEB_CONCURRENCY="2")
    bill_before, count_before = both(system)
    send(system)
    wait_for_nothing(system)
    (arbiter,) = system.arbiters()
    old = {p.pid for p in system.controllers()}
    arbiter.send_signal(SIGHUP)  # new processes take over, which know only what is stored
    eventually(lambda: len(new := {p.pid for p in system.controllers()}) == 2 and not new & old)
    bill, count = both(system)
    expect_agreement(bill - bill_before, count - count_before)
