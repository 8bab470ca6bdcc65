"""Runs the system as `make run` does, but with instances that are ready once launched and run nothing.

Whoever starts it answers in their place: see bench/simulated_worker.py.
"""

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Thread
from typing import Any

import local.__main__ as make_run
from cloud.buckets import Bucket
from cloud.clients import make_worker_clients
from cloud.clock import now
from cloud.settings import WorkerSettings
from cloud.worker_reports import WorkerReport, WorkerReports
from local.driver import System, running
from local.endpoint import Endpoint


def simulated(output: Path, **settings: str) -> AbstractContextManager[System]:
    """Does what local.driver.running does, with such instances and with the answer cache."""
    return running(output, "bench.simulated", **{"ANSWER_CACHE": "on", **settings})


class SimulatedMachines:
    """Has those methods of local.machines.Machines that `make run` uses."""

    def __init__(self, endpoint: Endpoint, *_: Any, **__: Any) -> None:
        self.mark: dict[str, str] = {}
        self.instances = endpoint.instances
        self.instances.on_launch = self.launch
        state_bucket = WorkerSettings.from_environment().state_bucket
        self.reports = WorkerReports(Bucket(make_worker_clients().s3, state_bucket))

    def launch(self, instance_id: str, user_data: bytes, again: bool) -> None:
        Thread(target=self.boot, args=[instance_id]).start()

    def boot(self, instance_id: str) -> None:
        self.instances.booted(instance_id)
        report = WorkerReport(instance_id=instance_id, model="simulated", ready_at=now(), seen_at=now())
        self.reports.put(report)

    def stop_all(self) -> None:
        """Does nothing, because nothing runs."""


if __name__ == "__main__":
    make_run.Machines = SimulatedMachines  # type: ignore[assignment, misc]
    sys.exit(make_run.main())
