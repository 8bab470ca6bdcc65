"""Extends the visibility timeout of messages while the worker holds them."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread

from cloud.errors import CloudError
from cloud.request_queue import Message, RequestQueue

log = logging.getLogger(__name__)


@dataclass
class Beat:
    """What the heartbeat knows about a message. Both times are those of the monotonic clock, in seconds."""

    extended: float
    """When the visibility timeout last began."""
    working_since: float | None = None
    """When the current step of the work on it began, or None while it waits for its next step."""


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
        self._lock = Lock()

    def start(self, stop: Event) -> None:
        """Starts the thread, which runs until `stop` is set."""
        Thread(target=self._run, args=[stop], name="heartbeat", daemon=True).start()

    def hold(self, messages: Sequence[Message]) -> None:
        """Extends these messages, too, from now on."""
        with self._lock:
            self._beats |= {message: Beat(extended=time.monotonic()) for message in messages}

    def drop(self, messages: Sequence[Message]) -> None:
        """No longer extends these messages."""
        with self._lock:
            for message in messages:
                self._beats.pop(message, None)

    @contextmanager
    def working(self, messages: Sequence[Message]) -> Iterator[None]:
        """Must enclose each step of the work on these messages."""
        started = time.monotonic()
        with self._lock:
            beats = [self._beats[message] for message in messages if message in self._beats]
            for beat in beats:
                beat.working_since = started
        try:
            yield
        finally:
            with self._lock:
                for beat in beats:
                    if beat.working_since == started:  # another thread may have begun the next step already
                        beat.working_since = None

    def _run(self, stop: Event) -> None:
        while not stop.wait(self.visibility_timeout / 6):
            self.on_beat()
            now = time.monotonic()
            with self._lock:
                longest = max((self._working(beat, now) for beat in self._beats.values()), default=0)
                due = [message for message, beat in self._beats.items() if self._is_due(beat, now)]
            if longest > 2 * self.visibility_timeout:
                log.critical("a step has lasted %.0f s: this worker hangs and ends itself", longest)
                self.on_hang()
            elif due:
                self._extend(due, now)

    def _working(self, beat: Beat, now: float) -> float:
        """Returns how many seconds the current step of the work has lasted."""
        return 0 if beat.working_since is None else now - beat.working_since

    def _is_due(self, beat: Beat, now: float) -> bool:
        waited = now - beat.extended
        return waited >= self.visibility_timeout / 3 and self._working(beat, now) < self.visibility_timeout

    def _extend(self, messages: list[Message], now: float) -> None:
        """Extends the messages. When this fails, they are due again at the next look."""
        try:
            self.queue.extend(messages, round(self.visibility_timeout))
        except CloudError as error:
            log.warning("%s", error)
            return
        with self._lock:
            for message in messages:
                if message in self._beats:
                    self._beats[message].extended = now
