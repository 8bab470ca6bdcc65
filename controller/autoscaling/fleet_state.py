"""What is remembered of the fleet from one run of the autoscaler to the next (see shared_state.py)."""

import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

from pydantic import BaseModel, Field

from cloud.clock import now
from controller.autoscaling.boots import BOOTS_KEPT, Boot, Call
from controller.autoscaling.demand import Demand
from controller.autoscaling.ec2_fleet import Outcome
from controller.autoscaling.fleet_history import Sample, SentByMinute, add_sent
from controller.autoscaling.launch_walk import Walk
from controller.batches.load import BatchLoad

GIVEN_UP_SECONDS = 10  # the first pause after no worker came
LONGEST_GIVEN_UP_SECONDS = 3600
TERMINATE_AGAIN = timedelta(minutes=10)  # until the next try when EC2 has refused to terminate an instance
NOT_TRIED_AGAIN = timedelta(minutes=1)  # the same when it was not tried by itself, or is not known to EC2
DECISIONS_KEPT = 100
IMAGES_TO_LEARN_FROM = 100
NEW_BOOT_SHARE = 0.3  # the weight of the newest boot in the average
NEW_SPEED_SHARE = 0.1  # the weight of a worker that was slower than others


class Decision(BaseModel):
    """What one run of the autoscaler counted, wanted and did, and why."""

    at: datetime
    by: str
    """The process that ran: <host>/<process id>."""
    seen: dict[str, int]
    """The fields of `Counts`."""
    wanted: int
    launched: list[str] = []
    started: list[str] = []
    terminated: list[str] = []
    stopped: list[str] = []
    why: list[str] = []

    def repeats(self, other: "Decision") -> bool:
        ignored = {"at", "by"}
        return self.model_dump(exclude=ignored) == other.model_dump(exclude=ignored)


class Terminable(BaseModel):
    """An instance of the fleet, which may be terminated one day."""

    not_asked_before: datetime | None = None
    """The time before which EC2 is not asked again to terminate it, because it last did not, or None."""

    @property
    def protected_until(self) -> datetime | None:
        """Until when EC2 is not asked again to terminate it, or None if it may be."""
        until = self.not_asked_before
        return until if until and until > now() else None

    def asked_to_terminate(self, outcome: Outcome, instance_id: str) -> None:
        """Notes what EC2 has just made of the request to terminate this and other instances."""
        pause = TERMINATE_AGAIN if instance_id in outcome.refused else NOT_TRIED_AGAIN
        self.not_asked_before = None if instance_id in outcome.changed else now() + pause


class Launched(Terminable):
    """An instance that was launched, or started again after it was stopped."""

    at: datetime
    request_id: str
    started: bool = False
    """Whether it was stopped before."""
    call: Call | None = None
    """The call that launched or started it, if this is known."""
    launch_time: datetime | None = None
    """EC2's LaunchTime, or None until EC2 shows the instance as active.

    If it changes, the instance was stopped and started again in between.
    """
    settings: str = ""
    """What identifies the settings that it was launched with, or "" until EC2 shows it."""
    pending_until: datetime | None = None
    """When EC2 last showed it as pending, or None if it never did. EC2 bills nothing until then."""
    leaves_since: datetime | None = None
    """Since when EC2 shows that it shuts down or stops, or None. EC2 bills nothing from then on."""
    ending: bool = False
    """Whether a controller has terminated or stopped it."""
    stopping: bool = False
    """Whether a controller has stopped it."""
    perhaps_ending: bool = False
    """Whether a controller has asked EC2 to terminate it, and EC2 has not refused that."""

    @property
    def told_to_end(self) -> bool:
        """Whether it has ended, if it has, because a controller wanted that."""
        return self.ending or self.perhaps_ending

    @property
    def starts_unseen(self) -> bool:
        """Whether it was started, but EC2 has never shown that."""
        return self.started and self.launch_time is None

    ready: bool = False
    """Whether its worker has reported since then."""
    choice: int | None = None
    """The number of the choice of market, type and subnet that it was launched with, if it is known."""
    spot: bool = False
    """Whether a spot instance was asked for, and thus which walk went through the choices."""


