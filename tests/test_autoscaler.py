import logging
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from io import BytesIO
from threading import Event, Lock, Thread

import pytest
from botocore.exceptions import ReadTimeoutError

from cloud.buckets import OutputBucket
from cloud.errors import CloudError
from cloud.fleet_reports import FleetReports, WorkerReport
from cloud.image_id import new_request_id
from controller.autoscaler import Autoscaler
from controller.fleet import Fleet
from controller.fleet_history import FleetHistory
from controller.fleet_state import LEASE_SECONDS, Busy, SharedState, now
from controller.launching import MAX_LAUNCH_FAILURES, MAX_NOT_READY
from controller.ledger import CAPACITY_AGAIN_SECONDS, LAUNCH_LAG_SECONDS, Ledger
from controller.look import Policy, Waiting
from controller.open_requests import PREFIX, OpenRequest, OpenRequests
from controller.recovery import RESEND_AFTER_SECONDS, Recovery
from controller.scaling import HOLD_SECONDS, PAID_SECONDS
from tests.conftest import refusal
from tests.test_fleet import plan

MAXIMUM, PER_INSTANCE, BOOT_TIMEOUT = 5, 10, 300


class AtomicBucket(OutputBucket):
    """S3's writes are atomic, also for who reads meanwhile; those of moto in one process are not."""

    lock = Lock()

    def write(self, key, body, **more):
        with self.lock:
            return super().write(key, body, **more)

    def read_aged(self, key):
        with self.lock:
            return super().read_aged(key)


class Controller:
    """An autoscaler, and the requests that its process has."""

    def __init__(self, queue, fleet, outputs, open_requests):
        self.requests: dict[str, int] = {}
        self.clock = 1000.0
        self.autoscaler = Autoscaler(
            queue=queue,
            fleet=fleet,
            shared=SharedState(outputs, lambda: self.clock),
            history=FleetHistory(outputs),
            ledger=Ledger(FleetReports(outputs), BOOT_TIMEOUT, 60),
            open_requests=open_requests,
            recovery=Recovery(queue, outputs, open_requests),
            policy=Policy(MAXIMUM, PER_INSTANCE),
            waiting=self.waiting,
            quiet_again_seconds=0.01,
        )
        self.look = self.autoscaler.look

    def waiting(self) -> Waiting:
        return Waiting(tuple(self.requests), sum(self.requests.values()), len(self.requests))


class World:
    """Some controllers, and an AWS whose time the test moves."""

    def __init__(self, aws, queue, inputs, outputs):
        self.queue, self.inputs = queue, inputs
        self.outputs = AtomicBucket(aws.s3, outputs.name)
        self.fleet = Fleet(aws.ec2, "worker", plan())
        self.open_requests = OpenRequests(inputs, self.outputs)
        self.shared, self.reports = SharedState(self.outputs), FleetReports(self.outputs)
        self.controllers = [self.controller()]
        self.look = self.controllers[0].look

    def controller(self) -> Controller:
        return Controller(self.queue, self.fleet, self.outputs, self.open_requests)

    def ask(self, images: int, controller: Controller | None = None, *, send: bool = True) -> str:
        request_id = new_request_id()
        image_ids = [f"{request_id}/{n:04d}-cat.jpg" for n in range(images)]
        self.open_requests.open(request_id, images)
        for image_id in image_ids:
            self.inputs.put_image(image_id, BytesIO(b"x"), "image/png")
        if send:
            self.queue.send(image_ids)
        (controller or self.controllers[0]).requests[request_id] = images
        return request_id

    def close(self, request_id: str, controller: Controller | None = None) -> None:
        """As the polling thread does after the last answer."""
        del (controller or self.controllers[0]).requests[request_id]
        self.open_requests.close(request_id)

    def ready(self, *instance_ids: str) -> None:
        for i in instance_ids:
            self.reports.put(WorkerReport(instance_id=i, model="m", ready_at=now(), seen_at=now()))

    def pass_seconds(self, seconds: float) -> None:
        """Everything that was noted was noted so long ago."""
        ago = timedelta(seconds=seconds)
        with self.shared.hold(0) as lease:
            for launched in lease.state.launched.values():
                launched.at -= ago
            if lease.state.no_launch_before:
                lease.state.no_launch_before -= ago
            for noted in (*lease.state.demand.sent, *lease.state.demand.wanted):
                noted.at -= ago
        for request_id in self.open_requests.ids():
            request = self.open_requests.get(request_id)
            older = OpenRequest(**{**request.model_dump(), "since": request.since - ago})
            self.inputs.write(f"{PREFIX}{request_id}", older.model_dump_json().encode())

    @property
    def active(self) -> list[str]:
        return [i.instance_id for i in self.fleet.instances() if i.active]

    @property
    def names(self) -> list[str]:
        return sorted(i.name for i in self.fleet.instances() if i.active)

    @property
    def why(self) -> str:
        return "\n".join(self.shared.peek().decisions[-1].why)


