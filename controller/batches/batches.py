"""What can be done with batches: ask for them, look at them, cancel them and try failures again."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from threading import Event, Lock

from cloud.batches.batch import Batch
from cloud.batches.source import Picture, open_picture
from cloud.batches.store import BatchStore
from cloud.clients import S3Client
from cloud.errors import Conflict, NotFound
from cloud.image_id import SHARD_DIGITS, TIME_DIGITS
from cloud.notices import Notice
from cloud.request_queue import RequestQueue
from cloud.s3_url import bucket_and_key_of, is_key
from controller.batches.answer import BatchAnswer, describe
from controller.batches.errors import BatchesOff, SourceNotAllowed, TooManyBatches
from controller.batches.findings import Findings
from controller.batches.keeper import Keeper
from controller.batches.keys import Keys
from controller.batches.lister import Lister, is_image
from controller.batches.load import BatchLoad
from controller.batches.order import Order
from controller.batches.progress import Progress
from controller.batches.repair import QUIET_SECONDS
from controller.batches.retry import retry
from controller.batches.rows import Outcome, outcomes
from controller.batches.watch import Watch, WatchedBatch
from controller.batches.wording import CANCELLED
from controller.image_requests.errors import InvalidState
from controller.image_requests.request_ids import RequestIds

MOST_SHOWN = 100
MOST_LOOKED_AT = 1000
"""The newest batches of all clients, among which a client's own are looked for. A process remembers them."""
MOST_OPEN = 100
"""The most batches that are open at once. Each process looks at them all, and remembers 200 (watch.py)."""
MOST_OPEN_OF_CLIENT = 80
"""Of these, so that a client who asks for many keeps nobody else from asking for one."""
AGAIN_SECONDS = 60  # the Retry-After of a batch for which there is no room


