"""How a launch goes through its choices of market, type and subnet."""

import pytest

from cloud.errors import CloudError
from controller.autoscaling.instance_ledger import CAPACITY_AGAIN_SECONDS
from controller.autoscaling.launch_walk import BEST_CHOICE_AGAIN_SECONDS
from tests.support.aws_errors import refusal
from tests.support.launch_plan import plan
from tests.support.world import Controller, FailingBucket


def test_the_choices_are_gone_through_over_several_looks(world, aws, on_call):
    """On-demand comes last, and a look has time for a few of the 18 choices of spot before it."""
    types, subnets = ["a.big", "b.big", "c.big"], [f"subnet-{n}" for n in range(6)]
    world.fleet.plan = plan(market="spot", instance_types=types, subnet_ids=subnets)
    asked = []

    def refuse_spot(params):
        world.controllers[0].clock += 1.0
        asked.append((bool(params.get("InstanceMarketOptions")), params["InstanceType"], params["SubnetId"]))
        if asked[-1][0]:
            raise refusal("InsufficientInstanceCapacity")
        del params["SubnetId"]  # which moto does not have

    on_call(aws.ec2, "RunInstances", refuse_spot)
    world.ask(5)
    for _ in range(4):
        world.reconcile()
    assert len(world.active) == 1
    assert len(asked) == len(set(asked)) == 19, "none is tried twice"


def test_a_choice_whose_instances_ec2_ends_at_once_is_passed_by(world, aws, on_call, on_reply):
    """EC2 launches spot instances, and takes them back before they have booted."""
    tried, taken = [], []

    def take(reply):
        for reservation in reply["Reservations"]:
            for instance in reservation["Instances"]:
                if instance["InstanceType"] == "a.big":
                    instance["State"] = {"Code": 48, "Name": "terminated"}
                    instance["StateReason"] = {"Code": "Server.SpotInstanceTermination", "Message": "x"}
                    taken.append(instance["InstanceId"])

    world.fleet.plan = plan(instance_types=["a.big", "b.big"])
    on_call(aws.ec2, "RunInstances", lambda params: tried.append(params["InstanceType"]))
    on_reply(aws.ec2, "DescribeInstances", take)
    world.ask(25)
    for _ in range(4):
        world.reconcile()
        world.pass_seconds(CAPACITY_AGAIN_SECONDS + 1)
    assert tried[:2] == ["a.big", "b.big"]
    assert len(set(taken)) == 3, "three of one launch pass it by only once"
    assert len(world.active) == 3
    assert world.shared.peek().walk.next == 1


def test_throttling_ends_the_walk_where_it_is(world, aws, on_call):
    world.fleet.plan = plan(instance_types=["a.big", "b.big", "c.big"])
    tried = []

    def refuse(params):
        tried.append(params["InstanceType"])
        if len(tried) == 1:
            raise refusal("InsufficientInstanceCapacity")
        if len(tried) == 2:
            raise refusal("RequestLimitExceeded")

    on_call(aws.ec2, "RunInstances", refuse)
    world.ask(5)
    world.reconcile()
    world.reconcile()
    assert tried == ["a.big", "b.big"]
    world.pass_seconds(3)
    world.reconcile()
    assert tried == ["a.big", "b.big", "b.big"]
    assert len(world.active) == 1


def test_the_best_choice_is_tried_again_after_a_while(world, aws, on_call):
    world.fleet.plan = plan(instance_types=["a.big", "b.big"])
    tried, out = [], [True]

    def refuse(params):
        tried.append(params["InstanceType"])
        if out and params["InstanceType"] == "a.big":
            raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse)
    for _ in range(2):
        world.ask(10)
        world.reconcile()
    assert tried == ["a.big", "b.big", "b.big"], "what has just had no capacity is not asked for again"
    out.clear()
    world.pass_seconds(BEST_CHOICE_AGAIN_SECONDS + 1)
    world.ready(*world.active)
    world.ask(10)
    world.reconcile()
    assert tried[3:] == ["a.big"]


def test_when_no_choice_has_capacity_the_next_walk_begins_with_the_best(world, aws, on_call):
    world.fleet.plan = plan(instance_types=["a.big", "b.big"])
    tried = []

    def refuse(params):
        tried.append(params["InstanceType"])
        raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse)
    world.ask(5)
    for _ in range(2):
        world.reconcile()
        world.reconcile()
        world.pass_seconds(CAPACITY_AGAIN_SECONDS + 1)
    assert tried == ["a.big", "b.big", "a.big", "b.big"]


def test_a_fallback_to_other_types_ends_before_the_lease_does(world, aws, on_call):
    """Else the next holder would launch beside it."""
    world.fleet.plan = plan(instance_types=["a.big", "b.big", "c.big"])
    tries = []

    def refuse_slowly(params):
        tries.append(params["InstanceType"])
        world.controllers[0].clock += 5
        raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse_slowly)
    world.ask(5)
    world.reconcile()
    assert tries == ["a.big", "b.big"], "the second began 5 s into the lease, a third would have at 10 s"


def test_a_walk_whose_state_cannot_be_saved_goes_no_further(world, aws, on_call):
    """Its lease may have ended, and nobody would know what it launches."""
    world.fleet.plan = plan(instance_types=["a.big", "b.big"])
    tried, down = [], []

    def refuse(params):
        tried.append(params["InstanceType"])
        down.append(1)
        raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse)
    state = FailingBucket(aws.s3, world.state.name, down, "S3 is down")
    controller = Controller(world.queue, world.fleet, state, world.inputs, world.outputs)
    world.ask(5, controller)
    with pytest.raises(CloudError, match="S3 is down"):
        controller.reconcile()
    assert tried == ["a.big"]