@pytest.fixture
def world(aws, queue, inputs, outputs) -> World:
    return World(aws, queue, inputs, outputs)


@pytest.fixture
def launches(aws, on_call):
    """How many instances each RunInstances asked for."""
    asked = []
    on_call(aws.ec2, "RunInstances", lambda params: asked.append(params["MaxCount"]))
    return asked


@pytest.fixture
def counts(aws, on_reply):
    """What SQS says of the queue, one after the other; the last one stays. Empty: the truth."""
    says: list[int] = []

    def lie(reply):
        if says and "ApproximateNumberOfMessages" in reply["Attributes"]:
            visible = says.pop(0) if len(says) > 1 else says[0]
            for name in ("", "NotVisible", "Delayed"):
                reply["Attributes"][f"ApproximateNumberOfMessages{name}"] = "0" if name else str(visible)

    on_reply(aws.sqs, "GetQueueAttributes", lie)
    return says


@pytest.fixture
def hidden(aws, on_reply):
    """Ids of instances that DescribeInstances does not show yet, or "all"."""
    ids: set[str] = set()

    def hide(reply):
        for reservation in reply["Reservations"]:
            shown = [i for i in reservation["Instances"] if not ids & {i["InstanceId"], "all"}]
            reservation["Instances"] = shown

    on_reply(aws.ec2, "DescribeInstances", hide)
    return ids


# Scale-out


def test_a_request_gets_the_instances_that_it_needs_however_often_one_looks(world, launches):
    request_id = world.ask(25)
    for _ in range(4):
        assert world.look()
    assert launches == [3], "one call for all"
    assert world.names == ["worker-1", "worker-2", "worker-3"]
    assert {i.request_id for i in world.fleet.instances()} == {request_id}


def test_no_look_ever_launches_more_than_the_maximum(world, launches):
    for _ in range(3):
        world.ask(40)
        world.look()
    assert len(world.active) == MAXIMUM
    assert sum(launches) == MAXIMUM


def test_a_second_request_gets_only_what_the_first_does_not_leave_it(world, launches):
    world.ask(10)
    world.look()
    world.ask(10)
    world.look()
    assert launches == [1, 1]


def test_booting_instances_count(world, launches, aws, on_reply):
    def boot(reply):
        for reservation in reply["Reservations"]:
            for instance in reservation["Instances"]:
                instance["State"] = {"Code": 0, "Name": "pending"}

    on_reply(aws.ec2, "DescribeInstances", boot)
    world.ask(25)
    world.look()
    world.look()
    assert launches == [3]
    assert world.shared.peek().decisions[-1].seen["pending"] == 3


def test_instances_that_describe_instances_does_not_show_yet_count(world, launches, hidden):
    world.ask(45)
    hidden.add("all")
    for _ in range(3):
        world.look()
    assert launches == [5]
    hidden.clear()
    world.look()
    assert launches == [5]


