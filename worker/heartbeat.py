"""Extends the visibility timeout of messages while the worker processes them."""

import logging
import time
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread

from cloud.errors import CloudError
from cloud.request_queue import Message, RequestQueue

log = logging.getLogger(__name__)


class Heartbeat:
    """Keeps the messages that the consumer holds in flight, as long as the consumer makes progress.

    Their visibility timeout is extended three times per timeout, in a thread of its own. If the consumer has
    made no progress for one visibility timeout, it is presumed to hang: the messages are no longer extended,
    so that another worker receives them. After two visibility timeouts without progress, `on_hang` is called,
    which should end the process.
    """

    def __init__(self, queue: RequestQueue, visibility_timeout: float, on_hang: Callable[[], None]) -> None:
        self.queue, self.visibility_timeout, self.on_hang = queue, visibility_timeout, on_hang
        self._messages: list[Message] = []
        self._last_step = time.monotonic()
        self._lock = Lock()

    def start(self, stop: Event) -> None:
        """Starts the thread, which runs until `stop` is set."""
        Thread(target=self._run, args=[stop], name="heartbeat", daemon=True).start()

    def hold(self, messages: Sequence[Message]) -> None:
        """Extends these messages from now on, in place of the previous ones. Counts as progress."""
        with self._lock:
            self._messages = list(messages)
            self._last_step = time.monotonic()

    def drop(self, messages: Sequence[Message]) -> None:
        """No longer extends these messages."""
        with self._lock:
            self._messages = [m for m in self._messages if m not in messages]

    def step(self) -> None:
        """Notes that the consumer has made progress."""
        self._last_step = time.monotonic()

    def _run(self, stop: Event) -> None:
        while not stop.wait(self.visibility_timeout / 3):
            with self._lock:
                messages, since_step = list(self._messages), time.monotonic() - self._last_step
            if not messages:
                continue
            if since_step > 2 * self.visibility_timeout:
                log.critical("no progress for %.0f s: this worker hangs and ends itself", since_step)
                self.on_hang()
            elif since_step < self.visibility_timeout:
                self._extend(messages)

    def _extend(self, messages: list[Message]) -> None:
        try:
            self.queue.extend(messages, round(self.visibility_timeout))
        except CloudError as error:
            log.warning("%s", error)
