"""The artefact: a model that was baked once, as the files that a worker loads without torch.

It is a folder with a manifest and the network in the format of OpenVINO. The cache of artefacts is a folder
with one artefact per choice of MODEL, WEIGHTS, LABELS, ENGINE and PRECISION.
"""

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from cloud.clients import S3Client
from cloud.model_cache import cache_folder
from cloud.model_version import settings_digest
from cloud.settings import WorkerSettings
from worker.pixels import Pixels
from worker.preprocessing import Preprocessing

FORMAT = 3
"""The version of this format. An artefact of another version is not found, so that it is baked again."""

MANIFEST = "manifest.json"

LARGEST_MANIFEST = 4_000_000
"""The most bytes of a manifest that is read. The labels are nearly all of it: of 1000 classes, 30 KB."""

LARGEST_FILE = 4_000_000_000
"""The most bytes of a file of a network. Those of the largest ResNet have 520 MB."""

Network: TypeAlias = Callable[[Pixels], NDArray[np.float32]]
"""Returns the confidences of a batch: takes shape [images, crop, crop, 3], returns [images, classes]."""


class ClassifierError(Exception):
    """The model cannot be loaded or baked. The message says which setting is wrong, and how."""


class Manifest(BaseModel):
    """What a worker must know about the network, and what a person may want to know about its origin."""

    model_config = ConfigDict(frozen=True)

    model: str
    """The name of the model and of its weights, for people."""
    weights_sha256: str
    """The SHA-256 of the file of the weights, as hex digits."""
    labels: tuple[str, ...]
    """The class names, in the order of the network's outputs."""
    preprocessing: Preprocessing
    engine: str
    """What runs the network: `openvino`, or `torch` if OpenVINO cannot on the processor that baked it."""
    precision: str
    """The number format of the network: `fp32`, `bf16` or `int8`."""
    reason: str
    """Why it is this engine and this precision: a sentence for people."""
    photos: str
    """What identifies the photos with which it was baked."""
    processor: str
    """The processor that baked it, as worker.processor names it."""
    network: str
    """The name of the file of the network's graph in the artefact's folder, or "" when the engine is torch.

    Its weights are in the file `<name>.bin` beside it. A later bake has other names, so that a new manifest
    alone replaces an artefact.
    """
    files: dict[str, str]
    """The SHA-256 of each file of the network, as hex digits, by its name."""


def artefact_folder(settings: WorkerSettings, s3: S3Client | None) -> Path:
    """Returns the folder of the artefact for these settings, whether it exists or not.

    `s3` is needed only when WEIGHTS or LABELS is in S3. Raises CloudError when one of them cannot be read.
    """
    digest = settings_digest(settings, s3)
    return cache_folder() / f"{settings.model}-{FORMAT}-openvino-{version('openvino')}-{digest}"


def read_manifest(folder: Path) -> Manifest | None:
    """Returns the manifest of an artefact, or None when there is no artefact in the folder.

    Raises ClassifierError when the manifest is broken.
    """
    try:
        with (folder / MANIFEST).open("rb") as file:
            content = file.read(LARGEST_MANIFEST + 1)
        if len(content) > LARGEST_MANIFEST:
            raise ClassifierError(f"{folder / MANIFEST} is too large for a manifest. Delete the folder.")
        return Manifest.model_validate_json(content)
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ClassifierError(f"{folder / MANIFEST} cannot be read: {error}. Delete the folder.") from error


def network_files(network: Path) -> tuple[Path, Path]:
    """Returns the files of a network: its graph, which is `network` itself, and its weights."""
    return network, network.with_suffix(".bin")


def digests(network: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file of a network, as hex digits, by its name. Raises OSError."""
    return {file.name: digest(file) for file in network_files(network)}


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_files(folder: Path, manifest: Manifest) -> Path:
    """Returns the network of an artefact, whose files are those that were baked.

    An engine must read no others: its parsers are not made for files that somebody has damaged or made up.
    Raises ClassifierError when a file is another one, is too large or is missing.
    """
    network = folder / manifest.network
    try:
        if Path(manifest.network).name != manifest.network:
            raise ClassifierError(f"{folder / MANIFEST} names a file outside of its folder.")
        for file in network_files(network):
            if file.stat().st_size > LARGEST_FILE:
                raise ClassifierError(f"{file} is too large for a network. Delete the folder.")
        if digests(network) != manifest.files:
            raise ClassifierError(
                f"{network} or its weights are not those that were baked. Delete the folder."
            )
    except OSError as error:
        raise ClassifierError(f"The network cannot be read: {error}. Delete {folder}.") from error
    return network
