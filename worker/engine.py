"""Classifies images with a baked model. Neither this module nor what it imports needs torch."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloud.buckets import read_url
from cloud.clients import S3Client
from cloud.settings import WorkerSettings
from worker.artefact import NETWORK, ClassifierError, Manifest, artefact_folder, read_manifest
from worker.preprocessing import Pixels
from worker.threads import yield_to_others

CODE = Path(__file__).parent.parent
log = logging.getLogger(__name__)

Network: TypeAlias = Callable[[Pixels], NDArray[np.float32]]
"""Returns the confidences of a batch: takes shape [images, crop, crop, 3], returns shape [images, classes]."""

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's INFERENCE_PRECISION_HINT by precision. A quantised graph says itself what is computed in int8."""


@dataclass(frozen=True)
class Classifier:
    """A model that is ready to classify images. Several threads may use it at once."""

    manifest: Manifest
    network: Network
    streams: int
    """How many threads should call `classify` at once to keep the processor busy."""

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

    def prepare(self, image: Image.Image) -> Pixels:
        """Returns an RGB image of any size as input for the network."""
        return self.manifest.preprocessing.prepare(image)

    def classify(self, images: Sequence[Pixels]) -> list[list[tuple[str, float]]]:
        """Returns the labels of each prepared image: at most five, with confidences from 0 to 1.

        They are in descending order of confidence. There must be at least one image. The result for an image
        does not depend on the others in the batch.
        """
        return [self.top(confidences) for confidences in self.network(np.stack(images))]

    def top(self, confidences: NDArray[np.float32]) -> list[tuple[str, float]]:
        best = np.argsort(-confidences, kind="stable")[:5]
        return [(self.manifest.labels[index], float(confidences[index])) for index in best]


def load_openvino(folder: Path, manifest: Manifest, cores: int) -> Network:
    """Returns the network of an artefact, to be run by OpenVINO on the processor.

    It is compiled for `cores` threads that each call it for a batch of their own. On the measured processors,
    that is faster than one batch at a time on all cores (bench/README.md). Raises ClassifierError when the
    network cannot be loaded.
    """
    with ThreadPoolExecutor(1, initializer=yield_to_others) as thread:  # OpenVINO's own threads inherit this
        return thread.submit(compile_network, folder, manifest, cores).result()


def compile_network(folder: Path, manifest: Manifest, cores: int) -> Network:
    """Does the work of load_openvino."""
    import openvino  # not at the top of the file, because a worker whose engine is torch does not need it

    options = {
        "INFERENCE_PRECISION_HINT": HINTS[manifest.precision],
        "INFERENCE_NUM_THREADS": cores,
        "NUM_STREAMS": cores,
    }
    try:
        compiled = openvino.Core().compile_model(folder / NETWORK, "CPU", options)
    except RuntimeError as error:
        raise ClassifierError(f"OpenVINO cannot load {folder}: {error}") from error

    def network(images: Pixels) -> NDArray[np.float32]:
        confidences: NDArray[np.float32] = compiled.create_infer_request().infer(images)[0]
        return confidences

    # The first call must not be made by two threads at once, because both would then wait for each other: one
    # for the lock of the interpreter, the other one for that of OpenVINO's Python module.
    network(np.zeros((1, *manifest.preprocessing.shape), np.uint8))
    return network


def load_classifier(settings: WorkerSettings, s3: S3Client | None) -> Classifier:
    """Loads the model that the settings name. `s3` is needed only when WEIGHTS or LABELS is in S3.

    An artefact that is missing is baked first where torch is installed. Raises ClassifierError when the model cannot
    be loaded or baked, and CloudError when WEIGHTS or LABELS cannot be read.
    """
    if settings.engine == "torch":
        return load_torch(settings, s3)
    folder = artefact_folder(settings, s3)
    manifest = read_manifest(folder) or bake(settings, folder)
    if manifest.engine == "torch":
        log.warning("%s", manifest.reason)
        return load_torch(settings, s3)
    cores = len(os.sched_getaffinity(0))
    return Classifier(manifest, load_openvino(folder, manifest, cores), streams=cores)


def bake(settings: WorkerSettings, folder: Path) -> Manifest:
    """Bakes the artefact in a process of its own, whose memory is free again afterwards."""
    if find_spec("torch") is None:
        raise ClassifierError(
            f"There is no baked model for MODEL={settings.model} WEIGHTS={settings.weights} LABELS={settings.labels}"
            f" PRECISION={settings.precision} in {folder.parent}. Run `python -m worker.bake` with these settings where"
            " torch is installed, or make an AMI with them."
        )
    done = subprocess.run([sys.executable, "-m", "worker.bake"], cwd=CODE, stderr=subprocess.PIPE, text=True)
    manifest = read_manifest(folder)
    if done.returncode or manifest is None:
        raise ClassifierError(f"The model cannot be baked: {done.stderr.strip()}")
    return manifest


def load_torch(settings: WorkerSettings, s3: S3Client | None) -> Classifier:
    """Loads the model with torch, without an artefact."""
    if find_spec("torch") is None:
        raise ClassifierError("ENGINE=torch needs torch, which is not installed here.")
    # Not at the top of the file, because torch takes seconds to load.
    from worker.torch_network import load_model, torch_network

    def read_s3(url: str) -> bytes:
        if s3 is None:
            raise ClassifierError(f"{url} cannot be read without AWS.")
        return read_url(s3, url)

    model = load_model(settings.model, settings.weights, settings.labels or None, read_s3)
    precision = "fp32" if settings.precision == "auto" else settings.precision
    manifest = Manifest(
        model=model.name,
        weights_sha256=model.weights_sha256,
        labels=model.labels,
        preprocessing=model.preprocessing,
        engine="torch",
        precision=precision,
        reason="ENGINE is torch.",
        photos="",
    )
    return Classifier(manifest, torch_network(model, precision), streams=1)
