from collections import Counter
from datetime import timedelta

import pytest

from tests.support.world import PER_INSTANCE, World


@pytest.fixture
def make_world(aws, queue, inputs, outputs, state):
    return lambda warm_pool: World(aws, queue, inputs, outputs, state, warm_pool)


@pytest.fixture
def world(make_world) -> World:
    return make_world(1)


@pytest.fixture
def burst(work):
    """Images come, instances for them get ready, and all is answered."""

    def burst(world: World, instances: int = 1, *, ready: bool = True) -> list[str]:
        request_id = world.ask(instances * PER_INSTANCE)
        world.reconcile()
        active = world.active
        if ready:
            world.ready(*active)
            world.reconcile()
        work()
        world.close(request_id)
        return active

    return burst


@pytest.fixture
def stopped(world, burst) -> str:
    """The id of an instance that a burst has left in the pool."""
    (instance_id,) = burst(world)
    world.reconcile()
    world.reconcile()
    assert world.ids("stopped") == [instance_id]
    return instance_id


@pytest.fixture
def states(aws, on_reply):
    """What DescribeInstances shows as the state of an instance, by its id, whatever it is."""
    shown: dict[str, tuple[str, str]] = {}

    def show(reply):
        for reservation in reply["Reservations"]:
            for instance in reservation["Instances"]:
                if instance["InstanceId"] in shown:
                    state, reason = shown[instance["InstanceId"]]
                    instance["State"] = {"Name": state, "Code": 0}
                    instance["StateReason"] = {"Code": reason, "Message": ""}

    on_reply(aws.ec2, "DescribeInstances", show)
    return shown


@pytest.fixture(autouse=True)
def launch_times(aws, on_call, on_reply) -> None:
    """A start moves LaunchTime, which moto leaves as it is. All of them lie some minutes back."""
    starts: Counter[str] = Counter()

    def tell(reply):
        for reservation in reply["Reservations"]:
            for instance in reservation["Instances"]:
                instance["LaunchTime"] -= timedelta(seconds=200 - 5 * starts[instance["InstanceId"]])

    on_call(aws.ec2, "StartInstances", lambda params: starts.update(params["InstanceIds"]))
    on_reply(aws.ec2, "DescribeInstances", tell)
