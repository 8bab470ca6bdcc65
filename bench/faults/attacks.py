"""What can happen at a call of AWS, and the attacks: each of that at each call that was recorded."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.faults.breaker import THROTTLING
from bench.faults.rules import Action
from cloud.clients import TRIES, WITH_RETRIES, WITHOUT_RETRIES

LASTS = 20.0  # seconds for which a rule waits for its call
LATE = 2.0  # seconds, within all timeouts
FAILS = {"ec2": ("InternalError", 500), "sqs": ("InternalFailure", 500), "s3": ("InternalError", 500)}
REFUSES = {
    "ec2": ("UnauthorizedOperation", 403),
    "sqs": ("AccessDeniedException", 400),
    "s3": ("AccessDenied", 403),
}


class Kind(NamedTuple):
    """A kind of call, as the local AWS records them."""

    tier: str
    service: str
    operation: str
    place: str

    def __str__(self) -> str:
        return f"{self.tier}: {self.operation} {self.place}".rstrip()


@dataclass(frozen=True)
class Fault:
    """Something that can happen at a call. All but the deaths leave the process that calls alive."""

    name: str
    action: Action
    like: str = ""
    """The fault of the random run (bench.faults) whose effects it has: see bench.faults.verdict."""
    errors: dict[str, tuple[str, int]] | None = field(default=None, hash=False)
    """The code and the HTTP status of a refusal, by service."""
    most: int = 1
    """How many calls of the kind are hit. boto3 repeats a call itself, and all of its tries shall fail."""
    late: bool = False

    @property
    def is_death(self) -> bool:
        return self.action in (Action.KILL_BEFORE, Action.KILL_AFTER)


TIMED_OUT = Fault("timed out", Action.DELAY, "slow calls")
FAULTS = (
    Fault("killed before it", Action.KILL_BEFORE, "kill a worker at a call"),
    Fault("killed after it", Action.KILL_AFTER, "kill a worker at a call"),
    Fault("refused", Action.REFUSE, "sqs errors", REFUSES),
    Fault("failed", Action.REFUSE, "sqs errors", FAILS, most=TRIES),
    Fault("throttled", Action.REFUSE, "throttling", THROTTLING, most=TRIES),
    TIMED_OUT,
    Fault("answered late", Action.DELAY, "slow calls", late=True),
    Fault("body cut", Action.CUT_BODY, "lost replies", most=TRIES),
    Fault("reply lost", Action.LOSE, "lost replies", most=TRIES),
    Fault("answered twice", Action.TWICE, "lost replies"),
)


@dataclass(frozen=True)
class Attack:
    kind: Kind
    fault: Fault
    skip: int = 0
    """How many calls of the kind pass first."""

    def __str__(self) -> str:
        return f"{self.fault.name}: {self.kind}"

    def rule(self) -> dict[str, Any]:
        """Returns the rule, as JSON, that makes it happen once in the next LASTS seconds."""
        tier, service, operation, place = self.kind
        code, status = (self.fault.errors or {}).get(service, ("", 0))
        return {
            "fault": str(self),
            "action": self.fault.action.value,
            "tier": tier,
            "service": service,
            "operation": operation,
            "place": place,
            "skip": self.skip,
            "most": 1 if service == "ec2" else self.fault.most,
            "lasts": LASTS,
            "seconds": LATE if self.fault.late else seconds_of_timeout(service),
            "code": code,
            "status": status,
        }


def seconds_of_timeout(service: str) -> float:
    """Returns the seconds after which a call of the service has timed out."""
    config = WITHOUT_RETRIES if service == "ec2" else WITH_RETRIES
    seconds: float = config.read_timeout + 1  # type: ignore[attr-defined]
    return seconds


def attacks_on(calls: Iterable[tuple[Kind, int]]) -> list[Attack]:
    """Returns all attacks on these kinds of calls, each with how many of it a round of ten images has.

    They hit a call in the middle of the round.
    """
    return [Attack(kind, fault, number // 2) for kind, number in calls for fault in FAULTS]
