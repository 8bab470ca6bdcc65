"""Keeps many clients at a system behind nginx for a while, and says whether anything of it grows.

    python -m tests.support.soak [--seconds 3600] [--clients 1000]

In the first third, Gunicorn is reloaded three times. What all processes hold is read as soon as those of
before have ended, for the other two thirds. The exit status is 1 if something grows by more than its line
(tests/support/soak_readings.py), a client got no answer, a process of before the reloads is left, or a kind
of processes was never read.
"""

import argparse
import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from local.__main__ import DEFAULTS, FALLBACK
from local.driver import System, eventually, free_port, running
from tests.support import front
from tests.support.front import Nginx
from tests.support.soak_clients import Clients
from tests.support.soak_readings import Growth, Readings, is_old

ERROR = re.compile(r"\[(error|crit|alert)\]|\"(ERROR|CRITICAL)\"")
RELOADS = 3
END_SECONDS = 90  # in which the processes of before a reload must have ended
READINGS = 240  # at most, but none sooner than half a second after the last
FEWEST_READINGS = 12  # however long they take on a busy machine


@dataclass
class Soak:
    """What became of it."""

    clients: Clients
    growths: list[Growth]
    left: int
    """Processes of Gunicorn from before the last reload that are left at the end."""
    seconds: float

    @property
    def good(self) -> bool:
        return not (self.left or self.clients.lost or any(growth.is_leak for growth in self.growths))

    @property
    def unread(self) -> list[str]:
        """The kinds of which no process ever was old enough to be read."""
        read = {growth.kind for growth in self.growths if growth.what != "processes"}
        return sorted({growth.kind for growth in self.growths} - read)

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {name}" for name, count in self.clients.outcomes.most_common())
        title = f"{'process':20}{'what':18}{'at first':>10}{'at last':>10}{'an hour':>12} ± standard error"
        return "\n".join([title, *map(str, self.growths), f"{self._load()}: {outcomes}", self._counts()])

    def _load(self) -> str:
        return f"{self.clients.count} clients for {self.seconds / 60:.1f} minutes, {RELOADS} reloads"

    def _counts(self) -> str:
        growing = sum(growth.is_leak for growth in self.growths)
        return f"lost {self.clients.lost}, old processes left {self.left}, growing {growing}"


def soak(
    system: System,
    nginx: Nginx,
    gunicorn: subprocess.Popen[bytes],
    folders: Iterable[Path],
    clients: Clients,
    seconds: float,
    allowance: float = 1.0,
) -> Soak:
    """Lets the clients loose, for longer than that if the reloads take long. Reads for two thirds of it.

    `allowance`: how many times its line something may grow. It is more than 1 where the processes are hardly
    warm.
    """
    readings = Readings(lambda: processes_of(system, nginx, gunicorn), folders)
    old: set[int] = set()

    def watch() -> float:
        """Returns how many seconds it took."""
        began = time.monotonic()
        for _ in range(RELOADS):
            time.sleep(seconds / 3 / RELOADS)
            assert gunicorn.poll() is None, f"Gunicorn has ended, with exit status {gunicorn.returncode}"
            old.update(child.pid for child in psutil.Process(gunicorn.pid).children())
            gunicorn.send_signal(signal.SIGHUP)
        with suppress(AssertionError):
            eventually(lambda: not any(map(psutil.pid_exists, old)), END_SECONDS)
            eventually(lambda: all(map(is_old, psutil.Process(gunicorn.pid).children())), END_SECONDS)
        warm, count = time.monotonic(), 0
        while time.monotonic() < warm + seconds * 2 / 3 or count < FEWEST_READINGS:
            readings.read(time.monotonic())
            count += 1
            time.sleep(max(0.5, seconds * 2 / 3 / READINGS))
        return time.monotonic() - began

    async def watch_clients() -> float:
        over = asyncio.Event()
        living = asyncio.create_task(clients.run(over))
        took = await asyncio.to_thread(watch)
        over.set()
        await living
        return took

    took = asyncio.run(watch_clients())
    with suppress(AssertionError):
        eventually(lambda: not any(map(psutil.pid_exists, old)), END_SECONDS)
    return Soak(clients, readings.growths(allowance), sum(map(psutil.pid_exists, old)), took)


def processes_of(
    system: System, nginx: Nginx, gunicorn: subprocess.Popen[bytes]
) -> dict[str, list[psutil.Process]]:
    """Returns the processes by kind."""
    workers = [p for i in system.instances("running") for p in system.processes_of(i["InstanceId"])]
    top = [worker for worker in workers if not any(worker.pid in pids_of(other) for other in workers)]
    front_process = psutil.Process(int((nginx.folder / "nginx.pid").read_text()))
    arbiter = psutil.Process(gunicorn.pid)
    return {
        "nginx": [front_process, *front_process.children()],
        "gunicorn's first": [arbiter],
        "controller": arbiter.children(),
        "worker": top,
        "decoder": [child for worker in top for child in worker.children()],
    }


def pids_of(process: psutil.Process) -> set[int]:
    try:
        return {child.pid for child in process.children(recursive=True)}
    except psutil.Error:
        return set()


def errors_in(*logs: Path) -> list[str]:
    """Returns the last errors of nginx and Gunicorn, at most five of each."""
    lines = [[line for line in log.read_text().splitlines() if ERROR.search(line)][-5:] for log in logs]
    return [line[:150] + " ... " + line[-500:] for found in lines for line in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--clients", type=int, default=1000)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.environ["PATH"] += ":/usr/sbin"  # of nginx
    with tempfile.TemporaryDirectory() as name:
        folder, temporary = Path(name), Path(name) / "temporary"
        temporary.mkdir()
        common = FALLBACK | {
            "TMPDIR": str(temporary),
            "SCALING": "rate",  # else each worker would end before it is old enough to be read
        }
        with running(folder / "output", **common) as system:
            access = {"AWS_ENDPOINT_URL": system.endpoint, **system.key.environment()}
            own = {
                "WEB_CONCURRENCY": "2",
                "BATCH_SOURCES": "",
                "ANSWER_CACHE": "off",  # its predictions take more and more memory, up to 50 MB
            }
            with (
                front.gunicorn(
                    "controller.wsgi:app", folder, **(DEFAULTS | common | access | own)
                ) as gunicorn,
                front.nginx(folder, port := free_port()) as nginx,
            ):
                folders = [temporary, folder / "client_body"]
                clients = Clients(port, options.clients)
                try:
                    found = soak(system, nginx, gunicorn, folders, clients, options.seconds)
                finally:
                    print(*errors_in(folder / "error.log", folder / "controller.log"), sep="\n", flush=True)
    print(found)
    if found.unread:
        print(f"Nothing was read of: {', '.join(found.unread)}.")
    return 0 if found.good and not found.unread else 1


if __name__ == "__main__":
    sys.exit(main())
