"""Finds out which images of a batch have rows, and which have none.

Positions of a manifest are a bit mask: the bit with the number of a position says whether it is among them.
The name of a result object says them if no position is left out in between. Otherwise the object is read,
but only where another one overlaps with it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from cloud.batches.slice import MANIFEST_IMAGES, Slice
from cloud.batches.store import BatchStore, Result
from cloud.errors import NotFound
from controller.batches.slicing import cut

MOST_KEPT = 10_000  # masks, of at most 160 bytes


class Answered:
    """Knows the positions in result objects, which never change."""

    def __init__(self, store: BatchStore) -> None:
        self.store = store
        self._known: dict[str, int] = {}

    def mask(self, result: Result) -> int:
        """Returns the positions in a result object. Raises CloudError when it must be read and S3 fails."""
        if result.rows == result.end - result.start:
            return ((1 << result.rows) - 1) << result.start
        if result.key not in self._known:
            if len(self._known) == MOST_KEPT:
                self._known.clear()
            self._known[result.key] = self._read(result)
        return self._known[result.key]

    def count(self, results: Iterable[Result]) -> tuple[int, int]:
        """Returns how many images of a manifest have a row in one round, and about how many of them failed.

        An image with several rows counts once.
        """
        rows = failures = 0
        for cluster in clusters(results):
            seen = 0
            for one in sorted(cluster, key=written):
                new = one.rows
                if len(cluster) > 1:
                    new = (self.mask(one) & ~seen).bit_count()
                    seen |= self.mask(one)
                rows += new
                failures += round(one.failures * new / one.rows)
        return rows, failures

    def _read(self, result: Result) -> int:
        try:
            return mask_of(row.position for row in self.store.rows(result))
        except NotFound:
            return 0


def missing(
    batch_id: str,
    expected: Mapping[int, int],
    results: Iterable[Result],
    answered: Answered,
    size: int,
    round: int = 1,
) -> Iterator[Slice]:
    """Yields slices of at most `size` images: those of a round that have no row in it.

    `expected` are the positions of the round by manifest, and `results` are in the order of their keys.
    """
    left = dict(expected)
    for number, group in groupby(results, key=lambda one: one.manifest):
        if number in left:
            for one in group:
                if one.round == round:
                    left[number] &= ~answered.mask(one)
    for number, mask in left.items():
        yield from cut(batch_id, number, positions_of(mask), size, round)


def clusters(results: Iterable[Result]) -> Iterator[list[Result]]:
    """Yields the results in lists, none of which overlaps with another one."""
    cluster: list[Result] = []
    end = 0
    for one in sorted(results, key=lambda one: one.start):
        if cluster and one.start >= end:
            yield cluster
            cluster, end = [], 0
        cluster.append(one)
        end = max(end, one.end)
    if cluster:
        yield cluster


def written(result: Result) -> tuple[float, str]:
    """Returns what results are sorted by, so that the one whose rows count comes first."""
    return result.written_at.timestamp() if result.written_at else 0.0, result.key


def all_of(manifest: int, images: int) -> int:
    """Returns all positions of a manifest of a batch with so many images. All but the last one are full."""
    return (1 << min(MANIFEST_IMAGES, images - MANIFEST_IMAGES * manifest)) - 1


def mask_of(positions: Iterable[int]) -> int:
    mask = 0
    for position in positions:
        mask |= 1 << position
    return mask


def positions_of(mask: int) -> Sequence[int]:
    """Returns the positions in ascending order."""
    return [position for position in range(mask.bit_length()) if mask >> position & 1]
