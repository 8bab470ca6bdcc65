import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from cloud.buckets import JsonObjects
from cloud.call_counts import CallCounts, UnbookedCalls
from cloud.clock import now
from cloud.errors import CloudError
from cloud.prices import DISK_GB, CallKind
from cloud.worker_reports import WorkerReport, WorkerReports
from controller.autoscaling.boots import Boot
from controller.autoscaling.ec2_fleet import Fleet
from controller.autoscaling.fleet_history import KEY as HISTORY
from controller.autoscaling.fleet_history import FleetHistory, Sample
from controller.autoscaling.fleet_state import Decision, Launched, OpenBatches, Stopped
from controller.autoscaling.planner import Policy
from controller.autoscaling.shared_state import SharedState
from controller.dashboard.fleet_text import as_text, by_state, headline
from controller.dashboard.fleet_view import FRESH_SECONDS, FleetView
from controller.dashboard.fleet_view import view as shown_as
from controller.dashboard.scaling_costs import ScalingReplay
from deploy.make_ami import read_arguments
from tests.support.aws_errors import refusal
from tests.support.launch_plan import plan


@pytest.fixture
def fleet(aws) -> Fleet:
    return Fleet(aws.ec2, "state", "worker", plan())


@pytest.fixture
def calls() -> CallCounts:
    return CallCounts()


@pytest.fixture
def shared(state, calls) -> SharedState:
    return SharedState(state, unbooked=UnbookedCalls(calls))


@pytest.fixture
def view(queue, fleet, shared, state) -> FleetView:
    reports = WorkerReports(state)
    return FleetView(
        queue,
        fleet,
        shared,
        reports,
        FleetHistory(state),
        max_instances=5,
        max_images_per_instance=10,
        price_per_hour=3.6,
        replay=ScalingReplay(Policy(5, 10, boot_timeout=300, silent_after=60, scaling="rate"), 3.6),
    )


@pytest.fixture
def report(state):
    def put(instance_id: str, images: int, **more) -> None:
        made = WorkerReport(
            instance_id=instance_id,
            model="m",
            engine="openvino",
            precision="int8",
            ready_at=now(),
            seen_at=now(),
            images=images,
            **more,
        )
        WorkerReports(state).put(made)

    return put


def test_an_empty_fleet_is_shown(view):
    shown = view.read()
    assert (shown.instances, shown.decisions) == ([], [])
    assert shown.money.dollars == 0
    assert shown.money.dollars_per_1000_images is None
    json.dumps(shown.model_dump(mode="json"))


def test_the_queue_and_the_policy_are_shown(view, queue):
    queue.send(["a", "b", "c"])
    queue.receive(1, 0)
    shown = view.read()
    assert shown.queue == {"visible": 2, "in_flight": 1, "delayed": 0}
    assert (shown.max_instances, shown.max_images_per_instance) == (5, 10)


def test_what_is_left_of_batches_is_shown(view, shared):
    assert view.read().batches == OpenBatches()
    with shared.hold(0) as lease:
        lease.state.batches = OpenBatches(open=2, images_left=1200, listing=True)
    shown = view.read()
    assert shown.model_dump(mode="json")["batches"] == {
        "open": 2,
        "images_left": 1200,
        "listing": True,
    }
    assert headline(shown) == "Nothing waits, at least 1,200 images left of 2 batches, no instance up"
    assert "batches    2 open, at least 1,200 images left" in as_text(shown).splitlines()


def test_each_instance_is_shown_with_what_it_did_and_for_whom(view, fleet, report):
    ready, draining, booting, ended = fleet.launch(4, "abc", "t" * 32)
    fleet.terminate([ended])
    fleet.number(fleet.instances())
    report(ready, 7)
    report(draining, 3, draining=True)
    shown = {i.instance_id: i for i in view.read().instances}
    assert set(shown) == {ready, draining, booting}
    assert {i.name for i in shown.values()} == {"worker-1", "worker-2", "worker-3"}
    assert (shown[ready].state, shown[ready].images, shown[ready].request_id) == ("ready", 7, "abc")
    assert (shown[draining].state, shown[draining].images) == ("draining", 3)
    assert (shown[booting].state, shown[booting].images) == ("running", 0)
    assert shown[ready].classifies_with == "m in int8 with openvino"
    assert shown[booting].classifies_with == ""
    assert 0 <= shown[ready].age_seconds < 60


