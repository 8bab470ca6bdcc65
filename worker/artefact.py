"""The artefact: a model that was baked once, as the files that a worker loads without torch.

It is a folder with a manifest and the network in the format of OpenVINO. The cache of artefacts is a folder
with one artefact per choice of MODEL, WEIGHTS, LABELS, ENGINE and PRECISION.
"""

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
from worker.preprocessing import Pixels, Preprocessing

FORMAT = 2
"""The version of this format. An artefact of another version is not found, so that it is baked again."""

MANIFEST = "manifest.json"

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
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ClassifierError(f"{folder / MANIFEST} cannot be read: {error}. Delete the folder.") from error