def test_an_instance_that_never_shows_up_is_replaced_in_the_end(world, launches, hidden):
    world.ask(1)
    world.look()
    hidden.update(world.active)
    world.pass_seconds(LAUNCH_LAG_SECONDS + 1)
    world.look()
    assert launches == [1, 1]


def test_what_was_just_sent_counts_though_sqs_does_not_count_it_yet(world, launches, counts):
    counts.append(0)
    world.ask(25)
    world.look()
    assert launches == [3]


def test_images_in_a_workers_hands_still_need_it(world, queue):
    world.ask(10)
    world.look()
    queue.receive(10, 0)
    world.controllers[0].requests.clear()
    assert world.look()
    assert len(world.active) == 1


def test_ec2_may_launch_fewer_and_a_later_look_asks_for_the_rest(world, aws, on_call):
    on_call(aws.ec2, "RunInstances", lambda params: params.update(MinCount=1, MaxCount=1))
    world.ask(25)
    world.look()
    assert len(world.active) == 1
    world.look()
    world.look()
    world.look()
    assert len(world.active) == 3


def test_ten_controllers_that_look_at_once_launch_as_many_as_one(world, launches):
    controllers = [world.controller() for _ in range(10)]
    for controller in controllers:
        world.ask(4, controller)
    errors = []

    def look_twice(controller):
        looks = 0
        try:
            while looks < 2:
                with suppress(Busy):  # on a slow machine: it looks again, as it would
                    controller.look()
                    looks += 1
        except Exception as error:
            errors.append(error)

    threads = [Thread(target=look_twice, args=[controller]) for controller in controllers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(world.active) == 4
    assert sum(launches) == 4
    assert world.names == [f"worker-{n}" for n in range(1, 5)]


def test_a_controller_that_died_between_launch_and_note_costs_no_second_launch(
    world, launches, aws, on_reply, s3_clock
):
    def die(reply):
        raise KeyboardInterrupt

    class Dead(AtomicBucket):
        def write(self, key, body, **more):
            if launches:
                raise CloudError("this process is no more")
            return super().write(key, body, **more)

    dying = Controller(world.queue, world.fleet, Dead(aws.s3, world.outputs.name), world.open_requests)
    world.ask(25, dying)
    on_reply(aws.ec2, "RunInstances", die)
    with pytest.raises(CloudError, match="no more"):
        dying.look()
    assert world.names == ["worker"] * 3, "neither noted nor numbered"
    world.controllers[0].requests |= dying.requests
    s3_clock.ahead = LEASE_SECONDS + 2
    world.look()
    assert launches == [3]
    assert world.names == ["worker-1", "worker-2", "worker-3"]


def test_a_look_that_took_long_leaves_the_launch_to_the_next_one(world, launches, aws, on_call):
    controller, slow = world.controllers[0], [11.0]

    def stall(params):
        controller.clock += slow.pop() if slow else 0

    on_call(aws.ec2, "DescribeInstances", stall)
    world.ask(5)
    world.look()
    assert launches == []
    assert "took too long to launch safely" in world.why
    world.look()
    assert launches == [1]


# Launches that fail


def test_no_capacity_is_tried_again_later_and_never_in_a_tight_loop(world, aws, on_call):
    tries = []

    def refuse(params):
        tries.append(1)
        raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse)
    world.ask(5)
    for _ in range(4):
        assert world.look()
    assert len(tries) == 1
    assert "the next try to launch is at" in world.why
    assert "InsufficientInstanceCapacity says AWS" in world.shared.peek().no_capacity
    for n in range(2, 8):
        world.pass_seconds(CAPACITY_AGAIN_SECONDS + 1)
        world.look()
        assert len(tries) == n, "waiting for capacity is not giving up"
    assert world.queue.counts().visible == 5


