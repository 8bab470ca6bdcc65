"""How much a decoder may use for one image. Both the worker and its decoders import this module."""

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one image may take. A decoder that exceeds one of them ends."""

    seconds: float
    """Of processor time."""
    megabytes: int
    """Of memory, beyond what a decoder has when it starts."""
    pixels: int
    """What is larger and cannot be decoded may only lack memory. The decoder does not call it broken."""


QUICK = Limits(seconds=1, megabytes=384, pixels=20_000_000)
"""Enough for the photos of phones. There is one such decoder for each core."""

PATIENT = Limits(seconds=10, megabytes=1200, pixels=120_000_000)
"""Enough for nearly every image of image_file.MAX_PIXELS. There is one such decoder in a worker."""

WALL_SECONDS = 40
"""The time after which a decoder is killed that neither answers nor uses the processor."""

REQUEST = struct.Struct("!QHH")
"""Precedes a file: its length in bytes, and `resize` and `crop` of the preprocessing."""

REPLY = struct.Struct("!?I")
"""Precedes a reply: whether the image was decoded, and the length of what follows.

That is the image in RGB bytes, or a Failure as JSON.
"""

READY = b"R"
"""What a decoder sends when it has started."""

EXIT_NO_MEMORY = 3
"""The exit status of a decoder that has reached the limit of its memory."""
