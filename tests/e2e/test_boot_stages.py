"""From a POST to a worker that is ready, measured by the controller and the instance, in five stages."""

import pytest
import requests

from controller.autoscaling.boots import STAGES
from local.driver import eventually
from tests.support.requests_of_users import photos

BOOT_SECONDS = 2.0


def test_the_first_request_from_nothing_is_measured_stage_by_stage(start):
    system = start(LOCAL_BOOT_SECONDS=str(BOOT_SECONDS))
    answer = system.post(*photos()[:1]).json()
    (image,) = answer["images"]
    boots = eventually(lambda: requests.get(f"{system.url}fleet", timeout=20).json()["boots"], 20)
    (boot,) = boots
    assert boot["instance_id"] == image["instance_id"]
    assert boot["started"] is False
    assert boot["pending"] > BOOT_SECONDS - 0.2
    assert all(0 <= boot[stage] < 30 for stage in STAGES)
    assert boot["model"] > 0.1, "Python and OpenVINO are loaded"
    assert boot["total"] == pytest.approx(sum(boot[stage] for stage in STAGES), abs=0.01)
    metrics = requests.get(f"{system.url}metrics", timeout=20).text
    assert 'classifier_boot_stage_seconds{how="launch",stage="pending"}' in metrics
