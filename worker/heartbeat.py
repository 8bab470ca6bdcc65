import logging
import time
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread

from cloud.errors import CloudError
from cloud.request_queue import Message, RequestQueue

log = logging.getLogger(__name__)


class Heartbeat:
    """Keeps the messages in hand invisible to other workers while, and only while, work goes on.

    Every third of the visibility timeout they are extended, if the loop has made a step within one
    visibility timeout. A loop that has not is taken for hung: its messages go to another worker, and
    after a second visibility timeout `on_hang` is called, which should end the process.
    """

    def __init__(self, queue: RequestQueue, visibility_timeout: float, on_hang: Callable[[], None]) -> None:
        self.queue, self.visibility_timeout, self.on_hang = queue, visibility_timeout, on_hang
        self._messages: list[Message] = []
        self._last_step = time.monotonic()
        self._lock = Lock()

    def start(self, stop: Event) -> None:
        Thread(target=self._run, args=[stop], name="heartbeat", daemon=True).start()

    def hold(self, messages: Sequence[Message]) -> None:
        with self._lock:
            self._messages = list(messages)
            self._last_step = time.monotonic()

    def drop(self, messages: Sequence[Message]) -> None:
        with self._lock:
            self._messages = [m for m in self._messages if m not in messages]

    def step(self) -> None:
        """The loop says that it has made progress."""
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
