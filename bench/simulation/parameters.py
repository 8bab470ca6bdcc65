from dataclasses import dataclass, field, replace
from math import ceil, sqrt
from typing import Self

from cloud.request_queue import MAX_BATCH
from worker.engine import BATCH_SIZES


def given(default: float, meaning: str) -> float:
    """Returns a field whose metadata says what it is, for `--help`."""
    value: float = field(default=default, metadata={"meaning": meaning})
    return value


@dataclass(frozen=True)
class Parameters:
    """What the simulator is told of workers, SQS and EC2. Times are in seconds."""

    images_per_second: float = given(150.0, "how fast one instance classifies, in the mean")
    speed_spread: float = given(0.3, "standard deviation of an image's work, over its mean")
    pending_seconds: float = given(5.0, "mean time from RunInstances to `running`; EC2 does not bill it")
    boot_seconds: float = given(40.0, "mean time from `running` to the worker's first receive; billed")
    start_seconds: float = given(24.0, "the same for an instance that was stopped")
    stop_seconds: float = given(30.0, "until an instance that stops can be started again")
    boot_spread: float = given(0.15, "standard deviation of these, over their means")
    counts_lag: float = given(2.0, "how old SQS's counts are")
    look_seconds: float = given(0.3, "how long our autoscaler's look takes; what comes meanwhile waits")
    images_per_instance: int = given(600, "MAX_IMAGES_PER_INSTANCE")  # type: ignore[assignment]
    maximum: int = given(150, "MAX_INSTANCES")  # type: ignore[assignment]
    warm_pool: int = given(10, "WARM_POOL, of the policy that has one")  # type: ignore[assignment]
    quota: int = given(300, "instances that the account may have at once")  # type: ignore[assignment]
    launch_bucket: float = given(1000.0, "instances that RunInstances starts at once before it throttles")
    launch_refill: float = given(2.0, "instances a second that it starts when it throttles")
    minimum_billed: float = given(60.0, "what EC2 bills for a launch or a start at least")
    idle_shutdown: float = given(120.0, "IDLE_SHUTDOWN_SECONDS of our workers")
    hand: int = given(MAX_BATCH, "messages that a worker receives at once")  # type: ignore[assignment]
    batch: int = given(BATCH_SIZES[-1], "images that it answers at once")  # type: ignore[assignment]
    request_timeout: float = given(300.0, "an image that waits longer counts as unanswered")
    shortfalls: tuple[tuple[float, float, int], ...] = ()
    """(from, to, instances): EC2 has no more than so many to give in that time."""

    def in_blocks(self, images: int) -> Self:
        """Returns the same in a world whose images are blocks of so many."""
        return replace(
            self,
            images_per_second=self.images_per_second / images,
            speed_spread=self.speed_spread / sqrt(images),
            images_per_instance=ceil(self.images_per_instance / images),
            hand=ceil(self.hand / images),
            batch=ceil(self.batch / images),
        )

    def started_warm(self) -> Self:
        """Returns the same where every boot takes no longer than that of a stopped instance."""
        return replace(self, boot_seconds=min(self.boot_seconds, self.start_seconds))

    @property
    def cold_seconds(self) -> float:
        """The mean time from launch until the worker is ready."""
        return self.pending_seconds + self.boot_seconds
