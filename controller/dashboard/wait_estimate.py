"""Explains why a request waits, and estimates for how long. These functions use neither AWS nor a clock."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel

from controller.autoscaling.observation import BOOT_GUESS_SECONDS

START_GUESS_SECONDS = 20.0  # assumed until a start was measured; the disk is there, and has what a boot reads
LATE = 2.0  # a boot that takes this many times as long as usual is reported as slow


class Wait(BaseModel):
    """What the system is doing for a request that has unanswered images."""

    state: Literal["queued", "launching", "classifying", "stalled"]
    message: str
    """One or two sentences for people."""
    estimate_seconds: int | None = None
    """Seconds until the event that the message announces, or None if they cannot be estimated.

    The event is the last prediction, the first ready worker or the next launch.
    """


class Facts(NamedTuple):
    """The state of the fleet after the autoscaler's last run. All times are in seconds."""

    queued: int
    """The number of messages in the queue, including those in flight."""
    ready: int
    """The number of workers that take messages."""
    boot_ages: Sequence[float]
    """The time since launch of each launched instance that is not ready yet."""
    max_instances: int
    max_images_per_instance: int
    boot_seconds: float | None = None
    """The measured time from launch until the worker is ready, or None before the first measurement."""
    start_ages: Sequence[float] = ()
    """The time since the start of each instance that was stopped, and is not ready yet."""
    start_seconds: float | None = None
    """The measured time from such a start until the worker is ready, or None before the first measurement."""
    images_per_second: float | None = None
    """The measured speed of one worker, or None until it is known."""
    next_try: float | None = None
    """The time until the next launch may be tried, or None if the last one did not fail."""
    no_capacity: str = ""
    """The reason that EC2 gave if the last launch failed for lack of capacity, else ""."""
    launch_error: str = ""
    """The error message if the last launch failed for another reason, else ""."""
    not_ready: int = 0
    """The number of consecutive instances that ended without ever being ready."""

    @property
    def starting(self) -> list[tuple[float, float]]:
        """The age of each instance that is not ready yet, with the usual age at which one gets ready.

        The one that should be ready first comes first.
        """
        boot, start = self.boot_seconds or BOOT_GUESS_SECONDS, self.start_seconds or START_GUESS_SECONDS
        found = [(age, boot) for age in self.boot_ages] + [(age, start) for age in self.start_ages]
        return sorted(found, key=lambda one: one[1] - one[0])


def outlook(waiting: int, facts: Facts) -> Wait:
    """Returns the outlook for a request with `waiting` unanswered images."""
    if facts.ready:
        return classifying(waiting, facts)
    if facts.starting:
        return launching(facts)
    if not facts.queued:  # the autoscaler has not run since the request was sent
        return Wait(state="queued", message="In the queue; what it needs is being worked out.")
    if facts.next_try is not None and (facts.launch_error or facts.no_capacity):
        return stalled(facts)
    return Wait(state="queued", message="In the queue; instances will be launched for it in a moment.")


def classifying(waiting: int, facts: Facts) -> Wait:
    images = max(waiting, facts.queued)
    seconds = seconds_to_answer(images, facts)
    message = f"{some(facts.ready, 'instance')} {'classifies' if facts.ready == 1 else 'classify'}"
    message += f" {some(images, 'waiting image')}"
    if waiting < images:
        message += f", {waiting:,} of them of this request"
    message += "." if seconds is None else f": about {duration(seconds)}."
    if starting := len(facts.starting):
        message += f" {starting:,} more {'is' if starting == 1 else 'are'} starting."
    elif at_maximum(images, facts):
        message += f" No more than {some(facts.max_instances, 'instance')} may run at once."
    return Wait(state="classifying", message=message, estimate_seconds=seconds)


def launching(facts: Facts) -> Wait:
    longest, usual = facts.starting[0]
    message, seconds = f"Starting {some(len(facts.starting), 'instance')}", rounded(usual - longest)
    if longest < usual:
        message += f": about {duration(seconds)} until the first takes work."
    elif longest < LATE * usual:
        message, seconds = f"{message}: the first takes work any moment now.", rounded(0)
    else:
        message += f": this takes longer than the usual {duration(rounded(usual))}."
        return Wait(state="launching", message=message + failures(facts))
    return Wait(state="launching", message=message + failures(facts), estimate_seconds=seconds)


def stalled(facts: Facts) -> Wait:
    seconds = rounded(facts.next_try or 0)
    again = f"trying again in about {duration(seconds)}"
    if facts.no_capacity:
        message = f"EC2 has no capacity right now: {again}."
    else:
        message = f"Launching fails, {again}: {sentence(facts.launch_error)}"
    return Wait(state="stalled", message=message, estimate_seconds=seconds)


def failures(facts: Facts) -> str:
    return f" Before, {some(facts.not_ready, 'instance')} never got ready." if facts.not_ready else ""


def at_maximum(images: int, facts: Facts) -> bool:
    """Returns whether only `max_instances` prevents further launches for this number of images."""
    allowed = facts.max_instances
    return facts.ready >= allowed and images > allowed * facts.max_images_per_instance


def seconds_to_answer(images: int, facts: Facts) -> int | None:
    """Returns the seconds until `images` images are classified, or None while the speed is not known.

    Workers that are ready begin at once. Those that are starting join when they are expected to be ready.
    """
    speed = facts.images_per_second
    if not speed:
        return None
    joins = [0.0] * facts.ready + [max(0.0, usual - age) for age, usual in facts.starting]
    done, seconds = 0.0, 0.0
    for workers, (joined, until) in enumerate(zip(joins, [*joins[1:], float("inf")], strict=True), 1):
        seconds = joined + (images - done) / (workers * speed)
        if seconds <= until:
            break
        done += workers * speed * (until - joined)
    return rounded(seconds)


def rounded(seconds: float) -> int:
    """Rounds up to steps of 1, 5 or 15 seconds, so that a countdown does not change every second."""
    step = 1 if seconds <= 10 else 5 if seconds <= 60 else 15
    return max(1, -(-int(-(-seconds // 1)) // step) * step)


def duration(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{round(seconds / 60):,} minutes"


def some(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