def test_capacity_that_comes_back_is_used(world, aws, on_call):
    tries = []

    def refuse(params):
        tries.append(1)
        if len(tries) == 1:
            raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse)
    world.ask(5)
    world.look()
    world.pass_seconds(CAPACITY_AGAIN_SECONDS + 1)
    world.look()
    assert len(world.active) == 1
    assert world.shared.peek().no_launch_before is None
    assert world.shared.peek().no_capacity == ""


def test_a_launch_that_is_refused_is_given_up_and_the_images_get_the_reason(world, aws, on_call, outputs):
    tries = []

    def refuse(params):
        tries.append(1)
        raise refusal("InvalidAMIID.NotFound")

    on_call(aws.ec2, "RunInstances", refuse)
    request_id = world.ask(12)
    while not outputs.answered(request_id):
        world.look()
        world.look()
        world.pass_seconds(60)
    assert len(tries) == MAX_LAUNCH_FAILURES
    for n in range(12):
        error = outputs.get_prediction(f"{request_id}/{n:04d}-cat.jpg").error
        assert error.code == "no_workers"
        assert error.message.startswith("Workers cannot be launched: could not launch 2 on-demand")
        assert "InvalidAMIID.NotFound" in error.message
    assert world.queue.counts().backlog == 0


def test_images_are_not_given_up_while_a_worker_is_there_to_take_them(world, aws, on_call, outputs):
    refused = []

    def refuse(params):
        refused.append(1)
        raise refusal("UnauthorizedOperation")

    world.ask(10)
    world.look()
    world.ready(*world.active)
    on_call(aws.ec2, "RunInstances", refuse)
    request_id = world.ask(30)
    for _ in range(3 * MAX_LAUNCH_FAILURES):
        world.look()
        world.pass_seconds(100)
    assert len(refused) > MAX_LAUNCH_FAILURES, "permission may come back"
    assert outputs.answered(request_id) == []


def test_a_launch_whose_reply_was_lost_is_not_made_twice(world, launches, aws, on_reply, hidden):
    """EC2 may have launched them, and DescribeInstances may not show them for a while."""

    def lose(reply):
        raise ReadTimeoutError(endpoint_url="https://ec2.amazonaws.com")

    on_reply(aws.ec2, "RunInstances", lose)
    hidden.add("all")
    world.ask(25)
    with pytest.raises(CloudError, match="Read timeout"):
        world.look()
    world.look()
    world.look()
    hidden.clear()
    world.pass_seconds(LAUNCH_LAG_SECONDS + 1)
    world.look()
    assert launches == [3]
    assert len(world.active) == 3


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
    world.look()
    assert tries == ["a.big", "b.big"], "the second began 5 s into the lease, a third would have at 10 s"


# Boot failures


def test_an_instance_that_is_never_ready_is_replaced(world, launches):
    world.ask(5)
    world.look()
    first = world.active
    world.pass_seconds(BOOT_TIMEOUT + 1)
    world.look()
    assert len(world.active) == 1
    assert world.active != first
    assert world.names == ["worker-1"]
    assert any(
        "not ready within the boot timeout" in why for d in world.shared.peek().decisions for why in d.why
    )


def test_an_instance_that_is_ready_is_not_replaced(world, launches):
    world.ask(5)
    world.look()
    world.ready(*world.active)
    world.pass_seconds(10 * BOOT_TIMEOUT)
    world.look()
    assert launches == [1]


def test_an_ami_that_never_boots_is_given_up_and_the_images_get_the_reason(world, launches, outputs, queue):
    request_id = world.ask(12)
    for _ in range(10):
        world.look()
        world.pass_seconds(BOOT_TIMEOUT + 1)
        if outputs.answered(request_id):
            break
    assert sum(launches) <= MAX_NOT_READY + 2
    error = outputs.get_prediction(f"{request_id}/0003-cat.jpg").error
    assert error.code == "no_workers"
    assert error.message.startswith("Workers fail to start: ")
    assert "get-console-output" in error.message
    assert len(outputs.answered(request_id)) == 12
    assert queue.counts().backlog == 0
    world.close(request_id)
    world.look()
    assert world.active == []


