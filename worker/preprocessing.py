"""Turns an image into the input of the network, as the transforms of torchvision do, but without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from worker.pixels import Pixels


@dataclass(frozen=True)
class Preprocessing:
    """The constants of the model's preprocessing.

    The image is resized and cropped here. The network itself scales the colours to 0 to 1 and normalises
    them, so that it takes a quarter of the bytes.
    """

    resize: int
    """The length in pixels to which the short side of the image is resized, with bilinear interpolation."""
    crop: int
    """The side in pixels of the central square that the network sees."""
    mean: tuple[float, float, float]
    """What is subtracted from red, green and blue, which are from 0 to 1."""
    std: tuple[float, float, float]
    """By what the differences are then divided."""

    def prepare(self, image: Image.Image) -> Pixels:
        """Returns an RGB image of any size as the network takes it."""
        import numpy as np  # not at the top of the file, because decoders do without it

        return np.asarray(self.square(image))

    def square(self, image: Image.Image) -> Image.Image:
        """Returns the part of an RGB image of any size that the network sees, as it sees it.

        The pixels are those that torchvision's Resize and CenterCrop make of the same image, to the bit.
        """
        image = crop_long_side(image)
        image = image.resize(self.resized(*image.size), Image.Resampling.BILINEAR)
        left, top = (round((side - self.crop) / 2) for side in image.size)
        return image.crop((left, top, left + self.crop, top + self.crop))

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Returns the size of the resized image. Fractions of a pixel are cut off, as torchvision does."""
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize


def crop_long_side(image: Image.Image) -> Image.Image:
    """Crops the long side of an image to at most four times its short side.

    The models use only the central square anyway, but before it is cropped, the whole image is resized by its
    short side. For an image of 60000 by 1 pixels, that would fill the memory.
    """
    short = min(image.size)
    width, height = min(image.width, 4 * short), min(image.height, 4 * short)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
