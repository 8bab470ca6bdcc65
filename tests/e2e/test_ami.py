"""From a clean Debian to an AMI whose worker classifies: deploy/make_ami.py, and with it deploy/ami.sh."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from bench.photos import PHOTOS
from cloud.buckets import InputBucket, OutputBucket
from cloud.clients import Clients, make_clients
from cloud.image_id import ImageId, new_request_id
from cloud.prediction import Prediction
from cloud.provision import provision
from cloud.request_queue import RequestQueue
from cloud.settings import WorkerSettings
from controller.autoscaling.user_data import render
from local.driver import ROOT, eventually
from local.ec2 import AMI_ID
from local.endpoint import Endpoint
from tests.support.clean_root import CleanRoot, debootstrap

pytestmark = pytest.mark.timeout(900)  # a machine that does much else needs minutes for the installs
HAS_TORCH = """#!/opt/image-classifier/.venv/bin/python
import importlib.util
print(importlib.util.find_spec("torch") is not None)
"""
NOT_COMPILED = """#!/bin/sh
cd /opt/image-classifier && exec .venv/bin/python -B -c '
import os, sys, worker.__main__
if sys.argv[1] == "openvino": import worker.openvino_network
compiled = [getattr(module, "__cached__", "") for module in sys.modules.values()]
print([file for file in compiled if file and not os.path.exists(file)])
' ENGINE
"""
UNITS = """#!/bin/sh
systemctl is-enabled image-classifier-worker
cat /etc/systemd/system/apt-daily.service.d/not-on-workers.conf
"""
SETTINGS = WorkerSettings(
    input_bucket="input",
    output_bucket="output",
    model="efficientnet_lite0",
    idle_shutdown_seconds=1,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("clean") / "root"
    debootstrap(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture
def access(endpoint: Endpoint) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint.url,
        "AWS_REGION": endpoint.region,
        **endpoint.key.environment(),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture
def machine(endpoint: Endpoint, root: Path, access: dict[str, str]) -> Iterator[CleanRoot]:
    machine = CleanRoot(
        endpoint, root, access | {"VENV_OPTIONS": "--system-site-packages", "OMP_NUM_THREADS": "1"}
    )
    yield machine
    machine.close()


@pytest.fixture
def clients(access: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Clients:
    for name, value in access.items():
        monkeypatch.setenv(name, value)
    return make_clients()


def make_ami(access: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.make_ami", "--base", AMI_ID, *options]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | access
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def alive(clients: Clients) -> list[str]:
    reservations = clients.ec2.describe_instances()["Reservations"]
    return [
        i["InstanceId"] for r in reservations for i in r["Instances"] if i["State"]["Name"] != "terminated"
    ]


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_clean_machine_becomes_an_ami_whose_worker_classifies(
    engine: str, machine: CleanRoot, access: dict[str, str], clients: Clients
):
    done = make_ami(access, "--model", "efficientnet_lite0", "--engine", engine)
    assert done.returncode == 0, done.stderr + "".join(machine.logs)
    assert "the environment of the services: " in done.stderr
    ami_id = done.stdout.splitlines()[-1]
    [image] = clients.ec2.describe_images(ImageIds=[ami_id])["Images"]
    assert image["Name"].startswith("image-classifier-")
    assert clients.s3.list_buckets()["Buckets"] == []
    eventually(lambda: alive(clients) == [])
    assert machine.run(HAS_TORCH.encode()).splitlines()[-1] == ("True" if engine == "torch" else "False")
    assert machine.run(NOT_COMPILED.replace("ENGINE", engine).encode()).splitlines()[-1] == "[]"
    units = machine.run(UNITS.encode()).splitlines()
    assert units[0] == "enabled"
    assert "ConditionPathExists=!/run/image-classifier-worker/settings.env" in units

    answer = answer_of_a_worker(clients, ami_id, SETTINGS.model_copy(update={"engine": engine}))
    assert answer.label in PHOTOS["cat"][1], answer
    assert (answer.engine, answer.precision) == (engine, "fp32")
    eventually(lambda: alive(clients) == [], 30)


def answer_of_a_worker(clients: Clients, ami_id: str, settings: WorkerSettings) -> Prediction:
    """Launches a worker of that AMI for one photo of a cat. Returns its prediction."""
    provision(clients.s3, clients.sqs, settings)
    inputs = InputBucket(clients.s3, settings.input_bucket)
    outputs = OutputBucket(clients.s3, settings.output_bucket)
    photo = ImageId.make(new_request_id(), 0, "cat.jpg")
    inputs.put_image(photo, BytesIO(PHOTOS["cat"][0]), "image/jpeg")
    RequestQueue(clients.sqs, settings.request_queue).send([photo])
    clients.ec2.run_instances(
        ImageId=ami_id,
        MinCount=1,
        MaxCount=1,
        UserData=render((ROOT / "deploy" / "userdata.sh").read_text(), settings.for_workers()),
        InstanceInitiatedShutdownBehavior="terminate",
    )
    prediction: Prediction = eventually(lambda: outputs.get_prediction(photo), 120)
    return prediction


@pytest.fixture
def no_packages(root: Path) -> Iterator[str]:
    """A machine whose mirror of packages cannot be reached. Yields what its apt-get says."""
    said = "E: Unable to fetch some archives"
    program = root / "usr/local/sbin/apt-get"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 100\n")
    program.chmod(0o755)
    yield said
    program.unlink()


def test_what_fails_there_is_told_and_leaves_nothing(
    machine: CleanRoot, no_packages: str, access: dict[str, str], clients: Clients
):
    done = make_ami(access)
    assert done.returncode == 1
    assert no_packages in done.stderr
    assert clients.s3.list_buckets()["Buckets"] == []
    eventually(lambda: alive(clients) == [])