def test_user_data_that_fails_at_once_is_given_up_too(world, launches, outputs):
    request_id = world.ask(1)
    for _ in range(10):
        world.look()
        if outputs.answered(request_id):
            break
        world.fleet.terminate(world.active)  # as `shutdown -h now` does
    assert len(launches) == MAX_NOT_READY
    assert "Workers fail to start" in outputs.get_prediction(f"{request_id}/0000-cat.jpg").error.message


def test_launches_end_though_the_failures_are_staggered(world, launches, outputs):
    """Some are overdue while others still boot: these are waited for, and not joined by new ones."""
    first = world.ask(10)
    world.look()
    for _ in range(MAXIMUM - 1):
        world.pass_seconds(BOOT_TIMEOUT / MAXIMUM)
        world.ask(10)
        world.look()
    assert sum(launches) == MAXIMUM
    for _ in range(4 * MAXIMUM):
        world.pass_seconds(BOOT_TIMEOUT / MAXIMUM)
        world.look()
        if outputs.answered(first):
            break
    assert outputs.answered(first)
    assert sum(launches) < MAXIMUM + MAX_NOT_READY


def test_after_giving_up_the_next_request_gets_its_tries(world, launches, outputs):
    request_id = world.ask(1)
    while not outputs.answered(request_id):
        world.look()
        world.pass_seconds(BOOT_TIMEOUT + 1)
    world.close(request_id)
    launches.clear()
    world.ask(1)
    world.look()
    assert launches == [1]


# Scale-in


def test_when_all_is_answered_all_are_terminated(world, work):
    request_id = world.ask(25)
    world.look()
    work()
    world.close(request_id)
    assert world.look(), "their ends are to be seen"
    assert world.active == []
    assert not world.look()
    assert world.why == "nothing waits and nothing runs"


def test_quiet_is_believed_when_seen_twice(world, work, counts):
    request_id = world.ask(5)
    world.look()
    work()
    world.close(request_id)
    counts[:] = [0, 3, 0]
    assert world.look()
    assert world.why == "the queue is not quiet after all"
    assert len(world.active) == 1
    world.look()
    assert world.active == []


@pytest.mark.parametrize("state", ["in flight", "delayed"])
def test_a_message_that_is_not_visible_keeps_the_fleet(world, aws, queue, work, state):
    request_id = world.ask(5)
    world.look()
    work()
    world.close(request_id)
    aws.sqs.send_message(QueueUrl=queue.url, MessageBody="x", DelaySeconds=60 if state == "delayed" else 0)
    queue.receive(1, 0)
    assert world.look()
    assert len(world.active) == 1


def test_what_another_open_request_was_launched_for_stays(world, work):
    other = world.controller()
    first = world.ask(10)
    world.look()
    second = world.ask(10, other)
    other.look()
    work()
    world.close(first)
    world.outputs.delete(f"{second}/0003-cat.jpg")  # as if its message had been lost on the way
    world.look()
    assert {i.request_id for i in world.fleet.instances() if i.active} == {second}


def test_no_controller_terminates_what_anothers_request_needs(world, counts):
    """The second found the first one's instance and launched none; SQS does not count its images yet."""
    mine, other = world.controllers[0], world.controller()
    first = world.ask(4)
    world.look()
    second = world.ask(4, other)
    other.look()
    (instance,) = world.active
    for n in range(4):
        world.outputs.write(f"{first}/{n:04d}-cat.jpg", b"{}")
    world.close(first, mine)
    counts.append(0)
    world.look()
    assert world.active == [instance]
    for n in range(4):
        world.outputs.write(f"{second}/{n:04d}-cat.jpg", b"{}")
    world.close(second, other)
    world.look()
    assert world.active == []


