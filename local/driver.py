"""Starts the whole system as a user does, and lets tests and benchmarks use, observe and disturb it."""

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
from botocore.config import Config

from local.__main__ import DEFAULTS, FALLBACK
from local.access import AccessKey

ROOT = Path(__file__).parent.parent
OBSERVER = "observer"
"""Is in the User-Agent of the calls that tests and benchmarks make themselves."""

_first_port = 20_000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = iter(range(_first_port, _first_port + 1000))


@dataclass
class System:
    """A running system."""

    port: int
    cloud_port: int
    process: subprocess.Popen[str]
    output: Path
    """The file that contains what `python -m local` printed."""
    environment: dict[str, str] = field(default_factory=dict)
    clients: dict[str, Any] = field(default_factory=dict)
    """The boto3 clients by service. They are kept because making one takes longer than a call."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.cloud_port}"

    @property
    def key(self) -> AccessKey:
        """The access key of this run, from the file that `make run` names."""
        lines = self.aws_env.read_text().splitlines()
        access = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        return AccessKey(access["AWS_ACCESS_KEY_ID"], access["AWS_SECRET_ACCESS_KEY"])

    @property
    def aws_env(self) -> Path:
        return ROOT / ".local" / str(self.port) / "aws.env"

    def client(self, service: str) -> Any:
        """Returns a boto3 client for the local AWS."""
        if service not in self.clients:
            self.clients[service] = boto3.client(
                service,  # type: ignore[call-overload]
                endpoint_url=self.endpoint,
                region_name="us-east-1",
                aws_access_key_id=self.key.id,
                aws_secret_access_key=self.key.secret,
                config=Config(user_agent_extra=OBSERVER),
            )
        return self.clients[service]

    def post(self, *files: tuple[str, bytes], field: str = "image_file", **more: Any) -> requests.Response:
        parts = [(field, file) for file in files]
        return requests.post(self.url, files=parts, timeout=120, **more)

    def record(self) -> dict[str, Any]:
        """Returns the local AWS's record of calls and instances: see `Endpoint.record`."""
        reply = requests.get(f"{self.endpoint}/_local/record", auth=self.key, timeout=10)
        found: dict[str, Any] = reply.json()
        return found

    def limit(self, available: int | None) -> None:
        """Limits EC2's capacity to `available` more instances, or lifts the limit with None."""
        self.control("capacity", {"instance_type": "c7i.large", "available": available})

    def delay(self, operation: str, seconds: float) -> None:
        """Delays each call of this AWS operation by `seconds`."""
        self.control("delay", {"operation": operation, "seconds": seconds})

    def interrupt(self, instance_id: str, seconds: float) -> None:
        """Announces the interruption of a spot instance, which is terminated after `seconds`."""
        service = self.endpoint + self.key.metadata_path(instance_id)
        reply = requests.post(f"{service}/spot-interruption", json={"seconds": seconds}, timeout=10)
        reply.raise_for_status()

    def control(self, path: str, body: dict[str, Any]) -> None:
        """Sends a control request to the local AWS: see local/endpoint.py."""
        reply = requests.post(f"{self.endpoint}/_local/{path}", json=body, auth=self.key, timeout=10)
        reply.raise_for_status()

    def instances(self, *states: str) -> list[dict[str, Any]]:
        """Returns the EC2 instances in these states, or all of them if no state is given."""
        reply = self.client("ec2").describe_instances()
        found = [i for r in reply["Reservations"] for i in r["Instances"]]
        return [i for i in found if not states or i["State"]["Name"] in states]

    def active(self) -> list[dict[str, Any]]:
        return self.instances("pending", "running")

    def processes_of(self, instance_id: str, words: str = "-m worker") -> list[psutil.Process]:
        """Returns the processes of an instance whose command line contains `words`."""
        return with_command(words, marked(instance_id))

    def controllers(self) -> list[psutil.Process]:
        """Returns the worker processes of Gunicorn, without its arbiter."""
        return [p for arbiter in self.arbiters() for p in arbiter.children()]

    def arbiters(self) -> list[psutil.Process]:
        """Returns the main process of Gunicorn, as a list that is empty once it has ended."""
        return with_command("gunicorn", psutil.Process(self.process.pid).children())

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def log(self) -> str:
        return self.output.read_text()

    def stop(self) -> float:
        """Stops the system. Returns the seconds that this took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return time.monotonic() - started


@contextmanager
def worker_by_hand(system: System, log: Path, **settings: str) -> Iterator[None]:
    """Runs a worker without an instance for the duration of the block, while EC2 cannot launch any."""
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


def with_command(words: str, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Returns the processes whose command line contains `words`."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            if words in " ".join(process.cmdline()):
                found.append(process)
    return found


def marked(value: str) -> list[psutil.Process]:
    """Returns all processes that have an environment variable with this value."""
    found = []
    for process in psutil.process_iter():
        try:
            if value in process.environ().values():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def free_port() -> int:
    """Returns a port that is free, and that nobody else takes before it is used.

    It is below the range from which the kernel takes ports for connections, and every pytest-xdist process
    has a range of its own. Raises OSError when no port is left.
    """
    for port in _ports:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no free port is left for the tests")


def eventually(what: Callable[[], Any], seconds: float = 30, every: float = 0.05) -> Any:
    """Calls `what` until its value is true, and returns the value.

    Waits `every` seconds between two calls. Raises AssertionError after `seconds`.
    """
    until = time.monotonic() + seconds
    while True:
        if found := what():
            return found
        assert time.monotonic() < until, f"not so within {seconds} s: {what}"
        Event().wait(every)


@contextmanager
def running(output: Path, module: str = "local", **settings: str) -> Iterator[System]:
    """Runs `python -m local` with these settings for the duration of the block.

    What it prints goes to the file `output`. Another `module` may stand in for `local`.
    """
    port, cloud_port = free_port(), free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
        "PORT": str(port),
        "CLOUD_PORT": str(cloud_port),
        "ANSWER_CACHE": "off",  # the same few photos are posted repeatedly, and shall be classified each time
        **settings,
    }
    with output.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
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
    assert system.process.poll() is None, f"the system ended while it started:\n{system.log()}"
    return "Ctrl-C" in system.log()


def ask(system: System, *files: tuple[str, bytes]) -> str:
    """Uploads files without waiting for the answers. Returns the URL of the request."""
    reply = system.post(*files, headers={"Prefer": "respond-async"})
    assert reply.status_code == 202, reply.text
    return system.url.rstrip("/") + reply.headers["Location"]


def stream(address: str, last: str = "") -> requests.Response:
    """Opens the event stream of a request, after the event with the id `last`."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
    return requests.get(f"{address}/events", headers=headers, stream=True, timeout=60)
