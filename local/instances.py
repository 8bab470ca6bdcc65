"""Tracks the states of instances as EC2 does: pending, running, stopping, stopped, shutting-down, terminated.

In moto, an instance changes its state at once. Here, it changes it when the machine behind it has done so.
Source:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
"""

import base64
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from threading import RLock
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.models.instances import Instance, InstanceState, StateReason

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
ALIVE = ("pending", "running")
MARKETS = ("on-demand", "spot", None)  # None stands for both
SHUT_ITSELF_DOWN = StateReason(
    "Client.InstanceInitiatedShutdown: Instance initiated shutdown", "Client.InstanceInitiatedShutdown"
)


@dataclass
class Life:
    """What the record contains about an instance. All times are in seconds since the epoch."""

    id: str
    name: str
    type: str
    market: str
    launched: float
    running: float | None = None
    terminate_called: float | None = None
    terminated: float | None = None
    starts: int = 0
    """How often it was started after it had been stopped."""


class Instances:
    """All instances of all regions, their states, and the limits of EC2's capacity.

    `on_launch(id, user_data, again)` and `on_stop(id)` are called to start and stop the machine of an
    instance; `again` says whether it has run before, and was stopped. The machine then calls `booted`,
    `shutting_down` and `ended`. Without machines, an instance boots and ends at once. `lock` is held during
    every change and every EC2 call.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.on_launch: Callable[[str, bytes, bool], None] = lambda instance_id, *_: self.booted(instance_id)
        self.on_stop: Callable[[str], None] = self.ended
        self.console: Callable[[str], bytes] = lambda instance_id: b""
        """Returns what an instance has printed so far."""
        self.clear()

    def clear(self) -> None:
        self._instances: dict[str, Instance] = {}
        self._lives: dict[str, Life] = {}
        self._most_at_once = 0
        self._capacity: dict[tuple[str, str], int] = {}

    def find(self, instance_id: str) -> Instance | None:
        """Returns the instance, or None if there is none with this id or it is terminated."""
        instance = self._instances.get(instance_id)
        return None if instance is None or instance.state == "terminated" else instance

    def record(self) -> dict[str, Any]:
        with self.lock:
            lives = [asdict(life) for life in self._lives.values()]
            return {"instances": lives, "most_instances_at_once": self._most_at_once}

    def limit(self, instance_type: str, market: str | None, available: int | None) -> None:
        """Limits EC2's capacity to `available` more instances of a type in one of MARKETS.

        If `available` is None, the limit is lifted.
        """
        with self.lock:
            for key in [(instance_type, one) for one in MARKETS if one and market in (None, one)]:
                self._capacity.pop(key, None)
                if available is not None:
                    self._capacity[key] = available

    def capacity(self, instance_type: str, market: str) -> int | None:
        """Returns how many more instances can be launched, or None if there is no limit."""
        return self._capacity.get((instance_type, market))

    def launch(self, instance: Instance) -> None:
        name = {tag["key"]: tag["value"] for tag in instance.get_tags()}.get("Name", "")
        self._instances[instance.id] = instance
        self._lives[instance.id] = Life(instance.id, name, *kind_of(instance), launched=time.time())
        self._power_on(instance, again=False)

    def start(self, instance: Instance) -> None:
        """Starts a stopped instance. Its LaunchTime is then that of the start, as on EC2."""
        instance.launch_time = utcnow()
        instance._reason, instance.state_reason = "", StateReason()
        self._lives[instance.id].starts += 1
        self._power_on(instance, again=True)

    def _power_on(self, instance: Instance, *, again: bool) -> None:
        if kind_of(instance) in self._capacity:
            self._capacity[kind_of(instance)] -= 1
        _set_state(instance, "pending")
        alive = sum(other.state in ALIVE for other in self._instances.values())
        self._most_at_once = max(self._most_at_once, alive)
        self.on_launch(instance.id, base64.b64decode(str(instance.user_data or "")), again)

    def power_off(self, instance: Instance, state: str) -> None:
        """Begins to terminate (`state` is "shutting-down") or to stop ("stopping") an instance."""
        was = instance.state
        if was == "terminated":
            return
        if state == "shutting-down":
            life = self._lives[instance.id]
            life.terminate_called = life.terminate_called or time.time()
        if was in ALIVE or (was == "stopping" and state == "shutting-down"):
            _set_state(instance, state)
            self.on_stop(instance.id)
        elif was == "stopped" and state == "shutting-down":
            _set_state(instance, state)
            self.ended(instance.id)

    def terminate(self, instance_id: str) -> None:
        """Terminates an instance, as EC2 itself does when it interrupts a spot instance."""
        with self.lock:
            if instance := self.find(instance_id):
                self.power_off(instance, "shutting-down")

    def booted(self, instance_id: str) -> None:
        """Must be called when the machine of an instance has booted."""
        with self.lock:
            instance = self.find(instance_id)
            if instance and instance.state == "pending":
                _set_state(instance, "running")
                self._lives[instance_id].running = time.time()

    def shutting_down(self, instance_id: str) -> None:
        """Must be called when an instance begins to shut itself down, or its last process has ended."""
        with self.lock:
            instance = self.find(instance_id)
            if instance and instance.state in ALIVE:
                stays = instance.instance_initiated_shutdown_behavior == "stop"
                _set_state(instance, "stopping" if stays else "shutting-down")
                instance.state_reason = SHUT_ITSELF_DOWN

    def ended(self, instance_id: str) -> None:
        """Must be called when the last process of an instance that shuts down has ended."""
        with self.lock:
            instance = self.find(instance_id)
            if instance is None:
                return
            reason = instance.state_reason
            if instance.state == "stopping":
                instance.stop()
            else:
                instance.terminate()
                self._lives[instance_id].terminated = time.time()
            if reason is SHUT_ITSELF_DOWN:  # moto has replaced it by a shutdown by the user
                instance.state_reason = reason


def kind_of(instance: Instance) -> tuple[str, str]:
    """Returns the type and the market of an instance."""
    return instance.instance_type, instance.lifecycle or "on-demand"


def _set_state(instance: Instance, name: str) -> None:
    instance._state = InstanceState(name, CODES[name])
