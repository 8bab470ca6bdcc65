"""Images as the network takes them, and the sizes of their batches."""

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
"""An image as the network takes it: RGB, shape [crop, crop, 3]; or several, shape [images, crop, crop, 3]."""


def full_size(images: int, sizes: Iterable[int]) -> int:
    """Returns the size to which a batch of so many images is filled up, or with which it takes as long.

    `sizes` are those of batches, in ascending order. A batch that is larger than all of them stays as it is.
    """
    return next((size for size in sizes if size >= images), images)
