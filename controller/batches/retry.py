"""Tries the images of a batch again that failed and may succeed this time."""

from collections import defaultdict
from collections.abc import Callable

from cloud.batches.batch import Round
from cloud.batches.slice import MOST_ROUNDS, Slice
from cloud.batches.store import BatchStore
from cloud.request_queue import RequestQueue
from controller.batches.progress import Progress
from controller.batches.rows import outcomes
from controller.batches.slicing import cut, slice_size
from controller.image_requests.errors import InvalidState

RUNS = "This batch still runs. Once it has finished, what failed can be tried again."


def retry(
    store: BatchStore, queue: RequestQueue, progress: Progress, need_room: Callable[[], None] = lambda: None
) -> None:
    """Begins a new round of a finished batch, which makes it one of those that are open.

    `need_room` may raise an exception to refuse that. Raises InvalidState when it runs, when it was cancelled
    or when nothing can be tried again, and CloudError when AWS fails. If the process dies once the round is
    written, the keeper sends its slices.
    """
    batch_id, number = progress.batch.batch_id, progress.round + 1
    if progress.cancelled is not None:
        raise InvalidState("This batch was cancelled. Ask for a new one with the same source.")
    if progress.summary is None:
        raise InvalidState(RUNS)
    if number > MOST_ROUNDS:
        raise InvalidState(f"It was tried {MOST_ROUNDS:,} times. Ask for a new batch with the same source.")
    if not any(found.code.retryable for found in progress.summary.failures):
        raise InvalidState("Nothing can be tried again: no image failed that might fare better.")
    need_room()
    failed = failed_positions(store, batch_id, progress.manifests)
    parts = tuple(Slice.of(batch_id, manifest, found, number) for manifest, found in failed.items())
    if not parts:
        raise InvalidState("The results of this batch are no longer kept. Ask for a new one.")
    round = Round(images=sum(len(part) for part in parts), parts=parts)
    if not store.put_round(batch_id, number, round):
        raise InvalidState(RUNS)
    size = slice_size(progress.images)
    slices = (one for part in parts for one in cut(batch_id, part.manifest, part.positions, size, part.round))
    queue.send(one.model_dump_json() for one in slices)


def failed_positions(store: BatchStore, batch_id: str, manifests: int) -> dict[int, list[int]]:
    """Returns the positions that may succeed if they are tried again, by manifest."""
    found_failed = {one.manifest for one in store.results(batch_id) if one.failures}
    with_failures = sorted(number for number in found_failed if number < manifests)
    found: dict[int, list[int]] = defaultdict(list)
    for outcome in outcomes(store, batch_id, manifests=with_failures):
        if outcome.row and outcome.row.error and outcome.row.error.retryable:
            found[outcome.manifest].append(outcome.position)
    return found
