"""Answers the messages of the queue at a given pace, without a look at the images.

`python -m bench.simulated_worker RATE BACKLOG` stands for as many workers as together classify RATE images
a second. It has the settings of a worker, prints a line once it is ready, and begins when BACKLOG messages
are in the queue.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from cloud.buckets import OutputBucket
from cloud.clients import make_worker_clients
from cloud.image_id import ImageId
from cloud.prediction import Prediction
from cloud.request_queue import MAX_BATCH, Message, RequestQueue
from cloud.settings import WorkerSettings
from local.__main__ import DEFAULTS
from local.driver import ROOT, System

THREADS = 32  # batches that are answered at once
LONGEST_WAIT = 90.0  # seconds for the backlog
LABEL = "simulated"


@contextmanager
def simulated_workers(system: System, rate: float, backlog: int = 0) -> Iterator[None]:
    """Answers `rate` images a second during the block, once `backlog` images are in the queue."""
    aws = {"AWS_ENDPOINT_URL": system.endpoint, **system.key.environment()}
    with subprocess.Popen(
        [sys.executable, "-m", "bench.simulated_worker", str(rate), str(backlog)],
        cwd=ROOT,
        env={**os.environ, **DEFAULTS, **aws},
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline(), "the simulated worker does not start"
            yield
        finally:
            process.kill()


def main(rate: float, backlog: int) -> None:
    settings = WorkerSettings.from_environment()
    clients = make_worker_clients()
    queue = RequestQueue(clients.sqs, settings.request_queue)
    outputs = OutputBucket(clients.s3, settings.output_bucket)
    print(f"ready for {queue.url}", flush=True)
    latest = time.monotonic() + LONGEST_WAIT
    while queue.counts().visible < backlog and time.monotonic() < latest:
        time.sleep(0.5)

    def answer(messages: list[Message], due: float) -> None:
        time.sleep(max(0, due - time.monotonic()))
        for message in messages:
            outputs.put_prediction(Prediction.classified(ImageId(message.body), [(LABEL, 1.0)]))
        queue.delete(messages)

    due = 0.0
    with ThreadPoolExecutor(THREADS) as threads:
        while True:
            if not (messages := queue.receive(MAX_BATCH, wait_seconds=1)):
                continue
            due = max(due, time.monotonic()) + len(messages) / rate
            time.sleep(max(0, due - 1 - time.monotonic()))  # holds no more than a second of work
            threads.submit(answer, messages, due)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
