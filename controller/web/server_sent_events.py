"""Sends the predictions of a request as server-sent events, as soon as they are known.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
from collections.abc import Callable, Iterator
from time import monotonic

from cloud.prediction import Status
from controller.dashboard.forecast import Forecast
from controller.image_requests.results import ImageResult, count
from controller.image_requests.watched_request import WatchedRequest
from controller.web.image_numbers import ImageNumbers

STATE_SECONDS = 1.0  # the longest time between checks of the fleet's state and of `process_stays`
KEEP_ALIVE_SECONDS = 15.0  # after so long without an event the state is sent again, to detect a lost client
LONGEST_SECONDS = 600.0  # then the stream ends, and the client reconnects by itself
RECONNECT_MILLISECONDS = 1000  # how long clients wait before they reconnect


class EventStreams:
    def __init__(self, forecast: Forecast, clock: Callable[[], float] = monotonic) -> None:
        self.forecast, self.clock = forecast, clock
        self.process_stays: Callable[[], bool] = lambda: True
        """Set by the web server. Returns False once the process should exit, so that no stream delays it."""

    def events(self, watched: WatchedRequest, given: ImageNumbers) -> Iterator[str]:
        """Yields the events for a client that has already received the images in `given`.

        The stream ends when every image has a prediction, when the request is no longer followed, after
        LONGEST_SECONDS, or when the process should exit. Unless the request is complete, the client is
        expected to reconnect.
        """
        shown, sent = {}, ImageNumbers()
        for image in watched.images():
            if image.status is not Status.WAITING and image.image_id.number in given:
                shown[image.image_id] = image
                sent.add(image.image_id.number)
        state: dict[str, object] = {}
        began = spoke = self.clock()
        yield f"retry: {RECONNECT_MILLISECONDS}\n\n"
        while self.process_stays() and self.clock() - began < LONGEST_SECONDS:
            # Read this before the predictions: it is set only after the last ones have been added.
            nobody_follows = watched.finished.is_set()
            known = watched.predictions
            images = watched.images()
            new = [i for i in images if i.status is not Status.WAITING and shown.get(i.image_id) is not i]
            before, state = state, self._state(images)
            if state != before and not state["complete"]:
                yield event("state", json.dumps(state, ensure_ascii=False), sent)
            for image in new:
                shown[image.image_id] = image
                sent.add(image.image_id.number)
                yield event("image", image.model_dump_json(), sent)
            if state["complete"]:
                yield event("state", json.dumps(state, ensure_ascii=False), sent)
                return
            if nobody_follows:
                return
            if new or state != before:
                spoke = self.clock()
            elif self.clock() - spoke >= KEEP_ALIVE_SECONDS:
                spoke = self.clock()
                yield event("state", json.dumps(state, ensure_ascii=False), sent)
            watched.wait_for_change(known, STATE_SECONDS)

    def _state(self, images: list[ImageResult]) -> dict[str, object]:
        counts = count(images)
        if not counts[Status.WAITING]:
            message = "All images are answered."
            return {
                "state": "done",
                "message": message,
                "estimate_seconds": None,
                "counts": counts,
                "complete": True,
            }
        wait = self.forecast.wait(counts[Status.WAITING]).model_dump()
        return {**wait, "counts": counts, "complete": False}


def event(name: str, data: str, sent: ImageNumbers) -> str:
    return f"event: {name}\nid: {sent}\ndata: {data}\n\n"