class Batches:
    """The methods raise BatchesOff when there are no sources, and CloudError when AWS fails."""

    def __init__(
        self,
        s3: S3Client,
        store: BatchStore,
        queue: RequestQueue,
        ids: RequestIds,
        sources: Sequence[str],
        price_per_hour: float,
        wake_autoscaler: Callable[[], None] = lambda: None,
        tell: Callable[[Notice], None] = lambda notice: None,
        tries_seconds: float = QUIET_SECONDS,
    ) -> None:
        """`tries_seconds` is how long all tries of an image may take that ends the worker each time."""
        self.s3, self.store, self.queue, self.ids = s3, store, queue, ids
        self.sources, self.wake_autoscaler = sources, wake_autoscaler
        self.watch = Watch(store, price_per_hour)
        lister = Lister(s3, store, queue, wake_autoscaler)
        self.keeper = Keeper(
            store, queue, self.watch, lister, wake_autoscaler, tell, tries_seconds=tries_seconds
        )
        self._keys = Keys(store.state)
        self._asking = Lock()
        """Held from the look at the open batches until the next one is among them."""
        self._stored = lru_cache(MOST_LOOKED_AT)(store.get)

    @property
    def on(self) -> bool:
        return bool(self.sources)

    def need_sources(self) -> None:
        """Raises BatchesOff when there are no sources, so that nothing need be read."""
        if not self.on:
            raise BatchesOff("There are no batches here: BATCH_SOURCES is not set.")

    def loads(self) -> Sequence[BatchLoad]:
        """Returns what the open batches ask of the fleet, or asked some seconds ago."""
        return self.keeper.loads.get() if self.on else ()

    def ask(self, order: Order, client: str, key: tuple[str, str] | None = None) -> Batch:
        """Begins a batch, and returns it.

        `key` is the name of an Idempotency-Key's object, and a hash of what was asked: if the same was asked
        with it before, returns that batch. Raises SourceNotAllowed, or IdempotencyKeyReused if the key
        belongs to another batch, or TooManyBatches when there is no room for one more.
        """
        self.check(order)
        batch = order.batch(self.ids.new(), client)
        if key:
            batch_id = self._keys.claim(*key, batch.batch_id)
            if batch_id != batch.batch_id and (known := self.find(batch_id)):
                return known.batch
            batch = batch.model_copy(update={"batch_id": batch_id})
        try:
            with self._asking:
                self._need_room(client)
                self.store.put(batch)
        except Conflict:
            return self._found(batch.batch_id).batch
        self.watch.know(batch)
        self.keeper.list(batch)
        return batch

    def answer(self, batch_id: str) -> BatchAnswer | None:
        """Returns how far a batch is, or None when there is none with this id."""
        watched = self.find(batch_id)
        return self._describe(watched) if watched else None

    def brief(self, batch: Batch) -> BatchAnswer:
        """Returns how far a batch is, without what it has found."""
        return describe(self.watch.know(batch).progress(), Findings(), self.store.outputs.name)

    def newest(self, client: str) -> list[Batch]:
        """Returns those of the newest batches that are of a client, the last one first."""
        self.need_sources()
        found: list[Batch] = []
        for batch_id in heapq.nlargest(MOST_LOOKED_AT, self.store.batch_ids(), asked_at):
            batch = self._stored(batch_id)
            if batch and batch.client == client:
                found.append(batch)
                if len(found) == MOST_SHOWN:
                    break
        return sorted(found, key=lambda batch: batch.created_at, reverse=True)  # ids tell whole seconds

    def cancel(self, batch_id: str) -> BatchAnswer | None:
        """Stops a batch. Raises InvalidState when it has finished."""
        if (watched := self.find(batch_id)) is None:
            return None
        progress = watched.read()
        if progress.summary and progress.cancelled is None:
            raise InvalidState("This batch has finished, so there is nothing to cancel.")
        self.store.cancel(batch_id, CANCELLED)
        return self._changed(watched)

    def retry(self, batch_id: str) -> BatchAnswer | None:
        """Tries again what failed.

        Raises InvalidState when that is not possible, and says why, SourceNotAllowed when the source is not
        allowed any more, and TooManyBatches when there is no room for one more that is open.
        """
        if (watched := self.find(batch_id)) is None:
            return None
        self.check(watched.batch)
        retry(self.store, self.queue, watched.read(), lambda: self._need_room(watched.batch.client))
        return self._changed(watched)

    def outcomes(self, progress: Progress) -> Iterator[Outcome]:
        """Yields the outcomes of a batch's images."""
        summary = progress.summary
        end = summary or progress.listed
        return outcomes(
            self.store,
            progress.batch.batch_id,
            manifests=range(end.manifests) if end else None,
            until=summary.until if summary else None,
            cancelled=progress.cancelled is not None,
        )

    def open_image(self, batch: Batch, key: str) -> Picture:
        """Returns an image of a batch.

        Raises NotFound when it is none, and SourceNotAllowed when the source is not allowed any more.
        """
        self.check(batch)
        if not is_key(key) or not key.startswith(batch.prefix) or not is_image(batch, key):
            raise NotFound(f"{key!r} is no image of the batch {batch.batch_id}")
        return open_picture(self.s3, batch, key)

    def find(self, batch_id: str) -> WatchedBatch | None:
        """Returns None when there is no batch with this id. A guess costs no call of AWS."""
        self.need_sources()
        return self.watch.of(batch_id) if self.ids.genuine(batch_id) else None

    def check(self, asked: Order | Batch) -> None:
        """Raises SourceNotAllowed when the source is not among BATCH_SOURCES."""
        self.need_sources()
        if not any(is_under(asked.source, source) for source in self.sources):
            raise SourceNotAllowed(
                f"{asked.source} is not among the sources that batches may read (BATCH_SOURCES). Whoever runs"
                " this service can add it."
            )

    def run(self, stop: Event) -> None:
        """Keeps the open batches going until `stop` is set."""
        self.keeper.run(stop)

    def _need_room(self, client: str) -> None:
        """Raises TooManyBatches when so many are open, in all or of the client, that no other one may be."""
        opened = self.store.open()
        if len(opened) >= MOST_OPEN:
            which = f"{MOST_OPEN:,} batches are open"
        elif len(opened) >= MOST_OPEN_OF_CLIENT and self._of_client(opened, client) >= MOST_OPEN_OF_CLIENT:
            which = f"{MOST_OPEN_OF_CLIENT:,} of your batches are open"
        else:
            return
        raise TooManyBatches(f"{which}, and there is no room for one more until one ends.", AGAIN_SECONDS)

    def _of_client(self, batch_ids: Iterable[str], client: str) -> int:
        watched = map(self.watch.of, batch_ids)
        return sum(one is not None and one.batch.client == client for one in watched)

    def _found(self, batch_id: str) -> WatchedBatch:
        if found := self.watch.of(batch_id):
            return found
        raise NotFound(f"the batch {batch_id} was deleted")

    def _changed(self, watched: WatchedBatch) -> BatchAnswer:
        watched.forget()
        self.keeper.hurry()
        self.wake_autoscaler()
        return self._describe(watched)

    def _describe(self, watched: WatchedBatch) -> BatchAnswer:
        progress = watched.progress()
        if progress.at_end:
            self.keeper.wake.set()  # so that it is summed up soon
        return describe(progress, watched.findings(progress), self.store.outputs.name)


def is_under(source: str, allowed: str) -> bool:
    """Returns whether all keys of the source begin with the prefix that is allowed, in the same bucket."""
    (bucket, prefix), (its_bucket, its_prefix) = map(bucket_and_key_of, (source, allowed))
    return bucket == its_bucket and prefix.startswith(its_prefix)


def asked_at(batch_id: str) -> str:
    """Returns what batch-ids are sorted by, so that the newest one comes last."""
    return batch_id[SHARD_DIGITS : SHARD_DIGITS + TIME_DIGITS]
