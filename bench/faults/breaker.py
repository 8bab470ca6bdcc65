"""Draws faults at random from a seed, and lets them happen to a running system."""

import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import requests
from botocore.exceptions import BotoCoreError, ClientError

from bench.faults.rules import Action, Hit
from local.driver import System

LEASE_SECONDS = 20  # of the lease on the fleet
SHORT_POLL = '"WaitTimeSeconds": 0'
LEASE_TAKEN = '"holder":"'
EC2_ERRORS = {"InternalError": 500, "Unavailable": 503, "RequestLimitExceeded": 503}
SQS_ERRORS = {"InternalFailure": 500, "ServiceUnavailable": 503}
THROTTLING = {"ec2": ("RequestLimitExceeded", 503), "sqs": ("RequestThrottled", 400), "s3": ("SlowDown", 503)}
SLOW = {
    "RunInstances": "ec2",
    "TerminateInstances": "ec2",
    "DescribeInstances": "ec2",
    "CreateTags": "ec2",
    "SendMessageBatch": "sqs",
    "ReceiveMessage": "sqs",
    "PutObject": "s3",
    "ListObjectsV2": "s3",
}


class Breaker:
    """Each method that is among the faults lets one happen, and returns whether there was anything to hit.

    Those that hit calls of AWS put a rule in force, and the endpoint notes what the rule hits. The others
    are noted in `hit`.
    """

    def __init__(self, system: System, seed: int, over: Event, visibility_timeout: float, skew: Path) -> None:
        self.system, self.draw, self.over = system, random.Random(seed), over
        self.visibility_timeout, self.skew = visibility_timeout, skew
        self.hit: list[Hit] = []

    def run(self) -> None:
        """Lets a fault happen every few seconds until `over` is set."""
        faults: list[Callable[[], bool]] = [
            self.kill_a_worker,
            self.freeze_a_worker,
            self.take_a_spot_instance,
            self.kill_a_controller,
            self.kill_at_a_call,
            self.pause_the_lease_holder,
            self.pause_a_controller,
            self.skew_a_clock,
            self.no_capacity,
            self.ec2_errors,
            self.sqs_errors,
            self.throttle,
            self.s3_slow_down,
            self.empty_receives,
            self.lose_replies,
            self.slow_calls,
        ]
        while not self.over.wait(self.draw.uniform(1, 6)):
            fault = self.draw.choice(faults)
            with suppress(psutil.Error, requests.RequestException, BotoCoreError, ClientError):
                fault()

    def note(self, fault: str, tier: str = "") -> bool:
        self.hit.append(Hit(time.time(), fault, "", tier))
        return True

    def rule(self, fault: str, action: Action, **more: Any) -> bool:
        seed = self.draw.getrandbits(32)
        self.system.control("faults", {"fault": fault, "action": action.value, "seed": seed, **more})
        return True

    def drawn_worker(self) -> psutil.Process | None:
        ids = [i["InstanceId"] for i in self.system.instances("running")]
        found = [p for instance_id in ids for p in self.system.processes_of(instance_id)]
        return self.draw.choice(found) if found else None

    def kill_a_worker(self) -> bool:
        if worker := self.drawn_worker():
            worker.kill()
            return self.note("kill a worker", "worker")
        return False

    def freeze_a_worker(self) -> bool:
        worker = self.drawn_worker()
        if worker is None:
            return False
        worker.suspend()
        self.note("freeze a worker", "worker")
        self.over.wait(self.visibility_timeout * 1.5)
        worker.resume()
        return True

    def take_a_spot_instance(self) -> bool:
        """Takes an instance away after a notice, or at once, as EC2 does when there was no capacity."""
        found = self.system.instances("pending", "running")
        if not found:
            return False
        self.system.interrupt(self.draw.choice(found)["InstanceId"], self.draw.choice([0.1, 2, 10]))
        return self.note("take a spot instance", "worker")

    def kill_a_controller(self) -> bool:
        if found := self.system.controllers():
            self.draw.choice(found).kill()
            return self.note("kill a controller", "controller")
        return False

    def kill_at_a_call(self) -> bool:
        """Kills the process that makes the n-th call from now on, before or after that call."""
        tier = self.draw.choice(["controller", "worker"])
        action = self.draw.choice([Action.KILL_BEFORE, Action.KILL_AFTER])
        skip = self.draw.randrange(40)
        return self.rule(f"kill a {tier} at a call", action, tier=tier, skip=skip, most=1)

    def pause_the_lease_holder(self) -> bool:
        return self.rule(
            "pause the lease's holder",
            Action.PAUSE_AFTER,
            operation="PutObject",
            path="fleet/state",
            body=LEASE_TAKEN,
            most=1,
            seconds=LEASE_SECONDS + self.draw.uniform(1, 8),
        )

    def pause_a_controller(self) -> bool:
        skip, seconds = self.draw.randrange(40), self.draw.uniform(1, LEASE_SECONDS + 5)
        return self.rule(
            "pause a controller", Action.PAUSE_AFTER, tier="controller", skip=skip, most=1, seconds=seconds
        )

    def skew_a_clock(self) -> bool:
        """Starts processes of one tier with another clock from now on, and ends one to make room for that."""
        tier = self.draw.choice(["controller", "worker"])
        ahead = json.loads(self.skew.read_text())
        ahead[tier] = self.draw.choice([0, -1, 1]) * self.draw.uniform(5, 900)
        new = self.skew.with_suffix(".new")
        new.write_text(json.dumps(ahead))
        new.rename(self.skew)
        self.note("skew a clock", tier)
        return self.kill_a_controller() if tier == "controller" else self.kill_a_worker()

    def no_capacity(self) -> bool:
        self.system.limit(0)
        self.note("no capacity")
        self.over.wait(self.draw.uniform(2, 8))
        self.system.limit(None)
        return True

    def ec2_errors(self) -> bool:
        code = self.draw.choice(list(EC2_ERRORS))
        return self.refuse("ec2 errors", "ec2", code, EC2_ERRORS[code], self.draw.uniform(2, 60), 1.0)

    def sqs_errors(self) -> bool:
        code = self.draw.choice(list(SQS_ERRORS))
        return self.refuse("sqs errors", "sqs", code, SQS_ERRORS[code], self.draw.uniform(2, 15), 0.5)

    def throttle(self) -> bool:
        service = self.draw.choice(list(THROTTLING))
        code, status = THROTTLING[service]
        return self.refuse("throttling", service, code, status, self.draw.uniform(2, 20), 0.3)

    def s3_slow_down(self) -> bool:
        """Answers most calls with 503 SlowDown, so that also those that boto3 repeats fail."""
        return self.refuse("s3 SlowDown", "s3", "SlowDown", 503, self.draw.uniform(2, 15), 0.8)

    def refuse(
        self, fault: str, service: str, code: str, status: int, lasts: float, probability: float
    ) -> bool:
        return self.rule(
            fault,
            Action.REFUSE,
            service=service,
            code=code,
            status=status,
            lasts=lasts,
            probability=probability,
        )

    def empty_receives(self) -> bool:
        """Half of the short polls see no messages, because SQS asks only some of its servers for them."""
        return self.rule(
            "falsely empty receives",
            Action.EMPTY,
            service="sqs",
            operation="ReceiveMessage",
            body=SHORT_POLL,
            probability=0.5,
            lasts=self.draw.uniform(10, 60),
        )

    def lose_replies(self) -> bool:
        """Calls are carried out, but their connections are cut in place of the reply."""
        service = self.draw.choice(["s3", "sqs", "ec2", ""])
        most, lasts = self.draw.randint(1, 20), self.draw.uniform(2, 10)
        return self.rule(
            "lost replies", Action.LOSE, service=service, probability=0.4, most=most, lasts=lasts
        )

    def slow_calls(self) -> bool:
        """Calls take longer than some clients wait, and are then carried out nevertheless."""
        operation = self.draw.choice(list(SLOW))
        seconds, most = self.draw.uniform(2, 12), self.draw.randint(1, 4)
        return self.rule(
            "slow calls",
            Action.DELAY,
            service=SLOW[operation],
            operation=operation,
            seconds=seconds,
            most=most,
            lasts=15,
        )
