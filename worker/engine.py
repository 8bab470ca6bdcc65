"""Classifies images with a baked model. Neither this module nor what it imports needs torch."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloud.buckets import read_url
from cloud.clients import S3Client
from cloud.errors import CloudError
from cloud.settings import WorkerSettings, as_variable
from worker.artefact import ClassifierError, Manifest, Network, artefact_folder, check_files, read_manifest
from worker.labels import LABELS, Top
from worker.pixels import Pixels
from worker.preprocessing import Preprocessing
from worker.processor import processor

CODE = Path(__file__).parent.parent
BATCH_SIZES = range(1, 6)  # on a processor, which gains little by more images at once
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classifier:
    """A model that is ready to classify images. Several threads may use it at once."""

    manifest: Manifest
    network: Network
    streams: int
    """How many threads should call `classify` at once to keep the processor busy."""
    batch_sizes: Sequence[int]
    """How many images a call of `classify` may have, in ascending order.

    A number between two of them takes as long as the larger one. No call should have more than the last one.
    """

    @property
    def batch(self) -> int:
        """The most images that a call of `classify` should have."""
        return self.batch_sizes[-1]

    @property
    def model(self) -> str:
        """The name of the model and of its weights, for people."""
        return self.manifest.model

    @property
    def engine(self) -> str:
        return self.manifest.engine

    @property
    def precision(self) -> str:
        return self.manifest.precision

    @property
    def preprocessing(self) -> Preprocessing:
        return self.manifest.preprocessing

    def prepare(self, image: Image.Image) -> Pixels:
        """Returns an RGB image of any size as input for the network."""
        return self.preprocessing.prepare(image)

    def classify(self, images: Sequence[Pixels], labels: int = LABELS) -> list[Top]:
        """Returns the labels of each prepared image: at most so many, with confidences from 0 to 1.

        They are in descending order of confidence. There must be at least one image. The result for an image
        does not depend on the others in the batch.
        """
        return [self.top(confidences, labels) for confidences in self.network(np.stack(images))]

    def top(self, confidences: NDArray[np.float32], labels: int) -> Top:
        best = np.argsort(-confidences, kind="stable")[:labels]
        return [(self.manifest.labels[index], float(confidences[index])) for index in best]


def load_classifier(settings: WorkerSettings, s3: S3Client | None) -> Classifier:
    """Loads the model that the settings name. `s3` is needed only when WEIGHTS or LABELS is in S3.

    An artefact that is missing is baked first where torch is installed. Raises ClassifierError when the model
    cannot be loaded or baked, and CloudError when WEIGHTS or LABELS cannot be read.
    """
    if settings.engine == "torch":
        return load_torch(settings, s3, "ENGINE is torch.")
    folder = artefact_folder(settings, s3)
    manifest = read_manifest(folder) or bake(settings, folder)
    reason = manifest.reason if manifest.engine == "torch" else why_not_here(folder, manifest)
    if reason:
        log.warning("%s", reason)
        return load_torch(settings, s3, reason)
    try:
        return load_baked(folder, manifest)
    except ClassifierError:
        replaced = read_manifest(folder)  # a bake may have replaced the artefact in the meantime
        if replaced is None or replaced == manifest:
            raise
        return load_baked(folder, replaced)


def load_baked(folder: Path, manifest: Manifest) -> Classifier:
    """Loads an artefact for OpenVINO. Raises ClassifierError when that is impossible."""
    from worker.openvino_network import load_openvino  # a worker whose engine is torch does not need OpenVINO

    cores = len(os.sched_getaffinity(0))
    network = load_openvino(check_files(folder, manifest), manifest.precision, cores)
    return Classifier(manifest, network, streams=cores, batch_sizes=BATCH_SIZES)


def why_not_here(folder: Path, manifest: Manifest) -> str:
    """Returns why this processor cannot run the artefact, as a sentence, or "" when it can.

    It is tried only on another processor than the one that baked it.
    """
    if manifest.processor == processor():
        return ""
    from worker.trial import Candidate, TrialError, noise, try_networks  # seldom needed

    try:
        candidate = Candidate(manifest.precision, check_files(folder, manifest))
        try_networks([candidate], noise(1, manifest.preprocessing))
    except TrialError as error:
        return f"OpenVINO cannot run the model, which another processor baked, on this one: {error}."
    return ""


def bake(settings: WorkerSettings, folder: Path) -> Manifest:
    """Bakes the artefact in a process of its own, whose memory is free again afterwards.

    Raises ClassifierError when that fails, or when torch is not installed.
    """
    if find_spec("torch") is None:
        raise ClassifierError(
            f"There is no baked model for MODEL={settings.model} WEIGHTS={settings.weights}"
            f" LABELS={settings.labels} PRECISION={settings.precision} in {folder.parent}. Run"
            " `python -m worker.bake` with these settings where torch is installed, or make an AMI with them."
        )
    same_settings = {name.upper(): as_variable(value) for name, value in settings.model_dump().items()}
    done = subprocess.run(
        [sys.executable, "-m", "worker.bake"],
        cwd=CODE,
        env={**os.environ, **same_settings},
        capture_output=True,
        text=True,
    )
    for line in done.stdout.splitlines():
        log.info("%s", line)
    manifest = read_manifest(folder)
    if done.returncode or manifest is None:
        raise ClassifierError(f"The model cannot be baked: {done.stderr.strip().removeprefix('bake: ')}")
    return manifest


def load_torch(settings: WorkerSettings, s3: S3Client | None, reason: str) -> Classifier:
    """Loads the model with torch, without an artefact. `reason` says in a sentence why.

    Raises ClassifierError when the model cannot be loaded, or when torch is not installed.
    """
    if find_spec("torch") is None:
        raise ClassifierError(f"{reason} The engine torch is not installed here.")
    # Not at the top of the file, because torch takes seconds to load.
    from worker.torch_network import GPU_BATCHES, load_model, on_gpu, torch_network

    model = load_model(settings.model, settings.weights, settings.labels or None, reader(s3))
    precision = "fp32" if settings.precision == "auto" else settings.precision
    manifest = Manifest(
        model=model.name,
        weights_sha256=model.weights_sha256,
        labels=model.labels,
        preprocessing=model.preprocessing,
        engine="torch",
        precision=precision,
        reason=reason,
        photos="",
        processor=processor(),
        network="",
        files={},
    )
    sizes = GPU_BATCHES if on_gpu() else BATCH_SIZES
    return Classifier(manifest, torch_network(model, precision), streams=1, batch_sizes=sizes)


def reader(s3: S3Client | None) -> Callable[[str], bytes]:
    """Returns a function that reads `s3://bucket/key`. Without `s3`, it raises CloudError."""

    def read(url: str) -> bytes:
        if s3 is None:
            raise CloudError("there is no AWS here")
        return read_url(s3, url)

    return read