def test_of_what_an_answered_request_leaves_only_as_many_stay_as_others_need(world, counts):
    other = world.controller()
    first = world.ask(40)
    world.look()
    second = world.ask(4, other)
    other.look()
    world.close(first)
    for n in range(40):
        world.outputs.write(f"{first}/{n:04d}-cat.jpg", b"{}")
    counts.append(0)
    world.look()
    assert len(world.active) == 1
    assert second in world.open_requests.ids()


def test_a_controller_that_starts_reaps_what_nobody_needs(world, work):
    request_id = world.ask(25)
    world.look()
    work()
    world.open_requests.close(request_id)
    fresh = world.controller()
    fresh.look()
    assert world.active == []


def test_a_request_whose_controller_died_is_served_by_another(world, work, outputs):
    request_id = world.ask(5, send=False)
    world.controllers[0].requests.clear()
    world.pass_seconds(RESEND_AFTER_SECONDS + 1)
    survivor = world.controller()
    survivor.look()
    survivor.look()
    assert len(world.active) == 1
    work()
    survivor.look()
    assert len(outputs.answered(request_id)) == 5
    assert world.open_requests.ids() == []
    assert world.active == []


def test_what_is_above_the_maximum_is_terminated_the_newest_first(world, aws):
    world.fleet.launch(MAXIMUM + 2, "", "t" * 32)
    oldest = world.active[:MAXIMUM]
    world.ask(100)
    world.look()
    assert world.active == oldest
    assert "2 instances more than the maximum" in world.why


def test_an_instance_that_ec2_does_not_let_go_stops_nothing_else(world, aws, work, launches):
    request_id = world.ask(25)
    world.look()
    protected = world.active[1]
    aws.ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})
    world.pass_seconds(BOOT_TIMEOUT + 1)
    world.look()
    assert len(world.active) == 3, "two are replaced"
    assert any("lets only 2 of 3" in why for why in world.shared.peek().decisions[-1].why)
    for _ in range(3):
        world.look()
    assert len(world.shared.peek().not_ready) == 2
    work()
    world.close(request_id)
    world.look()
    assert world.active == [protected]


def test_capacity_that_ec2_takes_back_at_once_is_no_tight_loop(world, launches, aws, on_reply):
    """RunInstances succeeds, and the instance goes from pending to terminated."""

    def take_back(reply):
        for reservation in reply["Reservations"]:
            for instance in reservation["Instances"]:
                instance["State"] = {"Code": 48, "Name": "terminated"}
                instance["StateReason"] = {"Code": "Server.InsufficientInstanceCapacity", "Message": "none"}

    on_reply(aws.ec2, "DescribeInstances", take_back)
    world.ask(5)
    for _ in range(4):
        world.look()
    assert launches == [1]
    assert "the next try to launch is at" in world.why
    world.pass_seconds(CAPACITY_AGAIN_SECONDS + 1)
    world.look()
    assert launches == [1, 1]


def test_dead_letters_become_answers(world, queue, outputs, settings):
    request_id = world.ask(1)
    world.look()
    for _ in range(settings.max_receives):
        queue.give_back(queue.receive(10, 0))
    queue.receive(10, 0)
    world.look()
    assert outputs.get_prediction(f"{request_id}/0000-cat.jpg").error.code == "gave_up"


# What is noted, and the loop around it


def test_each_look_says_what_it_saw_and_did_and_why(world, caplog):
    caplog.set_level(logging.INFO, "controller.autoscaler")
    world.ask(25)
    world.look()
    (decision,) = world.shared.peek().decisions
    assert decision.seen == {
        "visible": 25,
        "in_flight": 0,
        "delayed": 0,
        "just_sent": 25,
        "pending": 0,
        "running": 0,
    }
    assert (decision.wanted, len(decision.launched), decision.terminated) == (3, 3, [])
    assert decision.why[0] == "25 images call for 3 instances: one for each 10, at most 5"
    assert decision.why[1].startswith("the request that waits longest is ")
    (record,) = [r for r in caplog.records if r.message == "look"]
    assert record.decision["launched"] == decision.launched


