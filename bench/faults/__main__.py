"""The whole system under load, while what it is made of is killed, stopped and taken away at random.

    .venv/bin/python -m bench.faults --minutes 20 --seed 1

The faults and their times are drawn from the seed. It ends with a table of the faults and with counts, and
with exit status 1 where a count that should be zero is not, or the maximum of instances was exceeded. With
`--keep FOLDER`, the logs are kept there.
"""

import random
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from itertools import chain
from pathlib import Path
from threading import Event, Thread

import requests

from bench.arguments import parser_of
from bench.faults.batches import Batches
from bench.faults.breaker import Breaker
from bench.faults.load import Clients, Seen
from bench.faults.rules import Hit
from bench.faults.verdict import (
    explained,
    figures_and_zeros,
    instances_left,
    keys_apart,
    messages_left,
    table_of,
)
from local.driver import ROOT, System, eventually, running

MAX_INSTANCES, MAX_RECEIVES = 2, 6
VISIBILITY_TIMEOUT = 5
UPLOADERS = 3
SETTLE_SECONDS = 300
SKEWED_CLOCK = ROOT / "bench" / "faults" / "skewed_clock"
SETTINGS = {
    "MODEL": "efficientnet_lite0",
    "MAX_INSTANCES": str(MAX_INSTANCES),
    "MAX_IMAGES_PER_INSTANCE": "5",
    "VISIBILITY_TIMEOUT": str(VISIBILITY_TIMEOUT),
    "MAX_RECEIVES": str(MAX_RECEIVES),
    "LOCAL_BOOT_SECONDS": "1",
    "WEB_CONCURRENCY": "2",
    "PYTHONPATH": str(SKEWED_CLOCK),
}


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder for the logs")
    options = parser.parse_args()
    seen = Seen()
    with tempfile.TemporaryDirectory() as name:
        skew = Path(name) / "skew.json"
        skew.write_text("{}")
        with running(Path(name) / "output", "bench.faults.aws", **SETTINGS, SKEW_FILE=str(skew)) as system:
            system.client("s3").put_bucket_versioning(
                Bucket="output-predictions", VersioningConfiguration={"Status": "Enabled"}
            )
            batches = Batches(system, Event(), seen)
            batches.put_images()
            hits = run(system, options.minutes, options.seed, seen, skew, batches)
            settle(system)
            reasons, unexplained = explained(seen.accepted, hits, MAX_RECEIVES)
            rows, rows_unexplained = batches.explained(hits, MAX_RECEIVES)
            unexplained += rows_unexplained
            figures, zeros = figures_and_zeros(system, seen, unexplained)
            of_batches, zeros_of_batches = batches.figures_and_zeros()
            figures, zeros = figures | of_batches, zeros | zeros_of_batches
            apart = sorted(keys_apart(system))
            if options.keep:
                shutil.copytree(ROOT / ".local" / str(system.port), options.keep, dirs_exist_ok=True)
    print(f"\n{options.minutes:g} minutes, seed {options.seed}")
    print("\nfaults, how often they hit, and which calls", *table_of(hits), sep="\n")
    for title, table in (
        ("refusals", seen.refused),
        ("images that failed", reasons),
        ("rows of batches that failed", rows),
        ("counts", figures),
        ("must be zero", zeros),
    ):
        print(f"\n{title}", *(f"  {name:64}{number:6}" for name, number in table.items()), sep="\n")
    named = apart, unexplained, seen.without_a_sentence, seen.changed, seen.twice, seen.never_accepted
    for item in chain(*named):
        print("   ", item)
    good = not any(zeros.values()) and figures["instances at once, at most"] <= MAX_INSTANCES
    print("\nas it should be" if good else "\nNOT as it should be")
    return 0 if good else 1


def run(system: System, minutes: float, seed: int, seen: Seen, skew: Path, batches: Batches) -> list[Hit]:
    """Lets clients and faults loose for that long, and then reads all answers. Returns what was hit."""
    over, read = batches.over, Event()
    clients, breaker = Clients(system, over, seen), Breaker(system, seed, over, VISIBILITY_TIMEOUT, skew)
    watching = Clients(system, read, seen)
    uploaders = [Thread(target=clients.upload, args=[random.Random(f"{seed} {n}")]) for n in range(UPLOADERS)]
    watcher = Thread(target=watching.watch, args=[random.Random(f"{seed} watch")])
    asking = Thread(target=batches.ask, args=[random.Random(f"{seed} batches")])
    threads = [Thread(target=breaker.run), asking, *uploaders]
    for thread in (*threads, watcher):
        thread.start()
    time.sleep(minutes * 60)
    over.set()
    requests.delete(f"{system.endpoint}/_local/faults", auth=system.key, timeout=10).raise_for_status()
    for thread in threads:
        thread.join()
    clients.read_all(SETTLE_SECONDS)
    batches.read_all(SETTLE_SECONDS)
    read.set()
    watcher.join()
    reply = requests.get(f"{system.endpoint}/_local/faults", auth=system.key, timeout=10)
    return sorted([*breaker.hit, *(Hit(**hit) for hit in reply.json())], key=lambda hit: hit.at)


def settle(system: System) -> None:
    """Waits until all is answered, no instance runs and no message is left, or for SETTLE_SECONDS."""

    def is_settled() -> bool:
        return not (instances_left(system) or messages_left(system) or keys_apart(system))

    with suppress(AssertionError):
        eventually(is_settled, SETTLE_SECONDS, every=1)


if __name__ == "__main__":
    sys.exit(main())
