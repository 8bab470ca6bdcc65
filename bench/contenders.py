"""How bench/compare.py starts and asks the system, and what a user would pick instead of it."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import psutil

from bench.client import Post, form_of
from bench.queue import KEY, local_sqs, served
from local.driver import ROOT, free_port, running

STOP_SECONDS = 10.0
BUCKET = "celery"

Environment = dict[str, str]


class CannotServe(Exception):
    """A server has ended. The message says why."""


@dataclass(frozen=True)
class Serving:
    """A contender that has been started."""

    url: str
    processes: Callable[[], list[psutil.Process]]
    """Returns its processes, without those of the local AWS."""
    check: Callable[[], None] = lambda: None
    """Raises CannotServe when it has ended."""


@dataclass(frozen=True)
class Contender:
    name: str
    start: Callable[[Environment], AbstractContextManager[Serving]]
    """Runs it for the duration of a block. The environment has MODEL, ENGINE and WORKERS for its server."""
    post_of: Callable[[Sequence[bytes]], Post]
    """Returns a request with these photos."""
    labels: Callable[[bytes], list[str]]
    """Returns the labels in the body of a reply."""
    package: str = ""
    """The Python package that the servers' interpreter must have, or "" if none is needed."""
    many: bool = False
    """Whether a request may have many photos."""
    workers: Sequence[int] = (1, 2)
    """The numbers of workers to try."""


def contenders(python: str) -> list[Contender]:
    """Returns all of them. `python` is the interpreter of the servers."""

    def server(path: str, *arguments: str) -> Callable[[Environment], AbstractContextManager[Serving]]:
        return lambda environment: serving(path, [[python, "-m", *arguments]], environment)

    return [
        Contender("the system", the_system, form_of, labels_of_system, many=True),
        Contender(
            "LitServe",
            server("predict", "bench.servers.litserve_server"),
            partial(form_of, field="image"),
            label,
            "litserve",
        ),
        Contender(
            "Mosec",
            server("inference", "bench.servers.mosec_server", "--timeout", "60000"),
            only_photo,
            label,
            "mosec",
        ),
        Contender(
            "BentoML",
            server("classify", "bentoml", "serve", "bench.servers.bentoml_server:Classify"),
            partial(form_of, field="images"),
            json.loads,
            "bentoml",
        ),
        Contender("Ray Serve", server("", "bench.servers.ray_server"), only_photo, label, "ray"),
        Contender(
            "Celery with SQS", lambda env: celery(python, env), only_photo, label, "celery", workers=(2,)
        ),
        Contender("plain", lambda env: plain(python, env), form_of, labels_of_plain, "flask", many=True),
    ]


def only_photo(photos: Sequence[bytes]) -> Post:
    (photo,) = photos
    return Post(photo, "image/jpeg")


def label(body: bytes) -> list[str]:
    return [json.loads(body)["label"]]


def labels_of_system(body: bytes) -> list[str]:
    return [image["label"] for image in json.loads(body)["images"]]


def labels_of_plain(body: bytes) -> list[str]:
    labels: list[str] = json.loads(body)["labels"]
    return labels


@contextmanager
def the_system(environment: Environment) -> Iterator[Serving]:
    """Runs the system as `make run` does, with at most WORKERS instances, and without its answer cache."""
    settings = {"MAX_INSTANCES": environment["WORKERS"], "MODEL": environment["MODEL"]}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "output", **settings) as system:
        yield Serving(system.url, system.children)


@contextmanager
def celery(python: str, environment: Environment) -> Iterator[Serving]:
    """Runs the worker of Celery and a web process, with a local AWS of their own."""
    app = "bench.servers.celery_server"
    worker = [python, "-m", "celery", "-A", f"{app}:tasks", "worker", "-c", environment["WORKERS"]]
    with own_aws() as (aws, client):
        client("s3").create_bucket(Bucket=BUCKET)
        with serving("", [worker, in_gunicorn(python, app)], environment | aws) as found:
            yield found


@contextmanager
def plain(python: str, environment: Environment) -> Iterator[Serving]:
    """Runs the system that this one succeeds, with a local AWS of its own. Its instances run already."""
    worker = [python, "-m", "bench.servers.plain_worker"]
    workers = int(environment["WORKERS"])
    with own_aws() as (aws, client):
        for bucket in ("plain-input", "plain-output"):
            client("s3").create_bucket(Bucket=bucket)
        client("sqs").create_queue(QueueName="plain")
        client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=workers, MaxCount=workers)
        web = in_gunicorn(python, "bench.servers.plain_controller")
        with serving("", [*[worker] * workers, web], environment | aws) as found:
            yield found


@contextmanager
def own_aws() -> Iterator[tuple[Environment, Callable[[str], Any]]]:
    """Runs a local AWS. Yields the environment of its clients, and a function that returns a client."""
    with served(local_sqs) as url:
        keys = {"aws_access_key_id": KEY.id, "aws_secret_access_key": KEY.secret}
        aws = {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", **KEY.environment()}
        yield aws, lambda name: boto3.client(name, endpoint_url=url, region_name="us-east-1", **keys)


def in_gunicorn(python: str, module: str) -> list[str]:
    """Returns the command that serves the app `web` of a module, at the port in the variable PORT."""
    return [python, "-m", "gunicorn", "--threads=128", f"{module}:web"]


@contextmanager
def serving(path: str, commands: list[list[str]], environment: Environment) -> Iterator[Serving]:
    """Runs the commands, which serve at the port in the variable PORT, for the duration of the block."""
    port = str(free_port())
    ports = {"PORT": port, "MOSEC_PORT": port, "BENTOML_PORT": port}
    environment = {**os.environ, **environment, **ports, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as log, ExitStack() as stack:
        started = [
            psutil.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log) for command in commands
        ]
        stack.callback(stop, started)

        def check() -> None:
            if any(process.poll() is not None for process in started):
                log.seek(0)
                raise CannotServe(" ".join(log.read().split())[-300:])

        yield Serving(f"http://127.0.0.1:{port}/{path}", lambda: with_children(started), check)


def with_children(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    found = list(processes)
    for process in processes:
        with suppress(psutil.Error):
            found += process.children(recursive=True)
    return found


def stop(started: Sequence[psutil.Process]) -> None:
    """Ends the processes, and then those of their children that are still there."""
    every = with_children(started)
    for process in started:
        with suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(started, STOP_SECONDS)
    for process in every:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(every, STOP_SECONDS)
