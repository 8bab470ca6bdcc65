"""The running system, as a user starts it, and what can be seen of it from outside."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import boto3
import psutil
import requests

from local.__main__ import DEFAULTS, FALLBACK
from local.access import AccessKey

ROOT = Path(__file__).parent.parent

_first_port = 20_000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = iter(range(_first_port, _first_port + 1000))


@dataclass
class System:
    port: int
    cloud_port: int
    process: subprocess.Popen[str]
    output: Path
    environment: dict[str, str] = field(default_factory=dict)
    clients: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.cloud_port}"

    @property
    def key(self) -> AccessKey:
        """That of this run, as the file has it which `make run` names."""
        lines = self.aws_env.read_text().splitlines()
        access = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        return AccessKey(access["AWS_ACCESS_KEY_ID"], access["AWS_SECRET_ACCESS_KEY"])

    @property
    def aws_env(self) -> Path:
        return ROOT / ".local" / str(self.port) / "aws.env"

    def client(self, service: str) -> Any:
        """Made once: to make one takes longer than a call."""
        if service not in self.clients:
            self.clients[service] = boto3.client(
                service,  # type: ignore[call-overload]
                endpoint_url=self.endpoint,
                region_name="us-east-1",
                aws_access_key_id=self.key.id,
                aws_secret_access_key=self.key.secret,
            )
        return self.clients[service]

    def post(self, *files: tuple[str, bytes], field: str = "image_file", **more: Any) -> requests.Response:
        parts = [(field, file) for file in files]
        return requests.post(self.url, files=parts, timeout=120, **more)

    def record(self) -> dict[str, Any]:
        """The endpoint's own record of calls and instances."""
        reply = requests.get(f"{self.endpoint}/_local/record", auth=self.key, timeout=10)
        found: dict[str, Any] = reply.json()
        return found

    def limit(self, available: int | None) -> None:
        """EC2 has the capacity for only so many more instances; None: for all that are asked for."""
        self.tell("capacity", instance_type="c7i.large", available=available)

    def delay(self, operation: str, seconds: float) -> None:
        """AWS takes so much longer over each such call."""
        self.tell("delay", operation=operation, seconds=seconds)

    def interrupt(self, instance_id: str, seconds: float) -> None:
        """EC2 takes the spot instance away after so many seconds, and says so now."""
        service = self.endpoint + self.key.metadata_path(instance_id)
        reply = requests.post(f"{service}/spot-interruption", json={"seconds": seconds}, timeout=10)
        reply.raise_for_status()

    def tell(self, path: str, **body: Any) -> None:
        """What the local AWS is asked beside AWS's own calls: see local/endpoint.py."""
        reply = requests.post(f"{self.endpoint}/_local/{path}", json=body, auth=self.key, timeout=10)
        reply.raise_for_status()

    def instances(self, *states: str) -> list[dict[str, Any]]:
        reply = self.client("ec2").describe_instances()
        found = [i for r in reply["Reservations"] for i in r["Instances"]]
        return [i for i in found if not states or i["State"]["Name"] in states]

    def active(self) -> list[dict[str, Any]]:
        return self.instances("pending", "running")

    def processes_of(self, instance_id: str, words: str = "-m worker") -> list[psutil.Process]:
        """The processes of one instance whose command line holds `words`."""
        return having(words, marked(instance_id))

    def controllers(self) -> list[psutil.Process]:
        """Gunicorn's worker processes, without its arbiter."""
        return [p for arbiter in self.arbiters() for p in arbiter.children()]

    def arbiters(self) -> list[psutil.Process]:
        """Gunicorn's main process."""
        return having("gunicorn", psutil.Process(self.process.pid).children())

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def log(self) -> str:
        return self.output.read_text()

    def stop(self) -> float:
        """Seconds that it took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return time.monotonic() - started


@contextmanager
def worker_by_hand(system: System, log: Path, **settings: str) -> Iterator[None]:
    """One that stays, in place of all instances: there is no capacity for any."""
    system.limit(0)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    aws = {"AWS_ENDPOINT_URL": system.endpoint, "AWS_REGION": "us-east-1"}
    keys = system.key.environment()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker"],
            cwd=ROOT,
            env={**environment, **DEFAULTS, **FALLBACK, **settings, **aws, **keys},
            stderr=output,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def having(words: str, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those whose command line holds `words`."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            if words in " ".join(process.cmdline()):
                found.append(process)
    return found


def marked(value: str) -> list[psutil.Process]:
    """All processes that have `value` as the value of some environment variable."""
    found = []
    for process in psutil.process_iter():
        try:
            if value in process.environ().values():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def free_port() -> int:
    """A port that stays free until it is used: the kernel gives it to no connection, as it may do with one of
    its own choice, and no other process of pytest-xdist takes it."""
    for port in _ports:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no free port is left for the tests")


def eventually(what: Callable[[], Any], seconds: float = 30, every: float = 0.05) -> Any:
    """The first true value of `what`; AssertionError when there is none in time."""
    until = time.monotonic() + seconds
    while True:
        if found := what():
            return found
        assert time.monotonic() < until, f"not so within {seconds} s: {what}"
        Event().wait(every)


@contextmanager
def running(output: Path, **settings: str) -> Iterator[System]:
    """The system from `python -m local`, with these environment variables; stopped at the end."""
    port, cloud_port = free_port(), free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
        "PORT": str(port),
        "CLOUD_PORT": str(cloud_port),
        "ANSWER_CACHE": "off",  # the same few photos are posted again and again to be classified
        **settings,
    }
    with output.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "local"],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    system = System(port, cloud_port, process, output, environment)
    try:
        eventually(lambda: started(system), 90)
        yield system
    finally:
        if process.poll() is None:
            system.stop()


def started(system: System) -> bool:
    assert system.process.poll() is None, f"it ended at start:\n{system.log()}"
    return "Ctrl-C" in system.log()


def ask(system: System, *files: tuple[str, bytes]) -> str:
    """The address at which the answers to these files will be."""
    reply = system.post(*files, headers={"Prefer": "respond-async"})
    assert reply.status_code == 202, reply.text
    return system.url.rstrip("/") + reply.headers["Location"]


def stream(address: str, last: str = "") -> requests.Response:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
    return requests.get(f"{address}/events", headers=headers, stream=True, timeout=60)
