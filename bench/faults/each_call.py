"""Attacks each call of AWS that either tier makes.

Its process is killed before and after it, and it is refused, throttled, timed out, cut, answered late and
answered twice.

    .venv/bin/python -m bench.faults.each_call [--sample 20] [--seed 1] [--part 1/4]

Which calls there are is taken from what the local AWS recorded, so nobody has to think of a new one. Clients
upload ten images at a time meanwhile. At the end nothing may be lost, doubled or leaked: the exit status is
1 if something is. Calls that did not come again, such as those of the first start, are counted.
"""

import math
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from bench.arguments import parser_of
from bench.faults.attacks import FAULTS, LASTS, TIMED_OUT, Attack, Kind, attacks_on
from bench.faults.aws import SKEWED_CLOCK
from bench.faults.consequences import Consequences, consequences
from bench.faults.load import Seen
from bench.faults.rounds import Rounds, begin_anew
from bench.faults.rules import Hit
from local.driver import System, eventually, running

AT_ONCE = 6  # attacks that wait for their calls
PASSES = 3  # how often an attack does, if not only a sample is wanted
ROUNDS_TO_RECORD = 3
MAX_RECEIVES = 10
SETTINGS = {
    "MODEL": "efficientnet_lite0",
    "MAX_INSTANCES": "2",
    "MAX_IMAGES_PER_INSTANCE": "5",
    "WARM_POOL": "1",
    "VISIBILITY_TIMEOUT": "4",
    "MAX_RECEIVES": str(MAX_RECEIVES),
    "WEB_CONCURRENCY": "2",
    "ANSWER_CACHE": "on",
}


@dataclass
class Run:
    """What was attacked."""

    kinds: set[Kind] = field(default_factory=set)
    hit: list[Attack] = field(default_factory=list)
    missed: list[Attack] = field(default_factory=list)
    """Attacks whose call did not come again."""
    hits: list[Hit] = field(default_factory=list)
    seconds: float = 0.0

    def table(self) -> list[str]:
        """Returns the lines of a table: the calls, and how often each fault hit one."""
        lines = []
        for kind in sorted(self.kinds):
            found = Counter(attack.fault.name for attack in self.hit if attack.kind == kind)
            missed = [attack.fault.name for attack in self.missed if attack.kind == kind]
            marks = ("x" if found[f.name] else "-" if f.name in missed else "." for f in FAULTS)
            lines.append(f"  {''.join(marks)}  {kind}")
        return lines


@contextmanager
def under_attack(folder: Path) -> Iterator[System]:
    """Runs a system whose calls can be attacked, and that keeps every version of every answer."""
    skew = folder / "skew.json"
    skew.write_text("{}")
    settings = {**SETTINGS, "PYTHONPATH": str(SKEWED_CLOCK), "SKEW_FILE": str(skew)}
    with running(folder / "output", "bench.faults.aws", **settings) as system:
        system.client("s3").put_bucket_versioning(
            Bucket="output-predictions", VersioningConfiguration={"Status": "Enabled"}
        )
        yield system


def recorded(system: System) -> Counter[Kind]:
    reply = requests.get(f"{system.endpoint}/_local/faults/calls", auth=system.key, timeout=10)
    return Counter({Kind(*call): number for *call, number in reply.json()})


def hits(system: System) -> list[Hit]:
    reply = requests.get(f"{system.endpoint}/_local/faults", auth=system.key, timeout=10)
    return [Hit(**hit) for hit in reply.json()]


