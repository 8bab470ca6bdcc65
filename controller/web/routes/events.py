"""Streams the predictions of one request as server-sent events."""

from contextlib import ExitStack

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from controller.web.image_numbers import ImageNumbers
from controller.web.metrics import OPEN_STREAMS
from controller.web.reading import looking_at
from controller.web.services import services
from controller.web.wait_limits import granted

events = Blueprint("events", __name__, url_prefix="/requests")


@events.get("/<request_id>/events")
def stream_events(request_id: str) -> Response:
    """Streams the images that the client has not received yet, according to its `Last-Event-ID`.

    Raises NotFound when the request is unknown, and ServiceUnavailable when too many streams are open.
    """
    if not services().request_ids.genuine(request_id):
        raise NotFound(f"There is no request {request_id!r}.")
    with ExitStack() as held:
        refusal = f"Too many streams are open. The answers are also at /requests/{request_id}, as JSON."
        held.enter_context(granted(services().wait_limits.of_stream(), refusal))
        held.enter_context(OPEN_STREAMS.track_inprogress())
        sent = ImageNumbers(request.headers.get("Last-Event-ID", ""))
        with looking_at(request_id):
            followed = held.enter_context(ExitStack())
            watched = followed.enter_context(services().follower.follow(request_id))
            if watched is None:
                raise NotFound(f"There is no request {request_id!r}.")
            stream = services().event_streams.events(watched, sent)
            if watched.finished.is_set():  # its text takes less memory than it, while a slow client reads it
                stream = iter(list(stream))
                followed.close()
        headers = {"X-Accel-Buffering": "no", "X-Request-ID": request_id}
        response = Response(stream, mimetype="text/event-stream", headers=headers)
        response.call_on_close(held.pop_all().close)  # also called when the client disconnects
    return response
