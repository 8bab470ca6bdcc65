"""A slice that this worker has in hand, and the images of it on their way to their rows."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import ClassVar

from cloud.batches.batch import ListedImage, Row
from cloud.batches.slice import Slice
from cloud.errors import CloudError
from cloud.prediction import Failure, Label, Status
from cloud.request_queue import Message
from worker.held import ByteBudget
from worker.slice_source import SliceSource
from worker.work import Fate, Outcome, Work


@dataclass
class SliceInHand:
    """A slice, of which each image gets a row here, or is left to another worker. Threads may share it."""

    message: Message
    part: Slice
    images: tuple[ListedImage, ...]
    """Those of its manifest."""
    labels: int
    """How many labels each row has."""
    source: SliceSource
    on_row: Callable[[Row], None]
    """Called with each row."""
    on_end: Callable[["SliceInHand"], object]
    """Called once each image has ended. Neither may wait for AWS."""
    begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._ended: dict[int, Row | Fate] = {}

    def answer(self, position: int, outcome: Outcome) -> bool:
        """Makes the row of an image. Returns False if the image has ended before."""
        return self._end(position, make_row(position, self.images[position].key, outcome))

    def leave(self, position: int, fate: Fate) -> bool:
        """Leaves an image to another worker. Returns False if the image has ended before."""
        return self._end(position, fate)

    def _end(self, position: int, how: Row | Fate) -> bool:
        with self._lock:
            if position in self._ended:
                return False
            self._ended[position] = how
            last = len(self._ended) == len(self.part)
        if isinstance(how, Row):
            self.on_row(how)
        if last:
            self.on_end(self)
        return True

    @property
    def rows(self) -> list[Row]:
        """The rows, in ascending order, once each image has ended."""
        return [how for position in self.part if isinstance(how := self._ended[position], Row)]

    @property
    def rest(self) -> Slice | None:
        """What is left to another worker, once each image has ended."""
        left = [position for position in self.part if isinstance(self._ended[position], Fate)]
        return self.part.with_only(left) if left else None

    @property
    def fate(self) -> Fate:
        """What becomes of the rest: the worst that happened to an image of it."""
        fates = {how for how in self._ended.values() if isinstance(how, Fate)}
        return next(fate for fate in (Fate.LEFT, Fate.POSTPONED, Fate.GIVEN_BACK) if fate in fates)


@dataclass(eq=False)
class RowWork(Work):
    """An image of a slice. It is given room in the budget before it is fetched."""

    rank: ClassVar[int] = 1
    finished_when_draining: ClassVar[bool] = True

    hand: SliceInHand
    position: int
    budget: ByteBudget
    room: int = field(init=False)
    """The bytes that its file takes, as far as that is known."""

    def __post_init__(self) -> None:
        self.room = self.image.size

    @property
    def image(self) -> ListedImage:
        return self.hand.images[self.position]

    def make_room(self) -> None:
        self.budget.take(self.room)
        self.budgeted = self.room

    def fetch(self) -> Failure | None:
        started = time.perf_counter()
        found = self.hand.source.read(self.image, self._admit)
        if isinstance(found, Failure):
            return found
        self.data = found
        self.note("fetch", started)
        return None

    def _admit(self, size: int) -> None:
        """Raises CloudError when the file has grown beyond its room. It is given more at the next try.

        Waiting for more here would be part of a step, and the heartbeat takes a step that is long for a hang.
        """
        if size > self.budgeted:
            self.room = size
            raise CloudError(f"{self.name} has grown since it was listed")

    def forget_file(self) -> None:
        self.budget.give(self.budgeted)
        self.data, self.budgeted = b"", 0

    def answer(self, outcome: Outcome) -> None:
        self._end(self.hand.answer(self.position, outcome))

    def abandon(self, fate: Fate) -> None:
        self._end(self.hand.leave(self.position, fate))

    def _end(self, first: bool) -> None:
        self.forget_file()
        if first:
            self.held.settle()


def make_row(position: int, key: str, outcome: Outcome) -> Row:
    """Returns the row of an image."""
    if isinstance(outcome, Failure):
        return Row(position=position, key=key, status=Status.FAILED, error=outcome)
    labels = tuple(Label(label=label, confidence=confidence) for label, confidence in outcome)
    label, confidence = outcome[0]
    return Row(
        position=position,
        key=key,
        status=Status.CLASSIFIED,
        label=label,
        confidence=confidence,
        predictions=labels,
    )
