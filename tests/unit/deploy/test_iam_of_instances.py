"""What the controller's role may and may not do to instances; e2e/test_plan.py compares it with the calls."""

from typing import Any

import pytest

from tests.support.iam import Need, policy_of, refused

INSTANCE = "arn:aws:ec2:us-east-1:123456789012:instance/i-1"


@pytest.fixture
def policy() -> dict[str, Any]:
    return policy_of("controller")


@pytest.mark.parametrize("action", ["StopInstances", "StartInstances", "TerminateInstances"])
def test_only_instances_with_the_tag_of_the_fleet_may_be_stopped_started_and_terminated(policy, action):
    def need(resource: str = INSTANCE, **tags: str) -> Need:
        return Need(f"ec2:{action}", resource, {f"aws:ResourceTag/{name}": tags[name] for name in tags})

    assert refused(policy, [need(fleet="state")]) == []
    not_ours = [
        need(),
        need(fleet="another-state"),
        need(Name="state"),
        need(INSTANCE.replace("us-east-1", "eu-west-1"), fleet="state"),
        need("*", fleet="state"),
    ]
    assert refused(policy, not_ours) == not_ours


def test_instances_may_not_be_changed_otherwise(policy):
    tagged = {"aws:ResourceTag/fleet": "state"}
    others = [
        Need(f"ec2:{action}", INSTANCE, tagged)
        for action in ("RebootInstances", "ModifyInstanceAttribute", "GetConsoleOutput", "DeleteTags")
    ]
    assert refused(policy, others) == others
