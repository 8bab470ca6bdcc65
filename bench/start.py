"""Where the time of a worker's start goes, and what it reads: `.venv/bin/python -m bench.start`."""

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass

from local.driver import ROOT

PARTS = """
import os, sys, time
for unused in ("INPUT_BUCKET", "OUTPUT_BUCKET"):
    os.environ.setdefault(unused, "unused")
os.environ |= {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
import worker.__main__
from cloud.clients import make_worker_clients
from cloud.settings import WorkerSettings
from worker.engine import load_classifier
started = time.perf_counter()
clients = make_worker_clients()
made = time.perf_counter()
settings = WorkerSettings.from_environment()
load_classifier(settings, clients.s3)
loaded = time.perf_counter()
from bench.disk_at_start import mapped_bytes, read_bytes
from worker.artefact import artefact_folder
mapped = sum(mapped_bytes().values())
weights = sum(file.stat().st_size for file in artefact_folder(settings, clients.s3).glob("*.bin"))
print(made - started, loaded - made, read_bytes(), mapped, weights, len(sys.modules))
"""
GROUPS = {
    "boto3": ("boto3", "botocore", "s3transfer", "urllib3", "jmespath", "dateutil"),
    "pydantic": ("pydantic", "pydantic_core", "pydantic_settings", "annotated_types", "dotenv"),
    "numpy": ("numpy",),
    "pillow": ("PIL", "pillow_heif", "_pillow_heif", "imagesize"),
    "openvino": ("openvino", "openvino_telemetry"),
    "torch": ("torch", "torchvision"),
    "our own modules": ("cloud", "worker"),
}


def print_start(engine: str) -> None:
    print(f"\nthe start of a worker with {engine}, in parts")
    started = Started.measure(engine)
    for name, seconds in parts(engine, started).items():
        print(f"    {name:44}{seconds * 1000:8.0f} ms")
    print(f"    read from files{started.read_bytes / 1e6:37.1f} MB")
    print(f"    mapped from libraries{started.mapped_bytes / 1e6:31.1f} MB")
    if engine == "openvino":
        print(f"    mapped from the model, while it was loaded{started.weights_bytes / 1e6:10.1f} MB")
    print(f"    modules of Python{started.modules:35}")


@dataclass(frozen=True)
class Started:
    """What a worker has done when its model is loaded."""

    clients: float
    """Seconds to make the clients of S3 and SQS."""
    model: float
    """Seconds to load the model."""
    read_bytes: int
    mapped_bytes: int
    weights_bytes: int
    modules: int

    @classmethod
    def measure(cls, engine: str) -> "Started":
        clients, model, *counts = run(PARTS, ENGINE=engine)[0].split()
        return cls(float(clients), float(model), *map(int, counts))


def parts(engine: str, started: Started) -> dict[str, float]:
    """Returns the seconds of each part. Imports are timed in a run of their own, which makes them slower."""
    found = {"the interpreter": run("pass")[1]}
    imports = import_seconds()
    found |= {f"import of {group}": seconds for group, seconds in imports.most_common()}
    found["clients of S3 and SQS"] = started.clients
    found[f"loading the model, with the import of {engine}"] = started.model
    return found


def run(code: str, **settings: str) -> tuple[str, float]:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, time.perf_counter() - started


def import_seconds() -> Counter[str]:
    """Returns the seconds that the modules of each group took, without those that they import in turn."""
    command = [sys.executable, "-X", "importtime", "-c", "import worker.__main__"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr.splitlines()
    found: Counter[str] = Counter()
    for line in lines[1:]:
        own, _, module = (part.strip() for part in line.removeprefix("import time:").split("|"))
        top = module.partition(".")[0]
        group = next((group for group, tops in GROUPS.items() if top in tops), "Python's own modules")
        found[group] += int(own) / 1e6
    return found


if __name__ == "__main__":
    print_start("openvino")
