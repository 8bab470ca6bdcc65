"""Tries baked networks in a child process: on a processor that OpenVINO does not support, it may crash.

The child is `python -m worker.trial FOLDER PRECISION=NETWORK …`. It reads images from the folder and writes
to it what each network says about them.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from worker.artefact import ClassifierError, Network
from worker.pixels import Pixels
from worker.preprocessing import Preprocessing

CHILD = (sys.executable, "-m", "worker.trial")
"""The command of the child process."""

SECONDS = 120
"""How long a network may take to load and to classify a few images."""

BATCH = 8
"""How many images each thread classifies at once, as a worker does."""

EXIT_REFUSED = 2
"""The exit status of the child process when OpenVINO says itself that it cannot run a network."""


class TrialError(Exception):
    """A network cannot be run on this processor. The message is half a sentence that says why."""


@dataclass(frozen=True)
class Candidate:
    """A network that may be run at some precision."""

    precision: str
    network: Path


@dataclass(frozen=True)
class Outcome:
    """What a network did with the images."""

    confidences: NDArray[np.float32]
    """Of shape [images, classes]."""
    images_per_second: float
    """With all cores at work: the median of several rounds, which alternate with those of other networks."""


def try_networks(candidates: Sequence[Candidate], images: Pixels, seconds: float = SECONDS) -> list[Outcome]:
    """Returns what each network does with the images. Raises TrialError when one of them cannot be run."""
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name, "images.npy"), images)
        run_child([name, *(f"{one.precision}={one.network}" for one in candidates)], seconds)
        speeds = json.loads(Path(name, "speeds.json").read_text())
        return [
            Outcome(np.load(Path(name, f"confidences-{number}.npy")), speed)
            for number, speed in enumerate(speeds)
        ]


def noise(count: int, preprocessing: Preprocessing) -> Pixels:
    """Returns images of random pixels, always the same ones, as the network takes them."""
    side = preprocessing.crop
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def fast_precisions() -> list[str]:
    """Returns which of bf16 and int8 this processor has instructions for. Raises TrialError."""
    return run_child(["--precisions"], SECONDS).split()


def run_child(arguments: Sequence[str], seconds: float) -> str:
    """Returns what the child process prints. Raises TrialError when it fails, dies or takes too long."""
    try:
        child = subprocess.run(
            [*CHILD, *arguments],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise TrialError(f"it took more than {seconds:.0f} s") from None
    if child.returncode < 0:
        raise TrialError(f"it crashed with {signal.Signals(-child.returncode).name}")
    if child.returncode:
        said = child.stderr.strip().splitlines() or [f"exit status {child.returncode}"]
        raise TrialError(f"it failed: {said[-1][:300]}")
    return child.stdout


def classify_in_rounds(networks: Sequence[Network], images: Pixels, cores: int) -> list[Outcome]:
    """Returns what each network does with the images. In each round, all classify the same few of them."""
    found: list[list[NDArray[np.float32]]] = [[] for _ in networks]
    speeds: list[list[float]] = [[] for _ in networks]
    size = BATCH * cores * 4
    with ThreadPoolExecutor(cores) as pool:
        for network in networks:
            list(pool.map(network, [images[:BATCH]] * cores))  # the first run of each thread is slow
        for start in range(0, len(images), size):
            batches = [images[at : at + BATCH] for at in range(start, min(start + size, len(images)), BATCH)]
            for number, network in enumerate(networks):
                before = time.perf_counter()
                found[number] += pool.map(network, batches)
                speeds[number].append(sum(map(len, batches)) / (time.perf_counter() - before))
    return [Outcome(np.concatenate(of), median(fast)) for of, fast in zip(found, speeds, strict=True)]


def main(arguments: Sequence[str]) -> int:
    """Runs in the child process. Returns its exit status."""
    # Not at the top of the file, because the parent process shall not load OpenVINO.
    from worker.openvino_network import load_openvino, supported_precisions

    try:
        if arguments == ["--precisions"]:
            print(*supported_precisions())
            return 0
        folder, cores = Path(arguments[0]), len(os.sched_getaffinity(0))
        chosen = [argument.split("=", 1) for argument in arguments[1:]]
        networks = [load_openvino(Path(path), precision, cores) for precision, path in chosen]
        outcomes = classify_in_rounds(networks, np.load(folder / "images.npy"), cores)
    except (ClassifierError, RuntimeError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return EXIT_REFUSED
    for number, outcome in enumerate(outcomes):
        np.save(folder / f"confidences-{number}.npy", outcome.confidences)
    (folder / "speeds.json").write_text(json.dumps([outcome.images_per_second for outcome in outcomes]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
