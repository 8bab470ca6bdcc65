"""Extends the visibility timeout of messages while the worker holds them."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread

from cloud.clients import READ_TIMEOUT
from cloud.errors import CloudError
from cloud.request_queue import Message, RequestQueue

SHORTEST_READ_TIMEOUT = 3  # seconds, of which a long poll takes one

log = logging.getLogger(__name__)


def read_timeout(visibility_timeout: float) -> float:
    """Returns the seconds after which a call of AWS that is not answered is tried again.

    When that happens to an extension, the next try is still in time.
    """
    return min(READ_TIMEOUT, max(SHORTEST_READ_TIMEOUT, visibility_timeout / 6))


@dataclass
class Beat:
    """What the heartbeat knows about a message that it holds."""

    queue: RequestQueue
    extended: float
    """When the visibility timeout last began, in seconds of the monotonic clock."""


@dataclass(eq=False)
class Step:
    """A step of the work on some messages that goes on. Several may go on at once for one message."""

    messages: Sequence[Message]
    started: float
    """In seconds of the monotonic clock. Infinite while the step waits for other images."""


class Heartbeat:
    """Keeps the messages that the consumer holds in flight, as long as the work on them goes on.

    A message is extended when a third to a half of its visibility timeout has passed, in a thread of its own.
    If a step of the work on it lasts longer than the visibility timeout, that work is presumed to hang: the
    message is no longer extended, so that another worker receives it. After two visibility timeouts,
    `on_hang` is called, which should end the process. `on_beat` is called at least every sixth of a
    visibility timeout, unless the thread itself cannot run.
    """

    def __init__(
        self,
        queue: RequestQueue,
        visibility_timeout: float,
        on_hang: Callable[[], None],
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.queue, self.visibility_timeout = queue, visibility_timeout
        self.on_hang, self.on_beat = on_hang, on_beat
        self._beats: dict[Message, Beat] = {}
        self._steps: set[Step] = set()
        self._lock = Lock()

    def start(self, stop: Event) -> None:
        """Starts the thread, which runs until `stop` is set."""
        Thread(target=self._run, args=[stop], name="heartbeat", daemon=True).start()

    def hold(self, messages: Sequence[Message], queue: RequestQueue | None = None) -> None:
        """Extends these messages, too, from now on. They are of `queue`, if not of the usual one."""
        now = time.monotonic()
        with self._lock:
            self._beats |= {message: Beat(queue or self.queue, extended=now) for message in messages}

    def drop(self, messages: Sequence[Message]) -> None:
        """No longer extends these messages."""
        with self._lock:
            for message in messages:
                self._beats.pop(message, None)

    @contextmanager
    def working(self, messages: Sequence[Message]) -> Iterator[None]:
        """Must enclose each step of the work on these messages."""
        step = Step(messages, started=time.monotonic())
        with self._lock:
            self._steps.add(step)
        try:
            yield
        finally:
            with self._lock:
                self._steps.remove(step)

    @contextmanager
    def waiting(self, message: Message) -> Iterator[None]:
        """Must enclose a wait for other images in the step of a message. The step begins anew afterwards.

        Otherwise, it would seem to hang while those that it waits for are worked on.
        """
        with self._lock:
            steps = [step for step in self._steps if message in step.messages]
            for step in steps:
                step.started = math.inf
        try:
            yield
        finally:
            for step in steps:
                step.started = time.monotonic()

    def _run(self, stop: Event) -> None:
        while not stop.wait(self.visibility_timeout / 6):
            self.on_beat()
            now = time.monotonic()
            with self._lock:
                longest = max((now - step.started for step in self._steps), default=0)
                due = self._due(now)
            if longest > 2 * self.visibility_timeout:
                log.critical("a step has lasted %.0f s: this worker hangs and ends itself", longest)
                self.on_hang()
            for queue, messages in due.items():
                self._extend(queue, messages, now)

    def _due(self, now: float) -> dict[RequestQueue, list[Message]]:
        """Returns the messages that must be extended now, by queue."""
        hanging = {
            message
            for step in self._steps
            if now - step.started >= self.visibility_timeout
            for message in step.messages
        }
        due: dict[RequestQueue, list[Message]] = {}
        for message, beat in self._beats.items():
            if now - beat.extended >= self.visibility_timeout / 3 and message not in hanging:
                due.setdefault(beat.queue, []).append(message)
        return due

    def _extend(self, queue: RequestQueue, messages: list[Message], now: float) -> None:
        """Extends the messages. When this fails, they are due again at the next look."""
        try:
            queue.extend(messages, round(self.visibility_timeout))
        except CloudError as error:
            log.warning("%s", error)
            return
        with self._lock:
            for message in messages:
                if message in self._beats:
                    self._beats[message].extended = now
