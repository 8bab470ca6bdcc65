"""Images are prepared as torchvision's own transforms prepare them."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis.strategies import integers
from PIL import Image
from torchvision.models import get_model_weights
from torchvision.transforms import v2
from torchvision.transforms.functional import InterpolationMode

from tests.support.models import IMAGES, LITE0
from worker.preprocessing import Preprocessing
from worker.torch_network import RESNETS, _preprocessing

RESNET18 = _preprocessing("resnet18")


def torchvision_pixels(image: Image.Image, constants: Preprocessing = RESNET18) -> np.ndarray:
    """What torchvision's Resize and CenterCrop make of an image."""
    steps = v2.Compose(
        [v2.Resize(constants.resize, InterpolationMode.BILINEAR), v2.CenterCrop(constants.crop)]
    )
    return np.asarray(steps(image))


def pattern(width: int, height: int) -> Image.Image:
    """An image without two equal neighbours, in which a shift by a pixel shows."""
    random = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


@given(integers(1, 700), integers(1, 700))
@example(224, 224)
@example(256, 257)
@example(257, 256)
@example(333, 500)
@example(500, 333)
@example(375, 499)
@hypothesis_settings(max_examples=150)
def test_pixels_are_torchvision_s_to_the_bit(width: int, height: int):
    if max(width, height) > 4 * min(width, height):  # the far ends are cut off first, see below
        width = height
    image = pattern(width, height)
    assert np.array_equal(RESNET18.prepare(image), torchvision_pixels(image))


@pytest.mark.parametrize("model", RESNETS)
def test_the_constants_are_those_of_the_model_s_transforms(model: str):
    constants, transforms = _preprocessing(model), get_model_weights(model).DEFAULT.transforms()
    for image in IMAGES:
        pixels = constants.prepare(image)
        expected = transforms(image)
        colours = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(v)[:, None, None] for v in (constants.mean, constants.std))
        assert float((((colours - mean) / std) - expected).abs().max()) < 1e-6


def test_an_image_of_any_shape_is_prepared_without_filling_memory():
    for size in [(1, 1), (1, 60_000), (60_000, 1), (5000, 700)]:
        pixels = RESNET18.prepare(Image.new("RGB", size))
        assert pixels.shape == (224, 224, 3)
        assert pixels.dtype == np.uint8


def test_lite0_sees_colours_from_minus_one_to_one():
    constants = _preprocessing(LITE0)
    for colour, value in [("black", -1), ("white", 1)]:
        pixels = constants.prepare(Image.new("RGB", (300, 400), colour))
        assert np.allclose((pixels / 255 - constants.mean) / constants.std, value, atol=0.01)


def test_the_far_ends_of_a_panorama_do_not_count():
    cat = IMAGES[0].resize((512, 512))
    panorama = Image.new("RGB", (512 * 7, 512), "blue")
    panorama.paste(cat, (512 * 3, 0))
    assert np.array_equal(RESNET18.prepare(panorama), torchvision_pixels(panorama))
