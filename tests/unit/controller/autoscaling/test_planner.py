"""The plan for single observations, and for long sequences of them that Hypothesis makes up."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.autoscaling.observation import Counts, Observation, ObservedInstance
from controller.autoscaling.planner import (
    BUSY_SECONDS,
    IDLE_SECONDS,
    MAX_NOT_READY,
    Plan,
    Policy,
    plan,
)
from controller.autoscaling.scaling import PAID_SECONDS, Sent
from controller.batches.load import BatchLoad

POLICY = Policy(max_instances=5, max_images_per_instance=10, boot_timeout=300, silent_after=60)


def seen(visible=0, in_flight=0, *, just_sent=0) -> Counts:
    return Counts(visible, in_flight, 0, just_sent, 0, 0)


def instances(count: int, **fields) -> tuple[ObservedInstance, ...]:
    return tuple(ObservedInstance(f"i-{n}", **{"age": 100.0, "ready": True, **fields}) for n in range(count))


def test_an_idle_fleet_needs_nothing():
    assert plan(Observation(0, seen()), POLICY) == Plan(
        next_run_in=IDLE_SECONDS, reasons=("nothing waits and nothing runs",)
    )


@pytest.mark.parametrize(
    ("backlog", "running", "unseen", "launched"),
    [(1, 0, 0, 1), (10, 0, 0, 1), (11, 0, 0, 2), (25, 1, 0, 2), (25, 1, 1, 1), (25, 3, 0, 0), (999, 0, 0, 5)],
)
def test_the_backlog_calls_for_instances_less_those_that_there_are(backlog, running, unseen, launched):
    made = plan(Observation(0, seen(backlog), instances=instances(running), unseen=unseen), POLICY)
    assert (made.launch, made.terminate, made.fail) == (launched, (), "")
    assert made.next_run_in == BUSY_SECONDS


def test_images_that_were_just_sent_count_although_sqs_does_not_count_them_yet():
    assert plan(Observation(0, seen(just_sent=25)), POLICY).launch == 3


def test_once_all_is_answered_all_are_terminated():
    made = plan(Observation(0, seen(), instances=instances(3)), POLICY)
    assert made.terminate == ("i-0", "i-1", "i-2")
    assert made.reasons[-1] == "3 instances have nothing left to do"


def test_requests_that_follow_each_other_closely_keep_the_fleet():
    made = plan(Observation(0, seen(), quiet=False, instances=instances(3)), POLICY)
    assert (made.terminate, made.next_run_in) == ((), BUSY_SECONDS)
    assert made.reasons == ("new work has come, so that nothing is terminated",)


def test_an_open_request_keeps_the_instances_that_were_launched_for_it():
    fleet = (*instances(1, request_id="open"), ObservedInstance("i-9", 100, True, request_id="answered"))
    assert plan(Observation(0, seen(), instances=fleet, unanswered={"open": 3}), POLICY).terminate == ("i-9",)


def test_open_requests_keep_as_many_instances_as_they_need():
    made = plan(Observation(0, seen(), instances=instances(4), unanswered={"a": 10, "b": 1}), POLICY)
    assert made.terminate == ("i-0", "i-1")


@pytest.mark.parametrize(
    ("instance", "late", "reason"),
    [
        (ObservedInstance("i", 301, False), ("i",), "1 instance was not ready within the boot timeout"),
        (ObservedInstance("i", 9999, True, silent=61), (), "1 worker has stopped reporting"),
    ],
)
def test_an_instance_that_will_do_no_work_is_terminated_before_anything_else(instance, late, reason):
    made = plan(Observation(0, seen(25), instances=(instance,)), POLICY)
    assert made == Plan(
        wanted=3, called_for=3, terminate=("i",), late=late, next_run_in=0, reasons=(reason,)
    ), "what EC2 then shows decides the rest, at once"


@pytest.mark.parametrize(
    "instance",
    [
        ObservedInstance("i", 299, False),
        ObservedInstance("i", 9999, True, silent=59),
        ObservedInstance("i", 301, False, ending=True),
        ObservedInstance("i", 301, False, protected=True),
    ],
)
def test_an_instance_that_may_yet_work_or_that_nothing_more_can_be_done_about_stays(instance):
    assert plan(Observation(0, seen(5), instances=(instance,)), POLICY).terminate == ()


def test_the_newest_instances_beyond_the_maximum_are_terminated():
    made = plan(Observation(0, seen(5), instances=instances(7)), POLICY)
    assert made.terminate == ("i-5", "i-6")
    assert made.reasons == ("2 instances more than the maximum",)


def test_no_launch_is_tried_before_its_time():
    observation = Observation(1000, seen(5), no_launch_before=1060.0)
    assert plan(observation, POLICY).launch == 0
    assert plan(observation, POLICY).reasons[-1] == "the next try to launch is at 00:17:40"
    assert plan(replace(observation, now=1060.0), POLICY).launch == 1


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (
            {"cannot_launch": "Workers cannot be launched: no such AMI", "no_launch_before": 60.0},
            "Workers cannot be launched: no such AMI",
        ),
        ({"not_ready": ["i-1"] * MAX_NOT_READY}, "Workers fail to start: 3 in a row never got ready."),
    ],
)
def test_images_are_given_up_when_no_worker_comes(trouble, reason):
    assert plan(Observation(0, seen(5), **trouble), POLICY).fail.startswith(reason)
    assert plan(Observation(0, seen(5), instances=instances(1), **trouble), POLICY).fail == "", (
        "one may yet take them"
    )


def test_an_instance_that_neither_backlog_nor_arrivals_call_for_is_let_go():
    observation = Observation(0, seen(1), instances=instances(3), images_per_second=5.0)
    assert plan(observation, POLICY).terminate == ("i-0", "i-1")
    assert plan(replace(observation, images_per_second=None), POLICY).terminate == (), "speed is unknown"
    assert plan(replace(observation, called_for_lately=[3]), POLICY).terminate == (), "wanted a moment ago"
    busy = [Sent(age, 1, 120) for age in range(100, 0, -10)]
    assert plan(replace(observation, arrivals=busy), POLICY).terminate == (), "the load goes on"
    young = instances(3, age=PAID_SECONDS - 1)
    assert plan(replace(observation, instances=young), POLICY).terminate == (), "the minute is paid for"


@pytest.mark.parametrize("scaling", ["queue", "rate"])
def test_an_instance_that_still_boots_is_let_go_before_one_that_works(scaling):
    """Else the image that waits would wait for a boot."""
    working, booting = instances(1), instances(3, ready=False, age=80.0)[1:]
    observation = Observation(0, seen(1), instances=[*working, *booting], images_per_second=5.0)
    policy = replace(POLICY, scaling=scaling)
    assert plan(observation, policy).terminate == ("i-1", "i-2")
    told = [replace(i, ending=True, ready=True) for i in booting]
    shown = replace(observation, instances=[*working, *told])
    assert plan(shown, policy).terminate == ("i-1", "i-2"), "EC2 shows them a while longer"


@pytest.mark.parametrize("scaling", ["queue", "rate"])
def test_another_instance_goes_in_place_of_one_that_ec2_does_not_let_go(scaling):
    protected, *others = instances(3)
    there = [replace(protected, protected=True), *others]
    observation = Observation(0, seen(1), instances=there, images_per_second=5.0)
    assert plan(observation, replace(POLICY, scaling=scaling)).terminate == ("i-1", "i-2")
    idle = replace(observation, counts=seen(), instances=there[:1])
    assert plan(idle, replace(POLICY, scaling=scaling)).terminate == (), "it was asked a moment ago"


LATE = ObservedInstance("i", 301, protected=True)
SILENT = ObservedInstance("i", 9999, ready=True, silent=61, protected=True)


@pytest.mark.parametrize("scaling", ["queue", "rate"])
@pytest.mark.parametrize("lost", [LATE, SILENT])
def test_an_instance_without_a_worker_that_ec2_does_not_let_go_is_replaced_up_to_the_maximum(lost, scaling):
    policy = replace(POLICY, scaling=scaling)
    observation = Observation(0, seen(5), instances=[lost])
    assert plan(observation, policy).launch == 1
    assert plan(replace(observation, counts=seen(1000)), policy).launch == POLICY.max_instances - 1
    full = replace(observation, instances=[lost] * POLICY.max_instances)
    assert plan(full, policy).fail.startswith("MAX_INSTANCES allows no more instances")
    batch = [BatchLoad(100, False, None, None)]
    waiting = replace(full, counts=seen(), batches=batch)
    assert (plan(waiting, policy).launch, plan(waiting, policy).fail) == (0, "")


def test_of_what_nothing_waits_for_those_that_work_stay_for_open_requests():
    working, booting = instances(1), instances(2, ready=False)[1:]
    observation = Observation(0, seen(), instances=[*booting, *working], unanswered={"r": 10})
    assert plan(observation, POLICY).terminate == ("i-1",)


@dataclass
class Machine:
    instance_id: str
    launched: float
    ready: bool = False
    reported: float = 0.0
    request_id: str = ""


@dataclass
class Fleet:
    """A fleet, a queue and a memory, as simple as they can be."""

    machines: list[Machine] = field(default_factory=list)
    not_ready: list[str] = field(default_factory=list)
    open_requests: dict[str, int] = field(default_factory=dict)
    batches: list[BatchLoad] = field(default_factory=list)
    made: int = 0


class PlansOneAfterTheOther(RuleBasedStateMachine):
    """Requests and batches come, instances boot, hang, or vanish, workers answer, SQS's counts lag; plans are
    applied.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.fleet = Fleet()
        self.last = Plan()

    @rule(images=st.integers(1, 80))
    def request(self, images: int) -> None:
        self.fleet.made += 1
        self.fleet.open_requests[f"request-{self.fleet.made}"] = images

    @rule(
        images=st.integers(0, 100_000),
        deadline=st.none() | st.floats(0, 5000),
        budget=st.none() | st.floats(0, 1),
    )
    def a_batch_is_opened(self, images: int, deadline: float | None, budget: float | None) -> None:
        self.fleet.batches.append(BatchLoad(images, False, deadline, budget))

    @precondition(lambda self: self.fleet.batches)
    @rule()
    def a_batch_is_finished(self) -> None:
        self.fleet.batches.pop(0)

    @rule(seconds=st.floats(0.1, 400))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.fleet.machines)
    @rule(data=st.data())
    def a_worker_reports(self, data: st.DataObject) -> None:
        machine = data.draw(st.sampled_from(self.fleet.machines))
        machine.ready, machine.reported = True, self.now
        self.fleet.not_ready = []

    @precondition(lambda self: any(m.ready for m in self.fleet.machines) and self.fleet.open_requests)
    @rule()
    def a_request_is_answered(self) -> None:
        del self.fleet.open_requests[next(iter(self.fleet.open_requests))]

    @precondition(lambda self: self.fleet.machines)
    @rule()
    def an_instance_vanishes(self) -> None:
        gone = self.fleet.machines.pop()
        if not gone.ready:
            self.fleet.not_ready.append(gone.instance_id)

    @rule(lag=st.booleans(), speed=st.none() | st.floats(0.1, 50))
    def run(self, lag: bool, speed: float | None) -> None:
        """`lag`: SQS says that the queue is empty, and this process has sent nothing itself."""
        waiting = 0 if lag else sum(self.fleet.open_requests.values())
        observation = Observation(
            now=self.now,
            counts=seen(waiting),
            instances=[
                ObservedInstance(
                    m.instance_id,
                    self.now - m.launched,
                    m.ready,
                    self.now - m.reported if m.ready else 0.0,
                    request_id=m.request_id,
                )
                for m in self.fleet.machines
            ],
            requests=len(self.fleet.open_requests),
            unanswered={} if waiting else dict(self.fleet.open_requests),
            batches=tuple(self.fleet.batches),
            images_per_second=speed,
            not_ready=tuple(self.fleet.not_ready),
        )
        self.last = plan(observation, POLICY)
        self.check(observation)
        self.apply()

    def check(self, observation: Observation) -> None:
        made = self.last
        assert 0 <= made.launch <= POLICY.max_instances
        assert 0 <= made.wanted <= POLICY.max_instances
        assert not (made.launch and made.terminate), "nothing is launched that could have stayed"
        assert not (made.launch and (made.fail or made.pause))
        assert len(set(made.terminate)) == len(made.terminate)
        known = {i.instance_id: i for i in observation.instances}
        for instance_id in made.terminate:
            instance = known[instance_id]
            hopeless = instance.silent > POLICY.silent_after or (
                not instance.ready and instance.age > POLICY.boot_timeout
            )
            assert hopeless or instance.request_id not in observation.unanswered
        assert made.reasons or made.fail
        assert plan(observation, POLICY) == made, "the same observation makes the same plan"

    def apply(self) -> None:
        self.fleet.machines = [m for m in self.fleet.machines if m.instance_id not in self.last.terminate]
        self.fleet.not_ready += self.last.late
        if self.last.fail:
            self.fleet.open_requests, self.fleet.not_ready = {}, []
        if self.last.pause:
            self.fleet.not_ready = []
        for _ in range(self.last.launch):
            self.fleet.made += 1
            request_id = next(iter(self.fleet.open_requests), "")
            self.fleet.machines.append(Machine(f"i-{self.fleet.made}", self.now, request_id=request_id))

    @invariant()
    def there_are_never_more_than_the_maximum(self) -> None:
        assert len(self.fleet.machines) <= POLICY.max_instances

    def teardown(self) -> None:
        """Once nothing is asked any more and all is answered, the fleet goes, and the plans settle."""
        self.fleet.open_requests, self.fleet.batches = {}, []
        for _ in range(3):
            self.run(lag=False, speed=5.0)
        assert self.fleet.machines == []
        assert (self.last.launch, self.last.next_run_in) == (0, IDLE_SECONDS)


TestPlansOneAfterTheOther = PlansOneAfterTheOther.TestCase
TestPlansOneAfterTheOther.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
