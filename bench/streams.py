"""Measures whether open streams slow uploads down, with 0, 100 and 400 of them in one run.

    .venv/bin/python -m bench.streams

It starts the system as `make run` does. EC2 has no capacity meanwhile, so that the request of the
streams waits and no worker takes the processor. An upload is measured until its 202, and cancelled
afterwards. The loads take turns, so that whatever else the machine does affects all of them.
"""

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import requests

from bench.arguments import parser_of
from bench.photos import PHOTOS
from bench.run import percentile
from local.driver import System, ask, running, stream

GONE_SECONDS = 30.0  # twice the interval at which the controller writes to each stream
STREAMS = (0, 100, 400)
ROUNDS, UPLOADS = 3, 60  # uploads of each round, one after the other


def main() -> None:
    parser_of(__doc__).parse_args()
    seconds: dict[int, list[float]] = {count: [] for count in STREAMS}
    health: dict[int, list[float]] = {count: [] for count in STREAMS}
    opened: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "output") as system:
        system.limit(0)
        address = ask(system, *((f"{name}.jpg", data) for name, (data, _) in PHOTOS.items()))
        for _ in range(ROUNDS):
            for count in STREAMS:
                with ExitStack() as held, ThreadPoolExecutor(50) as pool:
                    replies = list(pool.map(lambda _: held.enter_context(stream(address)), range(count)))
                    opened[count] = sum(reply.status_code == 200 for reply in replies)
                    for _ in range(UPLOADS):
                        took, sent = upload(system)
                        seconds[count].append(took)
                        requests.post(f"{sent}/cancel", timeout=60).raise_for_status()
                        started = time.perf_counter()
                        requests.get(f"{system.url}healthz", timeout=60).raise_for_status()
                        health[count].append(time.perf_counter() - started)
                time.sleep(GONE_SECONDS)  # until the controller has found out that they are gone
        left = requests.get(address, timeout=60).json()["counts"]["waiting"]
        assert left, "the request of the streams is answered, so they have ended"
    print(f"\n{os.cpu_count()} cores, {ROUNDS * UPLOADS} uploads for each load\n")
    print(f"{'streams asked for':>18}{'open':>8}{'upload p50':>14}{'p95':>10}{'healthz p95':>14}")
    for count in STREAMS:
        half, most = percentile(seconds[count], 50), percentile(seconds[count], 95)
        healthy = percentile(health[count], 95)
        times = f"{half * 1000:>11.0f} ms{most * 1000:>7.0f} ms{healthy * 1000:>11.0f} ms"
        print(f"{count:>18}{opened[count]:>8}{times}")


def upload(system: System) -> tuple[float, str]:
    """Uploads a photo. Returns the seconds until its 202, and the address of the request."""
    name, (data, _) = next(iter(PHOTOS.items()))
    started = time.perf_counter()
    reply = system.post((f"{name}.jpg", data), headers={"Prefer": "respond-async"})
    took = time.perf_counter() - started
    assert reply.status_code == 202, reply.text
    return took, system.url.rstrip("/") + reply.headers["Location"]


if __name__ == "__main__":
    main()
