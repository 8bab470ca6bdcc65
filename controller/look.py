"""What a look of the autoscaler sees, and what it has done."""

from dataclasses import dataclass, field

from controller.fleet import Instance
from controller.fleet_state import FleetState
from controller.scaling import Seen


@dataclass(frozen=True)
class Waiting:
    """What this process knows of its own requests, whatever SQS's counts say."""

    requests: tuple[str, ...] = ()
    """Their ids, the one that has waited longest first."""
    just_sent: int = 0
    """Unanswered images that were sent within the last minute."""
    submitted: int = 0
    """How many requests this process has had so far."""
    images: int = 0
    """How many images these had that were not refused at once."""


@dataclass(frozen=True)
class Policy:
    max_instances: int
    max_images_per_instance: int


@dataclass
class Look:
    state: FleetState
    instances: list[Instance]
    waiting: Waiting
    seen: Seen
    wanted: int
    launched: list[str] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)

    @property
    def active(self) -> list[Instance]:
        return [i for i in self.instances if i.active and i.instance_id not in self.terminated]