def test_the_money_is_that_of_all_instances_so_far(view, shared, fleet, report):
    (instance_id,) = fleet.launch(1, "abc", "t" * 32)
    report(instance_id, 40)
    with shared.hold(0) as lease:
        lease.state.ended_seconds, lease.state.ended_images = 1000, 60
        lease.state.launched[instance_id] = Launched(at=now(), request_id="abc")
    money = view.read().money
    assert 1060 <= money.instance_seconds < 1090, "EC2 bills a minute at the least"
    assert money.images == 100
    assert money.dollars == pytest.approx(money.instance_seconds * 0.001, rel=0.01)
    assert money.items[0].dollars == pytest.approx(money.dollars, rel=0.001)
    assert money.dollars_per_1000_images == pytest.approx(money.dollars * 10, rel=0.01)


def test_the_money_of_one_that_has_ended_counts_before_its_end_is_booked(view, shared, fleet, report):
    (instance_id,) = fleet.launch(1, "abc", "t" * 32)
    report(instance_id, 40)
    with shared.hold(0) as lease:
        lease.state.launched[instance_id] = Launched(at=now(), request_id="abc")
    fleet.terminate([instance_id])
    shown = view.read()
    assert (shown.instances, shown.money.images) == ([], 40)


def test_a_stopped_instance_is_shown_and_does_not_count_as_up(view, shared, fleet, report, aws, on_call):
    stopped, ready = fleet.launch(2, "abc", "t" * 32)
    report(ready, 7)
    aws.ec2.stop_instances(InstanceIds=[stopped])
    with shared.hold(0) as lease:
        lease.state.stopped[stopped] = Stopped(since=now())
    read = []
    on_call(aws.s3, "GetObject", lambda params: read.append(params["Key"]))
    shown = view.read()
    assert {i.instance_id: i.state for i in shown.instances} == {stopped: "stopped", ready: "ready"}
    assert shown.up == 1
    assert headline(shown) == "Nothing waits, 1 instance up"
    assert by_state(shown.instances) == "1 ready, 1 stopped"
    assert f"workers/{stopped}" not in read, "its report is gone"
    assert (shown.history[-1].starting, shown.history[-1].ready) == (0, 1)


def test_a_fleet_with_nothing_but_stopped_instances_runs_nothing(view, shared, fleet, aws):
    (stopped,) = fleet.launch(1, "abc", "t" * 32)
    aws.ec2.stop_instances(InstanceIds=[stopped])
    with shared.hold(0) as lease:
        lease.state.stopped[stopped] = Stopped(since=now())
    shown = view.read()
    assert headline(shown) == "Nothing waits, nothing runs"
    assert shown.history[-1].idle
    assert f"{stopped}  stopped" in as_text(shown)


def test_a_stopped_instance_costs_its_disk(view, shared):
    month = timedelta(hours=730)
    with shared.hold(0) as lease:
        lease.state.stopped_seconds = month.total_seconds()
        lease.state.stopped["i-1"] = Stopped(since=now() - month)
        lease.state.ended_seconds = 1000
    money = view.read().money
    [disks] = [item for item in money.items if item.item == "disks"]
    assert disks.dollars == pytest.approx(2 * 1.28, rel=0.001)
    assert money.dollars == pytest.approx(1 + 2 * 1.28, rel=0.001)


def test_the_disk_is_that_of_the_ami(monkeypatch):
    monkeypatch.setattr("sys.argv", ["make_ami"])
    assert read_arguments().disk == DISK_GB


def test_the_bill_has_the_calls_of_everybody(view, shared, fleet, report, calls):
    """Of the instances that have ended, of the one that runs, and of this process since it last ran."""
    (instance_id,) = fleet.launch(1, "abc", "t" * 32)
    report(instance_id, 40, calls=Counter(s3_get=400_000, s3_put=30_000))
    with shared.hold(0) as lease:
        lease.state.calls.update(s3_put=70_000, sqs=500_000)
        lease.state.launched[instance_id] = Launched(at=now(), request_id="abc")
    for _ in range(100_000):
        calls.add(CallKind.S3_GET)
    money = view.read().money
    rows = {item.item: (item.amount, item.dollars) for item in money.items}
    assert rows["s3_put"] == (100_001, pytest.approx(0.5, rel=0.001))
    assert rows["s3_get"] == (500_000, pytest.approx(0.2))
    assert rows["sqs"] == (500_000, pytest.approx(0.2))
    assert money.dollars == pytest.approx(0.9 + rows["instances"][1], rel=0.001)
    assert sum(item.share or 0 for item in money.items) == pytest.approx(1, abs=0.001)
    assert money.dollars_per_1000_images == pytest.approx(money.dollars * 25)