class Stopped(Terminable):
    """A stopped instance, which costs only its disk."""

    since: datetime
    usable: bool = True
    """Whether its worker was ready before, so that it can be expected to be ready again after a start."""


class GivenUp(BaseModel):
    """No worker came, again and again, so that the images that waited were answered `failed`."""

    reason: str
    until: datetime
    """The time before which nothing is launched, unless the settings change."""
    rounds: int
    """How often in succession the fleet was given up."""
    settings: str
    """What identifies the settings of the launches."""


class OpenBatches(BaseModel):
    """The batches that are not finished, as the last run saw them."""

    open: int = 0
    """How many there are."""
    images_left: int = 0
    """The images of them that are listed and not answered."""
    listing: bool = False
    """Whether more images may be found."""

    @classmethod
    def of(cls, loads: Sequence[BatchLoad]) -> Self:
        return cls(
            open=len(loads),
            images_left=sum(load.images for load in loads),
            listing=any(load.listing for load in loads),
        )


class UnansweredLaunch(BaseModel):
    at: datetime
    """The time of the last try."""
    count: int
    request_id: str
    spot: bool | None = None
    """Whether spot instances were asked for. None: MARKET decides."""


def new_token() -> str:
    return secrets.token_hex(16)


class FleetState(BaseModel):
    holder: str | None = None
    """The random name of the process that holds the lease, or None."""
    launched: dict[str, Launched] = {}
    """The instances that were launched and whose end was not observed yet, by instance id."""
    stopped: dict[str, Stopped] = {}
    """The stopped instances, by instance id."""
    not_ready: list[str] = []
    """The ids of the last consecutive instances that ended without ever being ready."""
    launch_token: str = ""
    """The beginning of the ClientToken of the next launch, or "" before the first lease.

    It is saved with the lease, before the launch. If a process dies after a launch, or launches when its
    lease has ended, the next holder has the same token, with which EC2 launches only once.
    """
    unanswered: UnansweredLaunch | None = None
    """The last launch with this token, if EC2 may have carried it out without an answer."""
    launch_failures: int = 0
    """The number of consecutive launches that failed for a reason other than capacity."""
    launch_error: str = ""
    """The reason that EC2 gave for the last of them."""
    failing_since: datetime | None = None
    """The time of the first of them."""
    walk: Walk = Field(default_factory=Walk)
    """That of launches of on-demand instances."""
    spot_walk: Walk = Field(default_factory=Walk)
    """That of launches of spot instances."""
    cannot_launch: str = ""
    """Why waiting images are answered `failed` until the next try to launch, or "" to let them wait."""
    no_capacity: str = ""
    """The reason that EC2 gave if the last launch failed for lack of capacity, else ""."""
    no_launch_before: datetime | None = None
    """The time before which no launch may be tried, or None if the last launch did not fail."""
    given_up: GivenUp | None = None
    """Set from when no worker came until one is ready, or until there are other settings."""
    boot_seconds: float | None = None
    """The average time from launch until the worker is ready, or None before the first."""
    boots: list[Boot] = []
    """How long the last boots took, stage by stage, the oldest first."""
    start_seconds: float | None = None
    """The average time from the start of a stopped instance until its worker is ready, or None."""
    ended_seconds: float = 0
    """The seconds that EC2 bills for the instances that have ended or were stopped."""
    ended_images: int = 0
    """The number of images that these instances have processed."""
    ended_busy_seconds: float = 0
    """The seconds in which they had images in hand."""
    full_speed: float | None = None
    """The images per second of a worker that has enough to do, or None until it is known.

    It is that of the fastest of late. A worker that has one image at a time mostly waits for AWS.
    """
    speed_of: str = ""
    """What identifies the settings of the launches of which `full_speed` is, or "" if none have run yet."""
    stopped_seconds: float = 0
    """The seconds that instances were stopped which are not any more."""
    calls: Counter[str] = Counter()
    """The calls of AWS, by `CallKind`, of these instances and of all controller processes."""
    ran_at: datetime | None = None
    """When a run of the autoscaler last ended that did all that it had planned, in whichever process."""
    swept_at: datetime | None = None
    """When lost messages were last looked for while the queue was busy."""
    demand: Demand = Field(default_factory=Demand)
    batches: OpenBatches = Field(default_factory=OpenBatches)
    decisions: list[Decision] = []
    """The last decisions, the oldest first."""
    sampled: Sample | None = None
    """The newest sample of the history."""
    sent: SentByMinute = {}
    """What was sent since that sample."""

    @property
    def seen(self) -> dict[str, int]:
        """Returns what the last run counted, by the names of `Counts`. It is empty before the first run."""
        return self.decisions[-1].seen if self.decisions else {}

    @property
    def images_per_second(self) -> float | None:
        """The measured speed of one worker, or None until it is known well enough to act on."""
        return self.first_images_per_second if self.ended_images >= IMAGES_TO_LEARN_FROM else None

    @property
    def first_images_per_second(self) -> float | None:
        """The speed as soon as anything is known, which is enough for an estimate."""
        return self.ended_images / self.ended_busy_seconds if self.ended_busy_seconds > 0 else None

    def walk_of(self, spot: bool) -> Walk:
        return self.spot_walk if spot else self.walk

    def settle_launch(self) -> None:
        """Notes that what became of the last launch is known, so that the next one is another."""
        self.launch_token, self.unanswered = new_token(), None

    def use_settings(self, settings: str) -> None:
        """Forgets the speed of workers that were launched with other settings, such as another model."""
        if self.speed_of and self.speed_of != settings:
            self.full_speed = None
        self.speed_of = settings

    def note_speed(self, images: int, busy_seconds: float) -> None:
        """Notes what a worker that has ended has done. Too few images tell nothing of its speed."""
        if images < IMAGES_TO_LEARN_FROM or busy_seconds <= 0:
            return
        speed = images / busy_seconds
        known = self.full_speed or speed
        self.full_speed = max(speed, known + NEW_SPEED_SHARE * (speed - known))

    def note_sent(self, requests: int, images: int, now: float) -> None:
        """Notes what a process has sent to the queue. `now` is in seconds since 1970."""
        self.demand.note_sent(requests, images, now)
        if images:
            add_sent(self.sent, int(now // 60), requests, images)

    def note_boot(self, seconds: float, *, started: bool) -> None:
        """Updates the average time of a boot or, if `started`, of a start. Recent ones count most."""
        known = self.start_seconds if started else self.boot_seconds
        average = seconds if known is None else known + NEW_BOOT_SHARE * (seconds - known)
        if started:
            self.start_seconds = average
        else:
            self.boot_seconds = average

    def note_start(self, instance_id: str, request_id: str, call: Call) -> None:
        """Notes that a stopped instance was told to start."""
        self.forget_stopped(instance_id, call.answered_at)
        self.launched[instance_id] = Launched(
            at=call.answered_at, request_id=request_id, started=True, call=call
        )

    def forget_stopped(self, instance_id: str, now: datetime) -> None:
        """Notes that an instance is stopped no more, and for how long it was."""
        self.stopped_seconds += (now - self.stopped.pop(instance_id).since).total_seconds()

    def note_stages(self, boot: Boot) -> None:
        """Keeps the stages of a boot, and forgets those of an old one."""
        self.boots = [*self.boots, boot][-BOOTS_KEPT:]

    def give_up(self, reason: str, settings: str, now: datetime) -> None:
        """Notes that no worker comes, as it was found at `now`.

        Each time in succession, the pause that follows is twice as long.
        """
        if self.given_up and now < self.given_up.until:
            return
        rounds = self.given_up.rounds + 1 if self.given_up else 1
        seconds = min(GIVEN_UP_SECONDS * 2 ** (rounds - 1), LONGEST_GIVEN_UP_SECONDS)
        until = now + timedelta(seconds=seconds)
        self.given_up = GivenUp(reason=reason, until=until, rounds=rounds, settings=settings)
        self.not_ready = []

    def forget_failures(self) -> None:
        """Lets the next launch be tried at once."""
        self.given_up, self.not_ready = None, []
        self.launch_failures, self.failing_since, self.cannot_launch = 0, None, ""
        self.no_launch_before = None

    def remember(self, decision: Decision) -> bool:
        """Keeps the decision. Returns False if it repeats the one before, which then stays alone."""
        if self.decisions and decision.repeats(self.decisions[-1]):
            return False
        self.decisions = [*self.decisions, decision][-DECISIONS_KEPT:]
        return True
