"""Runs the whole system on this machine, against an AWS of its own: `python -m local`, or `make run`."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event

from cloud.buckets import Bucket
from cloud.clients import make_worker_clients
from cloud.errors import CloudError
from cloud.misspelt_settings import misspelt_settings
from cloud.model_cache import cache_folder
from cloud.prediction_cache import PREFIX as ANSWERS
from cloud.provision import make_private_bucket, provision
from cloud.settings import ControllerSettings, SettingsError
from cloud.signals import stop_on
from local.access import AccessKey
from local.code_digest import code_digest
from local.ec2 import AMI_ID
from local.endpoint import Endpoint
from local.kept_buckets import CannotRead, load, save
from local.listening import Listening, NotForEverybody, listening
from local.machines import Machines
from local.sources import SOURCES, put_examples, source_buckets

HERE = Path(__file__).parent.parent
HOST = "127.0.0.1"
START_SECONDS = 60  # the longest start of the controller
# The grace period of the controller, and then of the instances. Everything has stopped within 10 s.
STOP_SECONDS = 4
KEPT_BYTES = 500_000_000  # of each bucket, from one run to the next

CORES = len(os.sched_getaffinity(0))
DEFAULTS = {
    "INPUT_BUCKET": "input-images",
    "OUTPUT_BUCKET": "output-predictions",
    "BATCH_SOURCES": SOURCES,
    "AMI_ID": AMI_ID,
    "MAX_INSTANCES": str(min(CORES, 4)),
    "MAX_IMAGES_PER_INSTANCE": "10",
    "VISIBILITY_TIMEOUT": "20",
    "BOOT_TIMEOUT": "90",
    "ALLOW_ANONYMOUS": "on",  # it listens only on this machine
    "TRUSTED_HOSTS": "localhost",
    "AWS_REGION": "us-east-1",
}
OWN_SETTINGS = (
    "PORT", "CLOUD_PORT", "HOST", "LOCAL_BUCKETS", "LOCAL_BOOT_SECONDS", "LOCAL_START_SECONDS", "PHOTOS"
)  # fmt: skip
FALLBACK = {"MODEL": "efficientnet_lite0"}


class CannotStart(Exception):
    """The system cannot start. The message is a sentence that says why."""


def main() -> int:
    stop = stop_on(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        run(stop)
    except (CannotStart, CannotRead, NotForEverybody, SettingsError, CloudError) as error:
        print(f"make run: {error}", file=sys.stderr)
        return 1
    return 0


def run(stop: Event) -> None:
    port, cloud_port = port_from("PORT", 8000), port_from("CLOUD_PORT", 4566)
    if port == cloud_port:
        raise CannotStart(f"PORT and CLOUD_PORT are both {port}, but each needs a port of its own")
    where = listening()
    key = AccessKey.new()
    environment = local_environment(cloud_port, key, where)
    os.environ.clear()  # what the shell says of AWS, such as AWS_ENDPOINT_URL_S3, would lead elsewhere
    os.environ.update(environment)
    # Instances have a home directory of their own, but should share this user's models and weights.
    os.environ["MODEL_CACHE"] = str(cache_folder())
    os.environ.setdefault("TORCH_HOME", str(Path.home() / ".cache" / "torch"))
    settings = ControllerSettings.from_environment("ami_id")
    for misspelt in misspelt_settings(os.environ, OWN_SETTINGS):
        print(f"make run: {misspelt}", file=sys.stderr)
    check_files(settings)
    boot_seconds = seconds_from("LOCAL_BOOT_SECONDS", 0)
    start_seconds = seconds_from("LOCAL_START_SECONDS", 0)
    check_free(where.host, port, "PORT")
    try:
        endpoint = Endpoint(cloud_port, os.environ["AWS_REGION"], key)
    except OSError:
        raise CannotStart(taken(cloud_port, "CLOUD_PORT")) from None
    # Not before there is an endpoint: a run that still bakes its model has not taken PORT yet, but has its
    # files here, among them the commands that keep its instances from switching this computer off.
    logs = HERE / ".local" / str(port)
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True, mode=0o700)
    machines = Machines(
        endpoint,
        logs,
        boot_seconds=boot_seconds,
        start_seconds=start_seconds,
        grace=STOP_SECONDS,
        environment=instance_environment(settings),
        say=say,
    )
    endpoint.start()
    aws_env = write_aws_env(logs / "aws.env", endpoint)
    with ExitStack() as at_the_end:
        at_the_end.callback(endpoint.stop)
        with baking(settings, stop):
            clients = make_worker_clients()
            provision(clients.s3, clients.sqs, settings)
            sources = source_buckets(settings)
            for bucket in sources:
                make_private_bucket(clients.s3, bucket)
        buckets = (*settings.buckets, *sources)
        state = Bucket(clients.s3, settings.state_bucket)
        at_the_end.enter_context(kept(buckets, os.environ.get("LOCAL_BUCKETS", ""), state))
        put_examples(clients.s3, sources)
        at_the_end.callback(machines.stop_all)
        process = at_the_end.enter_context(controller(where, port, logs / "controller.log", machines.mark))
        wait_until_ready(where, port, process, logs / "controller.log", stop)
        page = f"http://{where.shown}:{port}/"
        announce(page, bool(settings.tokens), endpoint.url, logs, aws_env, settings.batch_sources)
        while not stop.is_set():
            if process.poll() is not None:
                raise CannotStart(f"the controller has ended: {last_lines(logs / 'controller.log')}")
            stop.wait(0.2)
        say("\nstopping ...")


@contextmanager
def kept(buckets: tuple[str, ...], folder: str, state: Bucket) -> Iterator[None]:
    """Fills the buckets from `folder` before the block, and saves them there after it.

    The cached answers among them, which are in `state`, are forgotten if other code may have made them.
    Nothing is kept if `folder` is "". Raises CannotRead when a saved bucket is damaged.
    """
    if not folder:
        yield
        return
    load(Path(folder), buckets)
    code, noted = code_digest(HERE), Path(folder) / "code"
    if not noted.exists() or noted.read_text() != code:
        for key in list(state.keys(ANSWERS)):
            state.delete(key)
    try:
        yield
    finally:
        if left_out := save(Path(folder), buckets, KEPT_BYTES):
            say(f"{left_out} objects were too old to be kept for the next run.")
        noted.write_text(code)


def local_environment(cloud_port: int, key: AccessKey, where: Listening) -> dict[str, str]:
    """Returns the environment of the controller: the user's settings on top of DEFAULTS.

    All variables of AWS itself, except for AWS_REGION, are replaced by those of the local AWS. No real
    account can be reached by accident.
    """
    given = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") or k == "AWS_REGION"}
    cloud = {"AWS_ENDPOINT_URL": f"http://{HOST}:{cloud_port}", **key.environment()}
    return DEFAULTS | {"TRUSTED_HOSTS": where.trusted_hosts} | {k: v for k, v in given.items() if v} | cloud


def write_aws_env(path: Path, endpoint: Endpoint) -> Path:
    """Writes a shell script that sets the environment for calls to the local AWS. Returns its path.

    Only the user who runs this can read the file.
    """
    access = {
        "AWS_ENDPOINT_URL": endpoint.url,
        **endpoint.key.environment(),
        "AWS_DEFAULT_REGION": endpoint.region,
    }
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={value}\n" for name, value in access.items()))
    return path


def instance_environment(settings: ControllerSettings) -> dict[str, str]:
    """Returns environment variables that local instances need because they share this machine.

    They tell an instance where AWS, the code and the model are. With ENGINE=torch, they also tell it how many
    threads it may use, because the threads of torch wait for each other in loops.
    """
    names = ("AWS_ENDPOINT_URL", "MODEL_CACHE", "TORCH_HOME", "PHOTOS")
    shared = {name: os.environ[name] for name in names if os.environ.get(name)}
    threads = {"OMP_NUM_THREADS": str(max(1, CORES // settings.max_instances))}
    return {"APP_DIR": str(HERE), **shared, **(threads if settings.engine == "torch" else {})}


def check_files(settings: ControllerSettings) -> None:
    """Raises CannotStart if WEIGHTS or LABELS is the path of no file, or PHOTOS that of no folder.

    A worker would report this too, but only in the log of its instance and once there is work.
    """
    photos = os.environ.get("PHOTOS")
    if photos and not (HERE / photos).is_dir():
        raise CannotStart(f"PHOTOS is {photos!r}, but there is no such folder")
    weights = "" if settings.weights == "imagenet" else settings.weights
    for name, path in (("WEIGHTS", weights), ("LABELS", settings.labels)):
        if path and not path.startswith("s3://") and not (HERE / path).exists():
            raise CannotStart(f"{name} is {path!r}, but there is no such file")


@contextmanager
def baking(settings: ControllerSettings, stop: Event) -> Iterator[None]:
    """Bakes the model during the block, at the end of which it is baked, or `stop` is set.

    If no model is chosen and the default one cannot be baked, because its weights cannot be fetched, FALLBACK
    is used instead, whose weights are installed with its package. Raises CannotStart if the model cannot be
    baked.
    """
    if settings.weights.startswith("s3://") or settings.labels.startswith("s3://"):
        yield  # the first worker bakes it, because there is nothing in the local S3 yet
        return
    process = start_bake()
    try:
        yield
        baked = is_baked(process, stop)
    finally:
        process.terminate()
    if baked or stop.is_set():
        return
    if os.environ.get("MODEL") or settings.weights != "imagenet":
        raise CannotStart(f"the model {settings.model} cannot be baked")
    os.environ.update(FALLBACK)
    print(f"Using {FALLBACK['MODEL']} instead, whose weights are installed already.", flush=True)
    if not is_baked(start_bake(), stop) and not stop.is_set():
        raise CannotStart(f"the model {FALLBACK['MODEL']} cannot be baked either")


def start_bake() -> subprocess.Popen[bytes]:
    """Starts a process that bakes the model, which takes a moment if it is baked already."""
    return subprocess.Popen([sys.executable, "-m", "worker.bake"], cwd=HERE)


def is_baked(process: subprocess.Popen[bytes], stop: Event) -> bool:
    """Waits until the process has ended, and ends it if `stop` is set. Returns whether the model is baked."""
    while process.poll() is None:
        if stop.wait(0.02):
            process.terminate()
    return process.returncode == 0


@contextmanager
def controller(
    where: Listening, port: int, log: Path, mark: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the controller in Gunicorn for the duration of the block.

    `mark` is the environment variable by which the guardian of the local machines finds the process. Gunicorn
    has a process group of its own, so that Ctrl-C reaches only this process, which then stops Gunicorn.
    """
    bind = {
        "BIND": f"{where.host}:{port}",
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


def wait_until_ready(
    where: Listening, port: int, process: subprocess.Popen[bytes], log: Path, stop: Event
) -> None:
    """Waits until the controller is ready or `stop` is set. Raises CannotStart after START_SECONDS."""
    until = time.monotonic() + START_SECONDS
    while not stop.is_set():
        try:
            with urllib.request.urlopen(f"http://{where.here}:{port}/readyz", timeout=5):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise CannotStart(f"the controller does not start ({error}): {last_lines(log)}") from None
        stop.wait(0.1)


def announce(
    page: str, restricted: bool, endpoint: str, logs: Path, aws_env: Path, sources: Sequence[str]
) -> None:
    token = '-H "Authorization: Bearer $TOKEN" ' if restricted else ""
    access = f". {aws_env.relative_to(HERE)}"
    batches = ""
    if sources:
        batches = f"""\
  a batch      curl {token}-d source={sources[-1]} {page}batches
  your photos  ({access}; aws s3 sync FOLDER {sources[0]})
"""
    print(
        f"""
  The image classifier is running. Ctrl-C stops it.

  page         {page}
  with curl    curl {token}-F image_file=@deploy/cat.jpg {page}
  local AWS    {endpoint}  (S3, SQS, EC2); for the AWS CLI: {access}
{batches}  logs         {logs}
""",
        flush=True,
    )


def say(text: str) -> None:
    with suppress(OSError):  # the terminal may have been closed
        print(f"  {text}", flush=True)


def last_lines(log: Path, lines: int = 5) -> str:
    """Returns the path of the log and its last lines, for an error message."""
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


def check_free(host: str, port: int, name: str) -> None:
    """Raises CannotStart when the port is taken, or when `host` is no address of this machine."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise CannotStart(f"HOST is {host}, but this machine does not have that address") from None
        raise CannotStart(taken(port, name)) from None


def taken(port: int, name: str) -> str:
    return (
        f"port {port} is taken: stop the program that listens there, or choose another port with {name}=..."
    )


if __name__ == "__main__":
    sys.exit(main())