def test_notices_are_on_the_bill_once_there_are_any(view, shared, calls):
    assert "sns" not in [item.item for item in view.read().money.items]
    with shared.hold(0) as lease:
        lease.state.calls.update(sns=2_000_000)
    view.shown = None
    [row] = [item for item in view.read().money.items if item.item == "sns"]
    assert (row.name, row.amount, row.dollars) == ("SNS", 2_000_000, 1.0)


def test_the_calls_of_an_instance_that_is_in_no_books_do_not_count(view, shared, fleet, report):
    (instance_id,) = fleet.launch(1, "abc", "t" * 32)
    report(instance_id, 40, calls=Counter(s3_get=400_000))
    money = view.read().money
    assert (money.dollars, money.images) == (0, 0)


def test_the_newest_decision_comes_first(view, shared):
    with shared.hold(0) as lease:
        for n in range(3):
            at = now() + timedelta(seconds=n)
            lease.state.remember(Decision(at=at, by="h/1", seen={"visible": n}, wanted=n, why=[f"look {n}"]))
    assert [d.why for d in view.read().decisions] == [["look 2"], ["look 1"], ["look 0"]]


def test_the_boots_are_shown_newest_first(view, shared):
    with shared.hold(0) as lease:
        for n in range(3):
            boot = Boot(instance_id=f"i-{n}", ready_at=now(), pending=5, boot=9, model=1)
            lease.state.note_stages(boot)
    assert [b.instance_id for b in view.read().boots] == ["i-2", "i-1", "i-0"]


def test_to_look_changes_nothing(view, state):
    view.read()
    assert list(state.keys("")) == []


def test_an_aws_that_does_not_answer_is_a_cloud_error(view, aws, on_call):
    def refuse(params):
        raise refusal("RequestLimitExceeded", "DescribeInstances")

    on_call(aws.ec2, "DescribeInstances", refuse)
    with pytest.raises(CloudError, match="could not list the worker instances"):
        view.read()


def test_the_history_ends_with_this_moment(view, state, queue):
    kept = Sample(at=now() - timedelta(minutes=1), visible=4, in_flight=0, starting=1, ready=0, wanted=1)
    ahead = kept.model_copy(update={"at": now() + timedelta(minutes=5)})
    JsonObjects(state, list[Sample]).write(HISTORY, [kept, ahead])
    queue.send(["a", "b"])
    shown = view.read()
    assert shown.history[0] == kept
    assert (shown.history[-1].at, shown.history[-1].visible, len(shown.history)) == (shown.at, 2, 2)


def test_one_reading_serves_all_who_look_at_about_the_same_time(view, aws, on_call):
    calls = []
    on_call(aws.ec2, "DescribeInstances", lambda params: calls.append(params))
    view.readings.clock = lambda: moment
    moment = 100.0
    first = view.recent()
    assert view.recent() is first
    assert len(calls) == 1
    moment += FRESH_SECONDS
    assert view.recent() is not first


def test_one_failure_serves_all_as_well(view, aws, on_call):
    calls = []

    def refuse(params):
        calls.append(params)
        raise refusal("RequestLimitExceeded", "DescribeInstances")

    on_call(aws.ec2, "DescribeInstances", refuse)
    view.readings.clock = lambda: 100.0
    for _ in range(3):
        with pytest.raises(CloudError):
            view.recent()
    assert len(calls) == 1


def test_a_clock_that_differs_makes_no_age_negative(fleet, report):
    fleet.launch(1, "abc", "t" * 32)
    (instance,) = fleet.instances()
    ahead = replace(instance, launched_at=now() + timedelta(minutes=3))
    assert shown_as(ahead, None).age_seconds == 0