def test_a_look_that_fails_is_noted_too(world, aws, on_call):
    def refuse(params):
        raise refusal("InternalError", "CreateTags")

    on_call(aws.ec2, "CreateTags", refuse)
    world.ask(5)
    with pytest.raises(CloudError, match="could not name"):
        world.look()
    state = world.shared.peek()
    assert set(state.launched) == set(world.active) == set(state.decisions[-1].launched)
    assert state.holder is None


def test_the_books_of_the_money_are_kept(world, work):
    request_id = world.ask(15)
    world.look()
    for instance_id in world.active:
        report = WorkerReport(instance_id=instance_id, model="m", ready_at=now(), seen_at=now(), images=7)
        world.reports.put(report)
    world.pass_seconds(100)
    work()
    world.close(request_id)
    world.look()
    world.look()
    state = world.shared.peek()
    assert 200 <= state.ended_seconds < 230
    assert state.ended_images == 14
    assert state.launched == {}


def test_the_loop_goes_on_whatever_a_look_raises(world, caplog):
    looks, stop, done = [], Event(), Event()
    autoscaler = world.controllers[0].autoscaler

    def look():
        looks.append(1)
        if len(looks) == 1:
            raise CloudError("S3 is down")
        if len(looks) == 2:
            raise ValueError("a bug")
        stop.set()
        done.set()
        return False

    autoscaler.look = look
    thread = Thread(target=autoscaler.run, args=[stop])
    thread.start()
    while not done.wait(0.01):
        autoscaler.wake.set()
    autoscaler.wake.set()
    thread.join(10)
    assert not thread.is_alive()
    assert "the look failed: S3 is down" in caplog.text
    assert "ValueError: a bug" in caplog.text


def test_an_idle_fleet_costs_few_calls(world, aws, on_call):
    world.look()
    calls = Counter()
    for client in aws:
        on_call(client, "*", lambda params, name=client.meta.service_model.service_name: calls.update([name]))
    world.look()
    assert calls["ec2"] == 1
    assert calls["sqs"] == 1
    assert calls["s3"] <= 4


def test_a_trickle_does_not_keep_the_fleet_of_a_burst(world):
    """Every worker gets an image now and then, so none is idle for long; but one would do."""
    burst = world.ask(5 * PER_INSTANCE)
    world.look()
    world.ready(*world.active)
    with world.shared.hold(0) as lease:
        lease.state.ended_images, lease.state.ended_busy_seconds = 1000, 200.0
    while messages := world.queue.receive(10, 0):
        world.queue.delete(messages)
    world.close(burst)
    world.ask(1)
    world.look()
    assert len(world.active) == MAXIMUM, "the burst was a moment ago"
    world.pass_seconds(PAID_SECONDS + HOLD_SECONDS)
    world.look()
    assert len(world.active) == 1
    assert "more than the load has called for" in world.why


def test_the_history_follows_a_burst_from_nothing_to_nothing(world, work):
    history = FleetHistory(world.outputs)
    world.look()
    assert history.read() == []
    request_id = world.ask(25)
    world.look()
    world.look()  # the same again, at once
    work()
    world.close(request_id)
    world.look()
    world.look()
    kept = history.read()
    assert [(s.visible, s.pending + s.running, s.wanted) for s in kept] == [(25, 3, 3), (25, 3, 3), (0, 0, 0)]
    assert kept[-1].idle


def test_a_history_that_cannot_be_written_hinders_no_look(world, monkeypatch, caplog):
    def fail(sample):
        raise CloudError("could not write the history")

    monkeypatch.setattr(world.controllers[0].autoscaler.history, "add", fail)
    world.ask(5)
    world.look()
    assert len(world.fleet.instances()) == 1
    assert "could not write the history" in caplog.text
    assert world.shared.peek().sampled is None