def attack(
    system: System,
    seen: Seen,
    sample: int = 0,
    seed: int = 1,
    part: tuple[int, int] = (1, 1),
    minutes: float = math.inf,
) -> Run:
    """Records the calls of some rounds, attacks them, and then those that were new.

    With `sample`, attacks so many that the seed draws, but lets no call time out. Otherwise attacks the
    `part`, such as (1, 4) for the first quarter. Begins no attack after so many minutes.
    """
    run, began = Run(), time.monotonic()
    before = recorded(system)  # of `make run` itself
    with Rounds(system, seen) as rounds:
        for controller in system.controllers():
            controller.kill()  # so that the calls of its start are recorded
        eventually(lambda: rounds.rounds >= ROUNDS_TO_RECORD, 90)
        while new := {k: n for k, n in (recorded(system) - before).items() if k not in run.kinds}:
            per_round = max(1, rounds.rounds)
            drawn = attacks_on((kind, number // per_round) for kind, number in sorted(new.items()))
            random.Random(seed).shuffle(drawn)
            if sample:
                drawn = [a for a in drawn if a.fault != TIMED_OUT][:sample]
            run.kinds |= new.keys()
            print(f"{len(new)} new kinds of calls, {len(drawn)} attacks on them", flush=True)
            mine, passes = drawn[part[0] - 1 :: part[1]], 1 if sample else PASSES
            perform(system, mine, run, passes, began + minutes * 60)
            if sample:
                break
        requests.delete(f"{system.endpoint}/_local/faults", auth=system.key, timeout=10).raise_for_status()
    run.hits, run.seconds = hits(system), time.monotonic() - began
    return run


def perform(system: System, attacks: Sequence[Attack], run: Run, passes: int, end: float) -> None:
    """Makes the attacks happen. Each pass tries those again whose calls did not come.

    Begins none after `end`.
    """
    waiting = list(attacks)
    for number in range(passes):
        if number and waiting:
            begin_anew(system)  # so that rare calls come
        happened, waiting = happen(system, waiting, end)
        run.hit += happened
    run.missed += waiting


def happen(system: System, attacks: Sequence[Attack], end: float) -> tuple[list[Attack], list[Attack]]:
    """Puts AT_ONCE attacks in force at a time, each until it has happened or for LASTS seconds.

    Returns those that happened, and those whose calls did not come.
    """
    to_come, in_force = deque(attacks), dict[Attack, float]()
    done, missed = list[Attack](), list[Attack]()
    while (to_come and time.monotonic() < end) or in_force:
        while to_come and len(in_force) < AT_ONCE and time.monotonic() < end:
            attack = to_come.popleft()
            system.control("faults", attack.rule())
            in_force[attack] = time.monotonic()
        time.sleep(0.1)
        happened = {hit.fault for hit in hits(system)}
        for attack, began in list(in_force.items()):
            over = time.monotonic() > began + LASTS
            if str(attack) in happened or over:
                del in_force[attack]
                (done if str(attack) in happened else missed).append(attack)
                print(f"  {'done' if str(attack) in happened else 'not yet':9}{attack}", flush=True)
    return done, missed


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--sample", type=int, default=0, help="attack only so many, which are drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no attack after that")
    parser.add_argument("--part", default="1/1", help="attack only the first quarter: 1/4")
    options = parser.parse_args()
    seen, (number, parts) = Seen(), map(int, options.part.split("/"))
    with tempfile.TemporaryDirectory() as name, under_attack(Path(name)) as system:
        run = attack(system, seen, options.sample, options.seed, (number, parts), options.minutes)
        found = consequences(system, seen, run.hits, MAX_RECEIVES, patient=True)
    print("\nx: happened  -: the call did not come again  .: not tried, in this order:")
    print("  " + ", ".join(fault.name for fault in FAULTS), *run.table(), sep="\n")
    print("", summary(run, found), sep="\n")
    return 0 if found.good else 1


def summary(run: Run, found: Consequences) -> str:
    deaths = sum(attack.fault.is_death for attack in run.hit)
    return (
        f"{len(run.kinds)} kinds of calls, {len(run.hit) - deaths} faults, {deaths} deaths"
        f" ({len(run.missed)} did not happen), in {run.seconds / 60:.1f} minutes\n{found}"
    )


if __name__ == "__main__":
    sys.exit(main())
