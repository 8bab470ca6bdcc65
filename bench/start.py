"""Measures the parts of a worker's start, and what it reads: `.venv/bin/python -m bench.start`."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.arguments import parser_of
from bench.photos import different_photos
from bench.stand_in_process import ask, environment, stand_in
from cloud.settings import WorkerSettings
from local.driver import ROOT, eventually
from worker.artefact import artefact_folder

DELAY = 0.03  # seconds of each AWS call
RUNS = 5
GROUPS = {
    "boto3": ("boto3", "botocore", "s3transfer", "urllib3", "jmespath", "dateutil"),
    "pydantic": ("pydantic", "pydantic_core", "pydantic_settings", "annotated_types", "dotenv"),
    "numpy": ("numpy",),
    "pillow": ("PIL", "pillow_heif", "_pillow_heif", "imagesize"),
    "openvino": ("openvino", "openvino_telemetry"),
    "torch": ("torch", "torchvision"),
    "our own modules": ("cloud", "worker"),
}


def main() -> None:
    parser_of(__doc__).parse_args()
    os.environ.setdefault("MODEL", "efficientnet_lite0")
    print_start("openvino")


def print_start(engine: str) -> None:
    """Prints the parts of the start whose whole time is the median of RUNS, and what it read."""
    runs = sorted((start_in_parts(engine) for _ in range(RUNS)), key=lambda start: sum(start.parts.values()))
    start = runs[RUNS // 2]
    parts = start.parts
    print(f"\nthe start of a worker with {engine}, AWS {DELAY * 1000:.0f} ms away, in parts")
    for name, seconds in with_imports(parts).items():
        print(f"    {name:44}{seconds * 1000:8.0f} ms")
    print(f"    {'from its start to its first receive':44}{sum(parts.values()) * 1000:8.0f} ms")
    print(f"    {'read from files':44}{start.read_bytes / 1e6:8.1f} MB")
    print(f"    {'mapped from libraries':44}{start.mapped_bytes / 1e6:8.1f} MB")
    if engine == "openvino":
        print(f"    {'mapped from the model, while it was loaded':44}{weights_bytes() / 1e6:8.1f} MB")
    print(f"    {'modules of Python':44}{start.modules:8}")


@dataclass(frozen=True)
class Start:
    """One start of a worker."""

    parts: dict[str, float]
    """The seconds of each part, until its first receive has arrived."""
    read_bytes: int
    mapped_bytes: int
    modules: int


def weights_bytes() -> int:
    """Returns the size of the baked network of the model that the environment names."""
    settings = WorkerSettings.without_buckets()
    return sum(file.stat().st_size for file in artefact_folder(settings, None).glob("*.bin"))


def start_in_parts(engine: str) -> Start:
    """Starts a worker once, and ends it after its first receive."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "photo.jpg").write_bytes(different_photos(1)[0])
        with stand_in(Path(name), DELAY, 1) as url:
            worker = subprocess.Popen(
                [sys.executable, "-m", "bench.timed_worker", str(time.time())],
                cwd=ROOT,
                env=os.environ | environment(url) | {"ENGINE": engine},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            try:
                assert worker.stdout
                found = json.loads(worker.stdout.readline())
                arrived = eventually(lambda: ask(f"{url}/_record").get("start"), 10)["at"]
            finally:
                worker.kill()
                worker.communicate()
    parts = found["seconds"] | {"the first receive, and the queue's address": arrived - found["at"]}
    disk = found["disk"]
    return Start(parts, disk["read"], disk["mapped"], disk["modules"])


def with_imports(parts: dict[str, float]) -> dict[str, float]:
    """Returns the parts with the imports of each group of modules in place of all imports.

    Their shares were measured in a run of their own, which takes longer.
    """
    groups, found = import_seconds(), {}
    for name, seconds in parts.items():
        if name == "imports":
            share = seconds / groups.total()
            found |= {f"import of {group}": own * share for group, own in groups.most_common()}
        else:
            found[name] = seconds
    return found


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
    main()
