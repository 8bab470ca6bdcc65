"""Models with weights of the tests' own, and what torchvision itself says with them."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.models import ResNet18_Weights, get_model, get_model_weights

from bench.photos import PHOTOS
from bench.random_weights import random_weights
from cloud.clients import S3Client
from cloud.image_file import decode
from cloud.settings import WorkerSettings
from worker.bake.__main__ import bake_once
from worker.bake.photos import find_photos
from worker.engine import Classifier, load_classifier

IMAGES = [decode(data) for data, _ in PHOTOS.values()]
CATEGORIES = ResNet18_Weights.DEFAULT.meta["categories"]
LITE0 = "efficientnet_lite0"

Answer = list[tuple[str, float]]


def choice(
    model: str = LITE0, engine: str = "openvino", precision: str = "fp32", **more: str
) -> WorkerSettings:
    """Returns the settings that choose a model."""
    fields = {"weights": "imagenet", "labels": "", **more}
    return WorkerSettings(
        input_bucket="test-input",
        output_bucket="test-output",
        model=model,
        engine=engine,
        precision=precision,
        **fields,
    )


def load(settings: WorkerSettings, s3: S3Client | None = None) -> Classifier:
    """Bakes the model in this process, where torch is loaded already, and loads it."""
    if settings.engine == "openvino":
        bake_once(settings, s3, find_photos("", None))
    return load_classifier(settings, s3)


@cache
def state_dict(model: str = "resnet18", classes: int = 1000) -> dict[str, Tensor]:
    """Not of a trained model, but of one that tells these photos apart. Tests share it: do not change it."""
    return random_weights(model, IMAGES, classes)


def saved(folder: Path, content: object, name: str = "pets.pt") -> str:
    torch.save(content, folder / name)
    return str(folder / name)


def lines(folder: Path, count: int) -> str:
    (folder / "labels.txt").write_text("\n".join(f"pet {n}" for n in range(count)) + "\n", encoding="utf-8")
    return str(folder / "labels.txt")


def photo_folder(folder: Path, count: int) -> Path:
    """Photos that all differ: crops of real ones, mirrored half of the time."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        image = IMAGES[number % len(IMAGES)]
        side = int(random.integers(180, min(image.size)))
        left, top = (int(random.integers(0, length - side + 1)) for length in image.size)
        crop = image.crop((left, top, left + side, top + side)).resize((240, 240))
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.integers(2) else crop
        crop.save(folder / f"{number:04}.jpg", quality=90)
    return folder


def answers(classifier: Classifier) -> list[Answer]:
    return classifier.classify([classifier.prepare(image) for image in IMAGES])


def torchvisions_answers(model: str, state: dict[str, Tensor], labels: list[str]) -> list[Answer]:
    """Returns what torchvision says when called as its documentation does."""
    network = get_model(model, weights=None, num_classes=len(labels)).eval()
    network.load_state_dict(state)
    transform = get_model_weights(model).DEFAULT.transforms()
    with torch.inference_mode():
        tops = [network(transform(image)[None]).softmax(1)[0].topk(min(5, len(labels))) for image in IMAGES]
    return [
        [(labels[i], v) for i, v in zip(t.indices.tolist(), t.values.tolist(), strict=True)] for t in tops
    ]


def assert_same(one: list[Answer], other: list[Answer]) -> None:
    assert [[label for label, _ in top] for top in one] == [[label for label, _ in top] for top in other]
    for top, same in zip(one, other, strict=True):
        assert [c for _, c in top] == pytest.approx([c for _, c in same], abs=1e-3)
