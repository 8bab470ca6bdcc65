"""A slice: the images of a batch that one message stands for."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Self

from pydantic import BaseModel, Field, ValidationError

MANIFEST_IMAGES = 1000
"""The most images in one manifest, as many as ListObjectsV2 returns in one call."""
MOST_MANIFESTS, MOST_ROUNDS = 100_000, 10_000
"""The numbers of manifests have five digits in keys, so that the order of the keys is theirs."""


class Slice(BaseModel, frozen=True):
    """Some images of one manifest of a batch. As JSON, it is the body of a message in the batch queue."""

    batch_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    manifest: int = Field(ge=0, lt=MOST_MANIFESTS)
    """The number of the manifest that has the images."""
    ranges: tuple[tuple[int, int], ...] = Field(min_length=1)
    """The positions of the images in the manifest: from the first number of each pair, up to the second."""
    round: int = Field(1, ge=1, le=MOST_ROUNDS)
    """1 when the images are tried for the first time, and one more for each retry of those that failed."""

    @classmethod
    def of(cls, batch_id: str, manifest: int, positions: Sequence[int], round: int = 1) -> Self:
        """Returns the slice of these positions, which ascend."""
        return cls(batch_id=batch_id, manifest=manifest, ranges=ranges_of(positions), round=round)

    @classmethod
    def read(cls, body: str) -> Self:
        """Raises ValueError when the body of a message is no slice."""
        try:
            found = cls.model_validate_json(body)
        except ValidationError as error:
            raise ValueError(f"{body[:100]!r} is no slice of a batch") from error
        ascend = all(end <= start for (_, end), (start, _) in pairwise(found.ranges))
        if not ascend or any(start < 0 or start >= end for start, end in found.ranges):
            raise ValueError(f"{body[:100]!r} is no slice of a batch: its ranges do not ascend")
        if found.ranges[-1][1] > MANIFEST_IMAGES:
            raise ValueError(f"{body[:100]!r} is no slice of a batch: no manifest has so many images")
        return found

    @property
    def positions(self) -> list[int]:
        """The positions of the images in the manifest, in ascending order."""
        return [position for start, end in self.ranges for position in range(start, end)]

    def __len__(self) -> int:
        return sum(end - start for start, end in self.ranges)

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]
        return iter(self.positions)

    def with_only(self, positions: Sequence[int]) -> Self:
        """Returns the slice of some of these positions, which ascend."""
        return self.of(self.batch_id, self.manifest, positions, self.round)

    def halves(self) -> list[Self]:
        """Returns two slices that have these images together, or this slice alone if it has one image."""
        positions = self.positions
        middle = len(positions) // 2
        return [self.with_only(half) for half in (positions[:middle], positions[middle:]) if half]


def ranges_of(positions: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Returns ascending positions as pairs: each from its first number, up to the second."""
    found: list[tuple[int, int]] = []
    for position in positions:
        if found and found[-1][1] == position:
            found[-1] = found[-1][0], position + 1
        else:
            found.append((position, position + 1))
    return tuple(found)
