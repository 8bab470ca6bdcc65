"""Scale-in stops instances and scale-out starts them, with WARM_POOL."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from botocore.exceptions import ReadTimeoutError

from cloud.clock import now
from cloud.errors import CloudError
from controller.autoscaling.autoscaler import LONGEST_IDLE_SECONDS, MESSAGES_SECONDS, TOO_LATE
from controller.autoscaling.fleet_state import TERMINATE_AGAIN, UnansweredLaunch
from controller.autoscaling.instance_ledger import LAUNCH_LAG_SECONDS
from controller.autoscaling.planner import IDLE_SECONDS
from controller.autoscaling.shared_state import LEASE_SECONDS
from controller.autoscaling.warm_pool import LONGEST_STOPPED
from controller.batches.load import BatchLoad
from tests.support.aws_errors import refusal
from tests.support.launch_plan import plan
from tests.support.world import MAXIMUM, PER_INSTANCE, SILENT_AFTER, World


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
    assert ids(world, "stopped") == [instance_id]
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


def ids(world: World, *states: str) -> list[str]:
    return [i.instance_id for i in world.fleet.instances() if i.state in states]


def raising(error):
    def refuse(params):
        raise error

    return refuse


# Scale-in


def test_scale_in_stops_as_many_as_the_pool_may_have_and_terminates_the_rest(make_world, burst):
    world = make_world(2)
    launched = burst(world, 3)
    world.reconcile()
    assert len(ids(world, "stopped")) == 2
    assert len(ids(world, "terminated")) == 1
    decision = world.shared.peek().decisions[-1]
    assert sorted([*decision.stopped, *decision.terminated]) == sorted(launched)
    assert not world.reconcile(), "an idle fleet may have stopped instances"


def test_without_a_pool_all_are_terminated(make_world, burst):
    world = make_world(0)
    burst(world, 2)
    world.reconcile()
    assert len(ids(world, "terminated")) == 2


def test_a_full_pool_takes_no_more(world, burst, stopped):
    burst(world, 3)
    for _ in range(3):
        world.reconcile()
    assert len(ids(world, "stopped")) == 1
    assert len(ids(world, "terminated")) == 2
    assert world.active == []


def test_only_on_demand_instances_are_stopped(aws, world, burst):
    """EC2 stops no spot instance whose request is not persistent."""
    world.fleet.plan = replace(world.fleet.plan, market="spot")
    burst(world)
    world.reconcile()
    assert len(ids(world, "terminated")) == 1


@pytest.mark.parametrize("spot", [True, None])
def test_a_batch_that_asks_for_spot_instances_leaves_stopped_ones_to_requests(world, stopped, spot):
    world.controllers[0].batches = [BatchLoad(10, False, None, None, spot=spot)]
    world.reconcile()
    assert (stopped in world.active) == (not spot)
    assert [i.market for i in world.fleet.instances() if i.active] == ["spot" if spot else "on-demand"]


def test_an_instance_whose_worker_was_never_ready_is_terminated(world, burst):
    burst(world, ready=False)
    world.reconcile()
    assert len(ids(world, "terminated")) == 1


def test_an_instance_whose_worker_has_stopped_reporting_is_terminated(world, burst, aws, on_reply):
    def report_long_ago(reply):
        for item in reply.get("Contents", []):
            if item["Key"].startswith("workers/"):
                item["LastModified"] -= timedelta(seconds=SILENT_AFTER + 5)

    world.ask(1)
    world.reconcile()
    world.ready(*world.active)
    on_reply(aws.s3, "ListObjectsV2", report_long_ago)
    world.reconcile()
    assert len(ids(world, "terminated")) == 1
    assert ids(world, "stopped") == []


@pytest.mark.parametrize("code", ["IncorrectInstanceState", "UnauthorizedOperation", "InternalError"])
def test_what_ec2_does_not_stop_is_terminated(world, burst, aws, on_call, code):
    on_call(aws.ec2, "StopInstances", raising(refusal(code, "StopInstances")))
    (instance_id,) = burst(world)
    world.reconcile()
    assert ids(world, "terminated") == [instance_id]
    assert "EC2 lets only 0 of 1 instances be stopped" in world.reasons


def test_an_instance_that_cannot_be_stopped_does_not_keep_others_from_it(make_world, burst, aws, on_call):
    world = make_world(2)
    first, second = burst(world, 2)

    def refuse_the_first(params):
        if first in params["InstanceIds"]:
            raise refusal("IncorrectInstanceState", "StopInstances")

    on_call(aws.ec2, "StopInstances", refuse_the_first)
    world.reconcile()
    assert (ids(world, "stopped"), ids(world, "terminated")) == ([second], [first])


def test_many_stops_that_ec2_refuses_leave_time_to_terminate_the_instances(make_world, burst, aws, on_call):
    world = make_world(MAXIMUM)
    burst(world, MAXIMUM)

    def refuse(params):
        world.controllers[0].clock += 2.0
        raise refusal("OperationNotPermitted", "StopInstances")

    on_call(aws.ec2, "StopInstances", refuse)
    world.reconcile()
    assert len(ids(world, "terminated")) == MAXIMUM
    assert TOO_LATE not in world.why


def test_an_instance_that_was_told_to_stop_and_still_looks_running_is_not_replaced_in_the_pool(
    world, burst, states
):
    first, second = burst(world, 2)
    states |= {first: ("running", ""), second: ("running", "")}
    for _ in range(3):
        world.reconcile()
    states.clear()
    assert len(ids(world, "stopped")) == len(ids(world, "terminated")) == 1


# Scale-out


def test_scale_out_starts_what_is_stopped_and_launches_the_rest(world, stopped, launches):
    request_id = world.ask(3 * PER_INSTANCE)
    world.reconcile()
    assert launches == [2]
    assert stopped in world.active
    assert len(world.active) == 3
    decision = world.shared.peek().decisions[-1]
    assert (decision.started, len(decision.launched)) == ([stopped], 2)
    assert world.shared.peek().launched[stopped].request_id == request_id
    world.reconcile()
    assert launches == [2]


def test_stopped_instances_do_not_count_for_the_maximum_and_started_ones_do(make_world, burst, launches):
    world = make_world(2)
    burst(world, MAXIMUM)
    for _ in range(3):
        world.reconcile()
    world.ask(10 * MAXIMUM * PER_INSTANCE)
    for _ in range(3):
        world.reconcile()
        assert len(world.active) == MAXIMUM
    assert launches == [MAXIMUM, MAXIMUM - 2]


@pytest.mark.parametrize(
    "code", ["InsufficientInstanceCapacity", "IncorrectInstanceState", "UnauthorizedOperation"]
)
def test_what_ec2_does_not_start_is_launched(world, stopped, launches, aws, on_call, code):
    on_call(aws.ec2, "StartInstances", raising(refusal(code, "StartInstances")))
    world.ask(1)
    for _ in range(2):
        world.reconcile()
    assert launches == [1]
    assert len(world.active) == 1
    assert "EC2 starts only 0 of 1 stopped instance" in world.reasons
    assert ids(world, "stopped") == [stopped], "there may be capacity for it later"


def test_of_several_only_those_without_capacity_are_replaced(make_world, burst, launches, aws, on_call):
    world = make_world(2)
    burst(world, 2)
    for _ in range(2):
        world.reconcile()
    launches.clear()
    without = ids(world, "stopped")[0]

    def refuse_one(params):
        if without in params["InstanceIds"]:
            raise refusal("InsufficientInstanceCapacity", "StartInstances")

    on_call(aws.ec2, "StartInstances", refuse_one)
    world.ask(2 * PER_INSTANCE)
    world.reconcile()
    assert launches == [1]
    assert len(world.active) == 2
    assert ids(world, "stopped") == [without]


def test_many_starts_that_ec2_refuses_leave_time_for_the_launch(make_world, burst, launches, aws, on_call):
    world = make_world(MAXIMUM)
    burst(world, MAXIMUM)
    for _ in range(2):
        world.reconcile()
    assert len(ids(world, "stopped")) == MAXIMUM
    launches.clear()

    def refuse(params):
        world.controllers[0].clock += 2.0
        raise refusal("InsufficientInstanceCapacity", "StartInstances")

    on_call(aws.ec2, "StartInstances", refuse)
    world.ask(MAXIMUM * PER_INSTANCE)
    world.reconcile()
    assert launches == [MAXIMUM]
    assert TOO_LATE not in world.why


def test_a_start_without_an_answer_is_not_doubled_by_a_launch(world, stopped, launches, aws, on_call):
    on_call(aws.ec2, "StartInstances", raising(ReadTimeoutError(endpoint_url="https://ec2.amazonaws.com")))
    world.ask(1)
    for _ in range(3):
        world.reconcile()
    assert launches == [], "it may be on its way"
    world.pass_seconds(LAUNCH_LAG_SECONDS + 1)
    for _ in range(2):
        world.reconcile()
    assert launches == [1]
    assert ids(world, "terminated") == [stopped], "it did not come, and would not the next time"


def test_nothing_is_started_while_a_launch_without_an_answer_is_repeated(world, stopped, launches):
    """Its instances may be coming already, and would then be more than are needed."""
    with world.shared.hold(0) as lease:
        lease.state.unanswered = UnansweredLaunch(at=now(), count=1, request_id="abc")
    world.ask(1)
    world.reconcile()
    assert launches == [1]
    assert ids(world, "stopped") == [stopped]


def test_a_start_that_ec2_does_not_show_yet_is_not_repeated(world, stopped, launches, states, aws, on_call):
    calls: list[object] = []
    on_call(aws.ec2, "StartInstances", calls.append)
    states[stopped] = ("stopped", "Client.UserInitiatedShutdown")
    world.ask(1)
    for _ in range(3):
        world.reconcile()
    assert (len(calls), launches) == (1, [])
    states.clear()
    world.reconcile()
    assert (len(calls), launches) == (1, [])
    assert world.active == [stopped]


def test_a_start_for_which_ec2_finds_no_capacity_later_is_replaced_at_once(world, stopped, launches, states):
    world.ask(1)
    states[stopped] = ("stopped", "Client.UserInitiatedShutdown")
    world.reconcile()
    states[stopped] = ("stopped", "Server.InsufficientInstanceCapacity")
    world.reconcile()
    states.clear()
    assert launches == [1]
    assert ids(world, "terminated") == [stopped]
    assert world.shared.peek().not_ready == []


def test_an_instance_that_is_still_stopping_cannot_be_started_yet(world, burst, launches, states):
    (instance_id,) = burst(world)
    states[instance_id] = ("stopping", "Client.UserInitiatedShutdown")
    world.reconcile()
    world.ask(1)
    world.reconcile()
    assert launches == [1, 1]
    assert instance_id not in world.active


def test_a_started_instance_whose_worker_does_not_get_ready_is_replaced(world, stopped, launches):
    world.ask(1)
    world.reconcile()
    assert world.active == [stopped]
    world.pass_seconds(301)
    world.reconcile()
    assert ids(world, "terminated") == [stopped]
    assert launches == [1]


# What ends in the pool


def test_an_instance_that_was_stopped_for_a_day_is_terminated(world, stopped):
    world.pass_seconds(LONGEST_STOPPED.total_seconds() - 60)
    world.reconcile()
    assert ids(world, "stopped") == [stopped]
    world.pass_seconds(61)
    world.reconcile()
    assert ids(world, "terminated") == [stopped]
    assert "1 stopped instance is too old, too many, or not what would be launched now" in world.reasons


def test_a_day_counts_from_the_last_stop(world, stopped, burst):
    world.pass_seconds(LONGEST_STOPPED.total_seconds() - 60)
    assert burst(world) == [stopped]
    world.reconcile()
    world.pass_seconds(LONGEST_STOPPED.total_seconds() - 60)
    world.reconcile()
    assert ids(world, "stopped") == [stopped]


@pytest.mark.parametrize(
    "change",
    [
        {"ami_id": "ami-0123456789abcdef0"},
        {"instance_types": ["c7i.xlarge"]},
        {"user_data": "#!/bin/bash\necho other settings\n"},
    ],
)
def test_an_instance_of_other_settings_is_neither_kept_nor_started(world, stopped, launches, change):
    world.fleet.plan = plan(**change)
    world.ask(1)
    world.reconcile()
    assert ids(world, "terminated") == [stopped]
    assert launches == [1]


def test_an_outage_of_terminations_in_the_pool_holds_up_no_launch(world, stopped, launches, aws, on_call):
    world.fleet.plan = plan(ami_id="ami-0123456789abcdef0")
    on_call(aws.ec2, "TerminateInstances", raising(refusal("InternalError", "TerminateInstances")))
    world.ask(1)
    with pytest.raises(CloudError, match="could not terminate"):
        world.reconcile()
    assert launches == [1]


def test_an_instance_of_other_settings_that_still_runs_is_terminated_in_the_end(world, burst):
    (instance_id,) = burst(world)
    world.fleet.plan = plan(user_data="#!/bin/bash\necho other settings\n")
    world.reconcile()
    assert ids(world, "terminated") == [instance_id]


def test_a_smaller_pool_terminates_the_surplus_and_none_terminates_all(make_world, burst):
    world = make_world(2)
    burst(world, 2)
    for size in (2, 1, 0):
        world.warm_pool = size
        controller = world.controller()
        for _ in range(2):
            controller.reconcile()
        assert len(ids(world, "stopped")) == size


def test_an_instance_that_somebody_else_has_stopped_is_observed(world, burst, aws):
    (instance_id,) = burst(world)
    aws.ec2.stop_instances(InstanceIds=[instance_id])
    world.reconcile()
    assert ids(world, "stopped") == [instance_id]
    assert world.shared.peek().not_ready == []
    assert instance_id in world.shared.peek().stopped


def test_an_instance_whose_history_is_unknown_is_terminated(world, aws):
    """The state was lost, for example. It may hang in its first boot."""
    (instance_id,) = world.fleet.launch(1, "", "t" * 32)
    aws.ec2.stop_instances(InstanceIds=[instance_id])
    for _ in range(2):
        world.reconcile()
    assert ids(world, "terminated") == [instance_id]


# Deaths and leases


@pytest.fixture
def die_at_the_end_of_a_run(aws, on_call):
    """Runs the autoscaler of the first controller, which dies when it writes what it has done."""

    def run(world: World) -> None:
        writes = Counter()

        def die(params):
            writes[params["Key"]] += 1
            if writes["fleet/state"] == 2:
                raise KeyboardInterrupt

        on_call(aws.s3, "PutObject", die)
        with pytest.raises(KeyboardInterrupt):
            world.controllers[0].autoscaler.reconcile()

    return run


def test_a_process_that_dies_after_a_stop_leaves_a_pool_that_the_next_one_knows(
    world, burst, launches, die_at_the_end_of_a_run, s3_clock
):
    (instance_id,) = burst(world)
    die_at_the_end_of_a_run(world)
    assert ids(world, "stopped") == [instance_id]
    s3_clock.ahead = LEASE_SECONDS + 2
    survivor = world.controller()
    survivor.reconcile()
    assert world.shared.peek().not_ready == []
    world.ask(1, survivor)
    survivor.reconcile()
    assert world.active == [instance_id]
    assert launches == [1]


def test_a_process_that_dies_after_a_start_leaves_an_instance_that_counts(
    world, stopped, launches, die_at_the_end_of_a_run, s3_clock
):
    world.ask(1)
    die_at_the_end_of_a_run(world)
    assert world.active == [stopped]
    s3_clock.ahead = LEASE_SECONDS + 2
    survivor = world.controller()
    survivor.reconcile()
    state = world.shared.peek()
    assert state.launched[stopped].started
    assert state.stopped == {}
    assert (launches, world.active) == ([], [stopped])


@pytest.mark.parametrize("what", ["stop", "start", "reap"])
def test_a_run_that_outlives_its_lease_neither_stops_nor_starts(world, burst, stopped, aws, on_reply, what):
    before = []
    if what == "stop":
        before = burst(world)
    elif what == "start":
        world.ask(1)
    else:
        world.pass_seconds(LONGEST_STOPPED.total_seconds() + 1)
    controller = world.controllers[0]

    def be_slow(reply):
        controller.clock += LEASE_SECONDS

    on_reply(aws.ec2, "DescribeInstances", be_slow)
    controller.autoscaler.reconcile()
    assert world.active == before
    assert ids(world, "terminated") == []
    assert TOO_LATE in world.why


def test_a_launch_does_not_follow_a_start_that_took_too_long(world, stopped, launches, aws, on_reply):
    controller = world.controllers[0]

    def be_slow(reply):
        controller.clock += LEASE_SECONDS

    on_reply(aws.ec2, "StartInstances", be_slow)
    world.ask(2 * PER_INSTANCE)
    controller.autoscaler.reconcile()
    assert world.active == [stopped]
    assert launches == []
    assert TOO_LATE in world.why


# What it costs


def test_a_controller_with_nothing_but_stopped_instances_is_idle(world, stopped, aws, on_call):
    autoscaler = world.controllers[0].autoscaler
    assert autoscaler.reconcile() == IDLE_SECONDS
    calls: Counter[str] = Counter()
    for client in aws:
        for operation in client.meta.service_model.operation_names:
            on_call(client, operation, lambda params, operation=operation: calls.update([operation]))
    pauses = [autoscaler.look() for _ in range(6)]
    assert pauses == [60, 120, *[MESSAGES_SECONDS] * 4]
    assert calls.keys() == {"GetQueueAttributes", "DescribeInstances", "ListObjectsV2"}
    assert autoscaler._pause == LONGEST_IDLE_SECONDS


def test_an_idle_controller_still_terminates_an_instance_after_a_day(world, stopped, monkeypatch):
    autoscaler = world.controllers[0].autoscaler
    autoscaler.reconcile()
    world.pass_seconds(LONGEST_STOPPED.total_seconds() + 1)
    autoscaler._at_rest = {stopped: autoscaler._at_rest[stopped] - world.passed}
    autoscaler.look()
    assert ids(world, "terminated") == [stopped]


def test_an_idle_controller_looks_at_an_instance_that_another_one_has_stopped(make_world, burst):
    world = make_world(1)
    idle = world.controller().autoscaler
    idle.reconcile()
    burst(world)
    world.reconcile()
    assert idle.look() <= IDLE_SECONDS
    (instance_id,) = ids(world, "stopped")
    assert instance_id in idle._at_rest


def test_a_stopped_instance_that_ec2_does_not_let_be_terminated_keeps_no_controller_busy(world, stopped, aws):
    aws.ec2.modify_instance_attribute(InstanceId=stopped, DisableApiTermination={"Value": True})
    world.pass_seconds(LONGEST_STOPPED.total_seconds() + 1)
    autoscaler = world.controllers[0].autoscaler
    autoscaler.reconcile()
    assert autoscaler.reconcile() == IDLE_SECONDS
    assert autoscaler.look() == 2 * IDLE_SECONDS
    assert ids(world, "stopped") == [stopped]


def test_a_stopped_instance_is_terminated_once_ec2_lets_it_be(world, stopped, aws):
    aws.ec2.modify_instance_attribute(InstanceId=stopped, DisableApiTermination={"Value": True})
    world.pass_seconds(LONGEST_STOPPED.total_seconds() + 1)
    autoscaler = world.controllers[0].autoscaler
    autoscaler.reconcile()
    autoscaler.reconcile()
    aws.ec2.modify_instance_attribute(InstanceId=stopped, DisableApiTermination={"Value": False})
    world.pass_seconds(TERMINATE_AGAIN.total_seconds() + 1)
    autoscaler._at_rest = {stopped: autoscaler._at_rest[stopped] - world.passed}
    autoscaler.look()
    assert ids(world, "terminated") == [stopped]


def test_each_start_is_billed_as_at_least_a_minute_and_the_disk_meanwhile(world, stopped, burst):
    assert 60 <= world.shared.peek().ended_seconds < 90
    world.pass_seconds(3600)
    burst(world)
    for _ in range(2):
        world.reconcile()
    state = world.shared.peek()
    assert 120 <= state.ended_seconds < 180
    assert 3600 <= state.stopped_seconds < 3660
    assert list(state.stopped) == [stopped]


def test_what_a_worker_did_before_its_stop_is_counted_once(world, burst):
    """The report of its next life begins at 0."""
    for _ in range(2):
        burst(world)
        (instance_id,) = world.active
        report = world.reports.get(instance_id)
        world.reports.put(report.model_copy(update={"images": 7}))
        for _ in range(3):
            world.reconcile()
    assert world.shared.peek().ended_images == 14


def test_names_stay_unique_beside_stopped_instances(world, stopped):
    world.ask(3 * PER_INSTANCE)
    world.reconcile()
    names = [i.name for i in world.fleet.instances() if i.active]
    assert sorted(names) == ["worker-1", "worker-2", "worker-3"]


def test_deaths_between_any_two_calls_leave_nothing_that_runs_for_nobody(
    make_world, burst, work, aws, on_call, s3_clock
):
    """A process dies at its first call, the next one at its second, and so on, around a stop and a start."""
    world = make_world(1)
    left = [0]

    def die(params):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    for client in aws:
        on_call(client, "*", die)
    burst(world)
    deaths, before = 0, -1
    calls = 0
    while deaths > before:
        calls, before = calls + 1, deaths
        for act in (lambda: None, lambda: world.ask(1, world.controllers[0])):
            request_id = act()
            left[0] = calls
            try:
                world.controller().autoscaler.reconcile()
            except KeyboardInterrupt:
                deaths += 1
            left[0] = 0
            s3_clock.ahead += LEASE_SECONDS + 2
            world.reconcile()
            world.reconcile()
            assert len(world.active) <= 1, f"a death after {calls} calls"
            if request_id:
                assert len(world.active) == 1, f"a death after {calls} calls"
                world.ready(*world.active)
                world.reconcile()
                work()
                world.close(request_id)
    world.reconcile()
    world.reconcile()
    assert world.active == []
    assert len(ids(world, "stopped")) <= 1
    assert deaths > 15
