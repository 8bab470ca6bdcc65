"""A launch whose answer was lost has no second effect."""

import pytest
from botocore.exceptions import ReadTimeoutError
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses import EC2Response

from cloud.errors import CloudError
from controller.autoscaling.instance_ledger import LAUNCH_LAG_SECONDS
from controller.autoscaling.shared_state import LEASE_SECONDS
from tests.support.aws_errors import refusal
from tests.support.launch_plan import plan
from tests.support.world import Controller, FailingBucket


@pytest.fixture
def once_per_token(aws, monkeypatch):
    """EC2 launches once for each client token, and refuses the token with other parameters; moto does not."""
    replies, run = {}, EC2Response.run_instances

    def run_once(self):
        asked = dict(self.params)
        token = asked.pop("ClientToken")
        before, reply = replies.get(token, (asked, None))
        if asked != before:
            raise EC2ClientError("IdempotentParameterMismatch", "other parameters")
        replies[token] = asked, reply or run(self)
        return replies[token][1]

    monkeypatch.setattr(EC2Response, "run_instances", run_once)


def test_a_launch_whose_reply_was_lost_is_repeated_as_it_was(
    world, aws, once_per_token, on_call, on_reply, hidden
):
    """The instances are known a moment later, though DescribeInstances does not show them."""
    asked, lost = [], []

    def lose(reply):
        if not lost:
            lost.append(1)
            raise ReadTimeoutError(endpoint_url="https://ec2.amazonaws.com")

    on_call(aws.ec2, "RunInstances", lambda params: asked.append(dict(params)))
    on_reply(aws.ec2, "RunInstances", lose)
    hidden.add("all")
    world.ask(25)
    world.reconcile()
    world.ask(20)
    world.pass_seconds(3)
    world.reconcile()
    assert [params["MaxCount"] for params in asked] == [3, 3]
    assert asked[0]["ClientToken"] == asked[1]["ClientToken"]
    assert len(world.shared.peek().launched) == 3
    world.reconcile()
    assert asked[2]["MaxCount"] == 2, "what was asked for meanwhile is a launch of its own"
    assert asked[2]["ClientToken"] != asked[1]["ClientToken"]
    hidden.clear()
    assert len(world.active) == 5


def test_the_lost_launch_of_a_process_that_died_is_not_made_again(
    world, aws, once_per_token, on_reply, hidden, s3_clock
):
    """Its state was never written, and DescribeInstances does not show what it launched."""

    died = []
    state = FailingBucket(aws.s3, world.state.name, died, "this process is no more")
    dying = Controller(world.queue, world.fleet, state, world.inputs, world.outputs)
    world.ask(25, dying)
    on_reply(aws.ec2, "RunInstances", lambda reply: died.append(1))
    hidden.add("all")
    with pytest.raises(CloudError, match="no more"):
        dying.reconcile()
    world.controllers[0].requests |= dying.requests
    s3_clock.ahead = LEASE_SECONDS + 2
    world.ask(10)
    world.reconcile()
    world.reconcile()
    hidden.clear()
    assert len(world.active) == 3, "the token was used with another number of instances"
    world.pass_seconds(LAUNCH_LAG_SECONDS + 1)
    world.reconcile()
    assert len(world.active) == 4


def test_a_death_in_the_middle_of_the_walk_costs_no_second_launch(
    world, aws, once_per_token, on_call, on_reply, hidden, s3_clock
):
    """The second choice was launched, and the first one has capacity again before that shows."""

    def refuse(params):
        if params["InstanceType"] == "a.big" and not died:
            raise refusal("InsufficientInstanceCapacity")

    died = []
    world.fleet.plan = plan(instance_types=["a.big", "b.big"])
    state = FailingBucket(aws.s3, world.state.name, died, "this process is no more")
    dying = Controller(world.queue, world.fleet, state, world.inputs, world.outputs)
    world.ask(5, dying)
    on_call(aws.ec2, "RunInstances", refuse)
    on_reply(aws.ec2, "RunInstances", lambda reply: died.append(1))
    hidden.add("all")
    with pytest.raises(CloudError, match="no more"):
        dying.reconcile()
    world.controllers[0].requests |= dying.requests
    s3_clock.ahead = LEASE_SECONDS + 2
    world.reconcile()
    hidden.clear()
    assert [i.instance_type for i in world.fleet.instances()] == ["b.big"]


def test_a_launch_by_a_process_whose_lease_has_ended_is_harmless(
    world, aws, once_per_token, on_call, s3_clock
):
    other, paused = world.controller(), []

    def pause(params):
        if not paused:
            paused.append(1)
            s3_clock.ahead = LEASE_SECONDS + 2
            other.reconcile()

    on_call(aws.ec2, "RunInstances", pause)
    world.ask(25)
    other.requests |= world.controllers[0].requests
    world.reconcile()
    assert len(world.active) == 3


def test_a_launch_that_was_repeated_after_its_instances_have_ended_is_made_anew(
    world, aws, once_per_token, on_call
):
    tokens = []

    def refuse(params):
        tokens.append(params["ClientToken"])
        if len(tokens) == 1:
            raise refusal("IdempotentInstanceTerminated")

    on_call(aws.ec2, "RunInstances", refuse)
    world.ask(5)
    world.reconcile()
    world.reconcile()
    assert len(set(tokens)) == 2
    assert len(world.active) == 1
