"""Cuts the images of a batch into slices."""

from collections.abc import Iterator, Sequence

from cloud.batches.batch import SLICE_IMAGES, SLICES, SMALLEST_SLICE
from cloud.batches.slice import Slice


def slice_size(images: int) -> int:
    """Returns how many images a slice has when so many images of its batch are known."""
    return min(SLICE_IMAGES, max(SMALLEST_SLICE, images // SLICES))


def cut(batch_id: str, manifest: int, positions: Sequence[int], size: int, round: int = 1) -> Iterator[Slice]:
    """Yields the slices of some images of a manifest, whose positions ascend."""
    for start in range(0, len(positions), size):
        yield Slice.of(batch_id, manifest, positions[start : start + size], round)
