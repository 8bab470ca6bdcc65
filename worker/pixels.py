"""The type of images as the network takes them."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
"""An image as the network takes it: RGB, shape [crop, crop, 3]; or several, shape [images, crop, crop, 3]."""
