"""`make run` with WARM_POOL: what is not needed any more is stopped, and what is needed is started again."""

import time

import pytest
import requests

from bench.photos import PHOTOS
from local.driver import System, ask, eventually
from tests.support.requests_of_users import photos

BOOT, START = 4.0, 0.5


@pytest.fixture
def system(start) -> System:
    """At its end nothing is left of it: see the fixture `start`."""
    return start(WARM_POOL="1", LOCAL_BOOT_SECONDS=str(BOOT), LOCAL_START_SECONDS=str(START))


def answered(address: str) -> dict:
    return eventually(lambda: (found := requests.get(address, timeout=10).json())["complete"] and found, 60)


def stopped(system: System) -> str:
    """The id of the one stopped instance, once all is quiet."""
    eventually(lambda: not system.instances("pending", "running", "stopping", "shutting-down"), 60)
    [instance] = system.instances("stopped")
    return instance["InstanceId"]


def has_counted(system: System, images: int) -> dict | None:
    """The data of the fleet, once its bill has the last report, and the disk of what is stopped."""
    fleet = requests.get(f"{system.url}fleet?format=json", timeout=10).json()
    money = fleet["money"]
    disks = any(entry["item"] == "disks" for entry in money["items"])
    return fleet if money["images"] == images and disks else None


def seconds_to_answer(system: System) -> float:
    began = time.monotonic()
    [image] = system.post(("cat.jpg", PHOTOS["cat"][0])).json()["images"]
    assert image["status"] == "classified"
    return time.monotonic() - began


def test_after_a_burst_one_instance_is_stopped_and_the_next_image_is_answered_by_starting_it(system):
    burst = answered(ask(system, *photos() * 4))
    assert burst["counts"]["classified"] == len(burst["images"])
    instance_id = stopped(system)
    launched = len(system.record()["instances"])

    fleet = requests.get(f"{system.url}fleet?format=json", timeout=10).json()
    assert [i["state"] for i in fleet["instances"]] == ["stopped"]
    page = requests.get(f"{system.url}fleet", headers={"Accept": "text/plain"}, timeout=10).text
    assert page.startswith("Nothing waits, nothing runs\n")
    assert f"{instance_id}  stopped" in page

    before = time.monotonic()
    [image] = system.post(("cat.jpg", PHOTOS["cat"][0])).json()["images"]
    assert image["instance_id"] == instance_id
    assert time.monotonic() - before > START
    assert stopped(system) == instance_id
    assert seconds_to_answer(system) > START
    record = system.record()
    assert len(record["instances"]) == launched, "nothing was launched"
    assert {life["id"]: life["starts"] for life in record["instances"]}[instance_id] == 2

    assert stopped(system) == instance_id
    fleet = eventually(lambda: has_counted(system, len(burst["images"]) + 2))
    assert sum(decision["started"] == [instance_id] for decision in fleet["decisions"]) == 2
    assert fleet["money"]["instance_seconds"] >= 3 * 60, "each start is billed as a minute"
    metrics = requests.get(f"{system.url}metrics", timeout=10).text
    assert "classifier_instances_started_total 2.0" in metrics


def test_a_worker_that_is_stopped_in_the_middle_returns_what_it_holds(system):
    address = ask(system, *photos() * 25)
    eventually(lambda: requests.get(address, timeout=10).json()["counts"]["classified"] > 0, 60)
    [first, *_] = system.instances("running")
    system.client("ec2").stop_instances(InstanceIds=[first["InstanceId"]])
    images = answered(address)["images"]
    assert {image["status"] for image in images} == {"classified"}
    stopped(system)
