"""Sends how far a batch is as server-sent events."""

import time
from collections.abc import Callable, Iterator
from time import monotonic

from controller.batches.answer import BatchAnswer
from controller.web.server_sent_events import (
    KEEP_ALIVE_SECONDS,
    LONGEST_SECONDS,
    RECONNECT_MILLISECONDS,
    STATE_SECONDS,
)


def batch_events(
    answer: Callable[[], BatchAnswer | None],
    process_stays: Callable[[], bool],
    clock: Callable[[], float] = monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Yields `progress` at the start and at each change, and at last `complete`, both with the answer.

    The stream ends after `complete`, after LONGEST_SECONDS, or when the process should exit. Unless the batch
    is complete, the client is expected to reconnect.
    """
    yield f"retry: {RECONNECT_MILLISECONDS}\n\n"
    sent, spoke, began = "", clock(), clock()
    while process_stays() and clock() - began < LONGEST_SECONDS:
        if (found := answer()) is None:
            return
        data = found.model_dump_json()
        if found.complete:
            yield f"event: complete\ndata: {data}\n\n"
            return
        if data != sent or clock() - spoke >= KEEP_ALIVE_SECONDS:
            sent, spoke = data, clock()
            yield f"event: progress\ndata: {data}\n\n"
        sleep(STATE_SECONDS)
