"""Where the time of a worker's start goes: `.venv/bin/python -m bench.start`."""

import os
import subprocess
import sys
import time
from collections import Counter

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
load_classifier(WorkerSettings.from_environment(), clients.s3)
print(made - started, time.perf_counter() - made)
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
    for name, seconds in parts(engine).items():
        print(f"    {name:44}{seconds * 1000:8.0f} ms")


def parts(engine: str) -> dict[str, float]:
    """Returns the seconds of each part. Imports are timed in a run of their own, which makes them slower."""
    found = {"the interpreter": run("pass")[1]}
    output, _ = run(PARTS, ENGINE=engine)
    clients, model = map(float, output.split())
    imports = import_seconds()
    found |= {f"import of {group}": seconds for group, seconds in imports.most_common()}
    found["clients of S3 and SQS"] = clients
    found[f"loading the model, with the import of {engine}"] = model
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
