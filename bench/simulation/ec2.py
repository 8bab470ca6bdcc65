"""EC2 as the simulator has it: boots that take their time, limits on launches, and the bill."""

from bench.simulation.luck import draw_boots
from bench.simulation.parameters import Parameters


class Instance:
    __slots__ = (
        "draining",
        "ended",
        "hand",
        "idle_place",
        "idle_since",
        "instance_id",
        "launched",
        "ready",
        "running",
    )

    def __init__(self, instance_id: str, launched: float, running: float, ready: float) -> None:
        self.instance_id = instance_id
        self.launched, self.running, self.ready = launched, running, ready
        """When it was launched, and when it is in these states, now or later."""
        self.ended = float("inf")
        self.hand: list[int] = []
        """Images that its worker has received and not yet answered."""
        self.idle_place = -1
        self.idle_since = ready
        self.draining = False


class Ec2:
    def __init__(self, parameters: Parameters, seed: int) -> None:
        self.parameters = parameters
        self.luck = draw_boots(parameters, seed).tolist()
        """The factor of the n-th launch, by which its boot takes longer. It is the same for every policy."""
        self.active: dict[Instance, None] = {}
        self.ended: list[Instance] = []
        self.stopped: list[float] = []
        """When each of the stopped instances was stopped, the oldest first."""
        self.stopped_seconds = 0.0
        """How long all of them have been stopped that were started again."""
        self.launches = self.most = 0
        self.sizes: list[tuple[float, int]] = [(0.0, 0)]
        """(time, active instances) at every change."""
        self.tokens, self.tokens_at = parameters.launch_bucket, 0.0

    def pending(self, now: float) -> int:
        return sum(instance.running > now for instance in self.active)

    def launch(self, count: int, now: float) -> list[Instance]:
        """Launches up to `count` instances, as throttling, quota and capacity allow, and returns them."""
        p = self.parameters
        self.tokens = min(p.launch_bucket, self.tokens + (now - self.tokens_at) * p.launch_refill)
        self.tokens_at = now
        short = [left for start, end, left in p.shortfalls if start <= now < end]
        count = max(0, min(count, int(self.tokens), min([p.quota, *short]) - len(self.active)))
        self.tokens -= count
        return [self.add(now, *self.boot(now)) for _ in range(count)]

    def boot(self, now: float) -> tuple[float, float]:
        """The seconds until it is running, and then until it is ready. Stopped ones are started first."""
        p, luck = self.parameters, self.luck[self.launches % len(self.luck)]
        seconds = p.boot_seconds
        if self.stopped and self.stopped[0] + p.stop_seconds <= now:
            self.stopped_seconds += now - max(0.0, self.stopped.pop(0))
            seconds = p.start_seconds
        return p.pending_seconds * luck, seconds * luck

    def stop(self, instance: Instance, now: float) -> None:
        self.end(instance, now)
        self.stopped.append(now)

    def add(self, now: float, pending: float, boot: float) -> Instance:
        self.launches += 1
        instance = Instance(f"i-{self.launches}", now, now + pending, now + pending + boot)
        self.active[instance] = None
        self.note(now)
        return instance

    def end(self, instance: Instance, now: float) -> None:
        instance.ended = now
        del self.active[instance]
        self.ended.append(instance)
        self.note(now)

    def note(self, now: float) -> None:
        self.most = max(self.most, len(self.active))
        self.sizes.append((now, len(self.active)))

    def disk_seconds(self, now: float) -> float:
        """Returns how long disks were kept without an instance that runs."""
        return self.stopped_seconds + sum(now - max(0.0, since) for since in self.stopped)

    def idle_seconds(self, busy: float) -> float:
        """Returns how long the instances that have ended were ready and had no work."""
        return sum(max(0.0, i.ended - i.ready) for i in self.ended) - busy

    def billed(self) -> float:
        """Instance-seconds of the instances that have ended: from `running` on, a minute at least."""
        ran = [i.ended - i.running for i in self.ended if i.ended > i.running]
        return sum(max(self.parameters.minimum_billed, seconds) for seconds in ran)
