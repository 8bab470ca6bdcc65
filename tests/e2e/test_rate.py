"""SCALING=rate, in a running system."""

import time
from typing import Any

import requests

from controller.autoscaling.scaling import PAID_SECONDS
from local.driver import eventually
from tests.support.requests_of_users import photos


def test_an_instance_stays_for_its_paid_minute_answers_what_comes_and_then_goes(start):
    system = start(SCALING="rate", ANSWER_CACHE="off", LOCAL_BOOT_SECONDS="3")
    first = system.post(*photos()).json()
    launched = time.monotonic()
    (instance,) = [i["InstanceId"] for i in system.active()]
    time.sleep(5)
    began = time.monotonic()
    second = system.post(*photos()).json()
    assert time.monotonic() - began < 3, "nothing has to boot"
    answered = {image["instance_id"] for answer in (first, second) for image in answer["images"]}
    assert answered == {instance}
    eventually(lambda: not system.active(), PAID_SECONDS + 20)
    assert time.monotonic() - launched > PAID_SECONDS - 15

    def shown() -> dict[str, Any]:
        fleet: dict[str, Any] = requests.get(f"{system.url}fleet", timeout=20).json()
        return fleet

    costs = eventually(lambda: shown()["scaling_costs"], 20, every=1.0)
    assert costs["images"] == len(first["images"]) + len(second["images"])
    assert 0 < costs["queue"] <= costs["rate"], "a minute by the queue, and at least that by the rate"
    assert shown()["scaling"] == "rate"
