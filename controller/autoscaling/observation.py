"""What a look of the autoscaler sees, and what it has done."""

from dataclasses import dataclass, field

from controller.autoscaling.ec2_fleet import Instance
from controller.autoscaling.fleet_state import FleetState
from controller.autoscaling.scaling import Seen
from controller.image_requests.waiting import Waiting


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
