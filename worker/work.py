"""An image on its way through the pipeline, whether a request or a batch wants it classified."""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, TypeAlias

from cloud.prediction import Failure
from cloud.request_queue import Message
from worker import metrics
from worker.held import HeldImages
from worker.labels import LABELS, Top
from worker.pixels import Pixels

Outcome: TypeAlias = Top | Failure
"""The labels of an image, or why it has none."""


class Fate(Enum):
    """What becomes of a message, or of an image of a slice."""

    DELETED = "deleted"
    """Its image has a prediction, or can never have one."""
    GIVEN_BACK = "given back"
    """This worker ends, and another one should receive the message at once."""
    POSTPONED = "postponed"
    """AWS failed, and the image is not to blame. It should be tried again in a while."""
    LEFT = "left"
    """Its image was tried in vain. Another worker receives the message after the visibility timeout."""


class Draining(Exception):
    """The worker has been told to stop, so no further step is begun."""


class RequestDeleted(Exception):
    """No image of the request is stored any more, so nobody waits for a prediction."""


@dataclass(eq=False)
class Work(ABC):
    """An image on its way to its outcome. Exactly one of `answer` and `abandon` ends it."""

    rank: ClassVar[int] = 0
    """Images with a lower rank are decoded and classified first."""
    finished_when_draining: ClassVar[bool] = False
    """Whether it is worth finishing, once it is fetched, when the worker has been told to stop."""

    message: Message
    """The message that stands for the image, among others perhaps."""
    name: str
    """What the image is called in the log."""
    held: HeldImages
    """Counts it."""
    labels: int = field(default=LABELS, kw_only=True)
    """How many labels are wanted."""
    data: bytes = field(default=b"", init=False)
    """The file, until it is decoded."""
    budgeted: int = field(default=0, init=False)
    """The bytes that the file takes of a budget."""
    pixels: Pixels | None = field(default=None, init=False)
    """The image as the network takes it, once it is decoded."""
    timings: dict[str, float] = field(default_factory=dict, init=False)
    """Seconds by step: `fetch`, `decode` and `classify`. The last one is the time of the whole batch."""

    def make_room(self) -> None:
        """Waits until the file may be fetched. This is called before each fetch, and belongs to no step."""
        return

    @abstractmethod
    def fetch(self) -> Failure | None:
        """Reads the file. If it cannot be classified, returns why. Raises CloudError when AWS fails."""

    @abstractmethod
    def forget_file(self) -> None:
        """Makes room for other files. This must be called after each fetch, even a failed one."""

    @abstractmethod
    def answer(self, outcome: Outcome) -> None:
        """Takes the outcome. This does not wait for AWS."""

    @abstractmethod
    def abandon(self, fate: Fate) -> None:
        """Must be called when there will be no outcome here. This does not wait for AWS."""

    def note(self, step: str, started: float) -> None:
        """Notes how long a step has lasted. `started` is a time of time.perf_counter."""
        self.timings[step] = time.perf_counter() - started
        metrics.STEP_SECONDS.labels(step).observe(self.timings[step])
