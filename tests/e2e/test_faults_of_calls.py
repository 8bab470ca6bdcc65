"""Whatever happens at a call of AWS: every image has one final answer, and no instance is left."""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from bench.faults.breaker import LEASE_SECONDS, Breaker
from bench.faults.load import FILES, Clients, Seen
from bench.faults.rules import Action
from bench.faults.verdict import figures_and_zeros, instances_left, messages_left
from local.driver import ROOT, System, eventually, running

VISIBILITY_TIMEOUT = 4
SETTINGS = {
    "MODEL": "efficientnet_lite0",
    "MAX_INSTANCES": "2",
    "VISIBILITY_TIMEOUT": str(VISIBILITY_TIMEOUT),
    "WEB_CONCURRENCY": "2",
    "PYTHONPATH": str(ROOT / "bench" / "faults" / "skewed_clock"),
}


class UnderFaults:
    """A system, its clients, and the faults that a test chooses."""

    def __init__(self, system: System, skew: Path) -> None:
        self.system, self.seen = system, Seen()
        self.clients = Clients(system, Event(), self.seen)
        self.breaker = Breaker(system, 1, Event(), VISIBILITY_TIMEOUT, skew)

    def ask(self) -> None:
        """Uploads until it is accepted, and waits for the answers and for the end of the instances."""
        self.clients.send(FILES, secrets.token_hex(8))
        eventually(lambda: all(self.clients.read(sent) for sent in self.seen.accepted), 90, every=0.2)
        eventually(lambda: not instances_left(self.system) and not messages_left(self.system), 60, every=0.2)

    def check(self) -> None:
        images = [image for sent in self.seen.accepted for image in sent.images_seen]
        assert {i["error"]["code"] for i in images if i["error"]} == {"not_an_image"}
        figures, zeros = figures_and_zeros(self.system, self.seen, [])
        assert not any(zeros.values()), zeros
        assert figures["instances at once, at most"] <= 2


@pytest.fixture
def under_faults(tmp_path: Path) -> Iterator[UnderFaults]:
    skew = tmp_path / "skew.json"
    skew.write_text("{}")
    settings = {**SETTINGS, "SKEW_FILE": str(skew)}
    with running(tmp_path / "output", "bench.faults.aws", **settings) as system:
        system.client("s3").put_bucket_versioning(
            Bucket="output-predictions", VersioningConfiguration={"Status": "Enabled"}
        )
        yield UnderFaults(system, skew)


@pytest.mark.parametrize(("tier", "skips"), [("controller", (0, 5, 12)), ("worker", (0, 2, 6))])
def test_a_death_at_any_call_loses_no_image(under_faults, tier, skips):
    for skip in skips:
        for action in (Action.KILL_BEFORE, Action.KILL_AFTER):
            under_faults.breaker.rule("death", action, tier=tier, skip=skip, most=1, lasts=60)
            under_faults.ask()
    under_faults.check()


def test_a_holder_of_the_lease_that_stands_still_is_replaced_and_does_no_harm(under_faults):
    under_faults.breaker.pause_the_lease_holder()
    under_faults.ask()
    time.sleep(LEASE_SECONDS)  # the first one goes on meanwhile
    under_faults.ask()
    under_faults.check()


def test_lost_replies_lose_no_image_and_answer_none_twice(under_faults):
    for service in ("s3", "sqs", "ec2"):
        under_faults.breaker.rule("lost", Action.LOSE, service=service, probability=0.4, most=12, lasts=20)
        under_faults.ask()
    under_faults.check()


def test_processes_whose_clocks_are_wrong_work_as_ever(under_faults):
    under_faults.breaker.skew.write_text('{"controller": 600, "worker": -600}')
    under_faults.breaker.kill_a_controller()
    for _ in range(3):
        under_faults.ask()
    under_faults.check()
