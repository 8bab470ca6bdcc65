"""Counts what was lost, doubled and leaked while calls of AWS were attacked."""

import json
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Event

from bench.faults.attacks import FAULTS
from bench.faults.load import FILES, Clients, Seen
from bench.faults.rules import Hit
from bench.faults.verdict import explained, figures_and_zeros, instances_left, keys_apart, messages_left
from local.driver import System, eventually

SETTLE_SECONDS = 120
MARKER_SECONDS = 10
EXAMPLES = 5
STATE_BUCKET = "output-predictions-state"
LIKE = {fault.name: fault.like for fault in FAULTS}
LOST = (
    "images lost",
    "failed without a fault that explains it",
    "requests that were never accepted",
    "requests without an answer",
    "refusals and waits without a sentence",
)
DOUBLED = ("images answered twice", "answers that changed", "requests made twice of one Idempotency-Key")
LEAKED = ("keys in only one of the buckets", "instances left running", "messages left")


@dataclass(frozen=True)
class Consequences:
    images: int
    requests: int
    lost: dict[str, int]
    doubled: dict[str, int]
    leaked: dict[str, int]
    unexplained: list[str]
    """The images that failed without a fault that explains it, each with its failure."""

    @property
    def good(self) -> bool:
        return not any((*self.lost.values(), *self.doubled.values(), *self.leaked.values()))

    def __str__(self) -> str:
        counts = {"lost": self.lost, "doubled": self.doubled, "leaked": self.leaked}
        sums = ", ".join(f"{name} {sum(found.values())}" for name, found in counts.items())
        why = [f"\n  {name}: {n}" for found in counts.values() for name, n in found.items() if n]
        examples = [f"\n    {one}" for one in self.unexplained[:EXAMPLES]]
        return f"{self.requests} requests, {self.images} images: {sums}" + "".join([*why, *examples])


def consequences(
    system: System, seen: Seen, hits: Sequence[Hit], max_receives: int, patient: bool = False
) -> Consequences:
    """Waits until all has settled, for at most SETTLE_SECONDS twice, and counts.

    Whoever is patient counts the markers of requests as well. Those of processes that have died are deleted
    when the next request wakes the autoscaler, some minutes later.
    """
    clients = Clients(system, Event(), seen)
    clients.read_all(SETTLE_SECONDS)
    with suppress(AssertionError):
        eventually(lambda: is_settled(system), SETTLE_SECONDS, every=0.5)
    if patient:
        ask_until_no_marker_is_left(system, clients)
    _, unexplained = explained(seen.accepted, [like(hit) for hit in hits], max_receives)
    figures, zeros = figures_and_zeros(system, seen, unexplained)
    return Consequences(
        figures["images sent"],
        figures["requests accepted"],
        {name: zeros[name] for name in LOST},
        {name: zeros[name] for name in DOUBLED},
        {name: zeros[name] for name in LEAKED}
        | {
            "keys in only one of the buckets": len(apart(system)),
            "markers of requests": len(markers(system)) if patient else 0,
            "leases held": holds_lease(system),
            "instances above the maximum": max(0, figures["instances at once, at most"] - 2),
        },
        unexplained,
    )


def like(hit: Hit) -> Hit:
    """Returns the hit as the one of the random run whose effects it has."""
    return replace(hit, fault=LIKE[hit.fault.partition(": ")[0]])


def is_settled(system: System) -> bool:
    return not (instances_left(system) or messages_left(system) or apart(system) or holds_lease(system))


def ask_until_no_marker_is_left(system: System, clients: Clients) -> None:
    until = time.monotonic() + SETTLE_SECONDS
    while markers(system) and time.monotonic() < until:
        clients.send(FILES, secrets.token_hex(8))
        clients.read_all(MARKER_SECONDS)
        time.sleep(MARKER_SECONDS)
    with suppress(AssertionError):
        eventually(lambda: is_settled(system), SETTLE_SECONDS, every=0.5)


def apart(system: System) -> set[str]:
    """Returns the keys that only one of the two buckets has, without cancelled images, which are deleted."""
    return {key for key in keys_apart(system) if not is_cancelled(system, key)}


def is_cancelled(system: System, key: str) -> bool:
    s3 = system.client("s3")
    with suppress(s3.exceptions.NoSuchKey):
        body = s3.get_object(Bucket="output-predictions", Key=key)["Body"].read()
        return bool((json.loads(body)["error"] or {}).get("code") == "cancelled")
    return False


def markers(system: System) -> list[str]:
    """Returns the markers of requests that wait."""
    found = system.client("s3").list_objects_v2(Bucket=STATE_BUCKET, Prefix="open/")
    return [item["Key"] for item in found.get("Contents", [])]


def holds_lease(system: System) -> bool:
    """Returns whether somebody holds the lease on the fleet at each of some looks."""

    def holder() -> str | None:
        body = system.client("s3").get_object(Bucket=STATE_BUCKET, Key="fleet/state")["Body"].read()
        found: str | None = json.loads(body).get("holder")
        return found

    with suppress(AssertionError):
        eventually(lambda: holder() is None, 5)
        return False
    return True
