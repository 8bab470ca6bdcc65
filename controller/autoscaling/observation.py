"""What one run of the autoscaler observes. The planner decides from this alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cloud.request_queue import QueueCounts
from controller.autoscaling.rate_scaling import CalledFor
from controller.autoscaling.scaling import Sent
from controller.batches.load import BatchLoad

BOOT_GUESS_SECONDS = 60.0  # assumed until a boot was measured; instances of EC2 take about this long


@dataclass(frozen=True)
class Counts(QueueCounts):
    """The images in the queue and the instances on EC2, as they were counted."""

    just_sent: int
    """The unanswered images that were sent so recently that SQS may not count them yet."""
    pending: int
    running: int
    stopped: int = 0

    @property
    def in_queue(self) -> int:
        return super().backlog

    @property
    def backlog(self) -> int:
        """The images that wait for a prediction.

        Those in flight count, because their worker is still needed. The images that were just sent are the
        least that there can be, whatever SQS counts.
        """
        return max(self.in_queue, self.just_sent)


@dataclass(frozen=True)
class ObservedInstance:
    """An instance that is pending or running."""

    instance_id: str
    age: float
    """Seconds since it was launched, or started again."""
    ready: bool = False
    """Whether its worker has reported since then."""
    silent: float = 0.0
    """Seconds since its worker's last report, or 0 if it has never reported."""
    ending: bool = False
    """Whether it has been told to terminate or to stop, although EC2 still shows it as active."""
    protected: bool = False
    """Whether EC2 has refused to terminate it, and is not asked again yet."""
    request_id: str = ""
    """The request that it was launched for."""
    spot: bool = False
    """Whether it is a spot instance."""

    @property
    def stays(self) -> bool:
        return not (self.ending or self.protected)


@dataclass(frozen=True)
class Observation:
    """All times are in seconds. `now` and `no_launch_before` count from the same moment."""

    now: float
    counts: Counts
    quiet: bool = True
    """Whether an empty queue was counted twice, and no request was sent in between.

    SQS's counts are approximate, and requests that follow each other closely leave the queue empty at times.
    """
    instances: Sequence[ObservedInstance] = ()
    """The instances that are pending or running, the oldest first."""
    unseen: int = 0
    """The number of instances that were launched but that EC2 does not show yet."""
    ending: int = 0
    """The number of instances whose end has not been recorded yet."""
    requests: int = 0
    """The number of requests of this process that wait for predictions."""
    unanswered: Mapping[str, int] = field(default_factory=dict)
    """The requests of all processes that wait, each with its number of images that do.

    This is known only if the queue is empty, and was read after the queue was counted.
    """
    batches: Sequence[BatchLoad] = ()
    """What each batch that is open still asks for."""
    arrivals: Sequence[Sent] = ()
    """What was sent in the last minutes, the oldest first."""
    called_for_lately: Sequence[int] = ()
    """The numbers of instances that the load has called for in recent runs."""
    levels: Sequence[CalledFor] = ()
    """For how long no run has called for as many instances, the most instances first."""
    boot_seconds: float = BOOT_GUESS_SECONDS
    """How long a boot takes: as long as those before, or a guess."""
    images_per_second: float | None = None
    """The measured speed of one worker, or None until it is known."""
    full_speed: float | None = None
    """The same for a worker that has enough to do."""
    no_launch_before: float | None = None
    """The time before which no launch may be tried, or None if the last launch did not fail."""
    cannot_launch: str = ""
    """Why images need not wait for the next try to launch, or "" if they should."""
    not_ready: Sequence[str] = ()
    """The ids of the last consecutive instances that ended without ever being ready."""
    given_up: str = ""
    """The reason for which nothing is launched before `given_up_until`, or "" if there is none."""
    given_up_until: float = 0.0

    @property
    def best_speed(self) -> float | None:
        """The images per second of a worker that has enough to do, as far as it is known."""
        return self.full_speed or self.images_per_second
