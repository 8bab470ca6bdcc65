"""Asks for batches, shows, cancels and retries them, and serves their results and pictures."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from urllib.parse import quote

from flask import Blueprint, Response, g, request, url_for
from werkzeug.exceptions import NotAcceptable, NotFound

from cloud.batches.batch import Batch
from cloud.errors import CloudError
from cloud.errors import NotFound as NoSuchObject
from controller.batches.answer import BatchAnswer, address_of
from controller.batches.progress import Progress
from controller.batches.watch import WatchedBatch
from controller.image_requests.errors import RequestRefused
from controller.web.batch_events import batch_events
from controller.web.batch_orders import is_form, key_use, read_body
from controller.web.batch_pages import batch_page, list_page
from controller.web.batch_parquet import NoPyarrow, as_parquet
from controller.web.batch_tables import as_csv, as_json_lines
from controller.web.client_name import client_name
from controller.web.errors import STATUSES
from controller.web.metrics import OPEN_STREAMS
from controller.web.negotiation import BATCH, PAGE, Form, accepted_form, wanted_form
from controller.web.replies import as_json, see_other
from controller.web.services import services
from controller.web.wait_limits import granted

batches = Blueprint("batches", __name__, url_prefix="/batches")


@batches.post("")
def ask() -> Response:
    """Begins a batch. A browser is redirected to its page."""
    services().batches.need_sources()
    from_page = is_form() and accepted_form(request) is Form.HTML
    try:
        order, asked = read_body()
        batch = services().batches.ask(order, client(), key_use(order, asked))
    except RequestRefused as error:
        if not from_page:
            raise
        return list_page(client(), request.form, error.message, STATUSES[type(error)])
    if from_page:
        return see_other(address_of(batch.batch_id))
    return accepted(found(services().batches.answer(batch.batch_id), batch.batch_id))


@batches.get("")
def list_batches() -> Response:
    """Lists the newest batches of the client. The page has the form that asks for one, too."""
    if wanted_form(request, PAGE) is Form.HTML:
        response = list_page(client())
    else:
        of_client, still_open = services().batches.newest(client()), set(services().batches.store.open())
        shown = [summary_of(batch, batch.batch_id in still_open) for batch in of_client]
        response = as_json({"batches": shown}, 200)
    response.headers["Vary"] = "Accept"
    return response


@batches.get("/<batch_id>")
def show_batch(batch_id: str) -> Response:
    """Shows how far a batch is, or all of its rows so far."""
    form = wanted_form(request, BATCH)
    if form is Form.JSON:
        response = as_json(found(services().batches.answer(batch_id), batch_id).model_dump(mode="json"), 200)
    elif form is Form.HTML:
        response = batch_page(found(services().batches.answer(batch_id), batch_id))
    else:
        response = table(form, watched(batch_id).progress())
    response.headers["Vary"] = "Accept"
    return response


@batches.post("/<batch_id>/cancel")
def cancel_batch(batch_id: str) -> Response:
    return act(batch_id, services().batches.cancel)


@batches.post("/<batch_id>/retry")
def retry_batch(batch_id: str) -> Response:
    """Tries again what failed. To find that out, it reads as much as a table has, so it counts as one."""
    with room_for_table():
        return act(batch_id, services().batches.retry)


@batches.get("/<batch_id>/events")
def stream_batch(batch_id: str) -> Response:
    """Streams how far a batch is. Raises ServiceUnavailable when too many streams are open."""
    watched(batch_id)
    all_batches, stays = services().batches, services().event_streams.process_stays
    with ExitStack() as held:
        refusal = f"Too many streams are open. The same is at {address_of(batch_id)}, as JSON."
        held.enter_context(granted(services().wait_limits.of_stream(), refusal))
        held.enter_context(OPEN_STREAMS.track_inprogress())
        stream = batch_events(lambda: all_batches.answer(batch_id), stays)
        response = Response(stream, mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})
        response.call_on_close(held.pop_all().close)
    return response


@batches.get("/<batch_id>/images")
def show_batch_image(batch_id: str) -> Response:
    """Returns a picture of the batch as it lies in its bucket. `?key=` is its key.

    Raises NotFound when the batch has no such image, or when it is none by its first bytes. The headers keep
    browsers from executing it.
    """
    key = request.args.get("key", "")
    try:
        picture = services().batches.open_image(watched(batch_id).batch, key)
    except NoSuchObject:
        raise NotFound(f"The batch has no image {key!r}.") from None
    except CloudError as error:
        if error.code not in ("AccessDenied", "InvalidObjectState"):
            raise
        raise NotFound(f"The image {key!r} cannot be read: {error.public}.") from None
    headers = {
        "Cache-Control": "private, max-age=3600",
        "Content-Length": str(picture.size),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(picture.chunks, content_type=picture.content_type, headers=headers)


def client() -> str:
    """Returns the name of the client's token, or "" where no tokens are needed."""
    return g.get("client") or ""


def act(batch_id: str, action: Callable[[str], BatchAnswer | None]) -> Response:
    """Applies `action` to a batch and returns the new answer. A browser is redirected to the page."""
    answer = found(action(batch_id), batch_id)
    if accepted_form(request) is Form.HTML:
        return see_other(address_of(batch_id))
    return as_json(answer.model_dump(mode="json"), 200) if answer.complete else accepted(answer)


def accepted(answer: BatchAnswer) -> Response:
    response = as_json(answer.model_dump(mode="json"), 202)
    response.headers["Location"] = address_of(answer.batch_id)
    return response


def found(answer: BatchAnswer | None, batch_id: str) -> BatchAnswer:
    if answer is None:
        raise NotFound(f"There is no batch {batch_id!r}.")
    return answer


def watched(batch_id: str) -> WatchedBatch:
    if (one := services().batches.find(batch_id)) is None:
        raise NotFound(f"There is no batch {batch_id!r}.")
    return one


def table(form: Form, progress: Progress) -> Response:
    """Returns all rows of a batch so far, as a file. Raises ServiceUnavailable when others read too many."""
    outcomes, batch = services().batches.outcomes(progress), progress.batch
    body: Iterable[str] | Iterable[bytes]
    if form is Form.CSV:
        body, suffix = as_csv(outcomes, batch.top_k), "csv"
    elif form is Form.JSONL:
        body, suffix = as_json_lines(outcomes), "jsonl"
    else:
        try:
            body, suffix = as_parquet(outcomes), "parquet"
        except NoPyarrow as error:
            raise NotAcceptable(str(error)) from None
    with ExitStack() as held:
        held.enter_context(room_for_table())
        response = Response(body, mimetype=form.value)
        response.call_on_close(held.pop_all().close)  # also called when the client disconnects
    name = f"{batch.name or batch.batch_id}.{suffix}"
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return response


def room_for_table() -> AbstractContextManager[None]:
    """Must enclose what reads all rows of a batch.

    Raises ServiceUnavailable on entry when too many are read.
    """
    limit = services().wait_limits.of_table(client_name())
    return granted(limit, "Too many tables of batches are being read. Try again in a few seconds.")


def summary_of(batch: Batch, is_open: bool) -> dict[str, object]:
    return {
        "batch_id": batch.batch_id,
        "url": url_for("batches.show_batch", batch_id=batch.batch_id),
        "name": batch.name,
        "source": batch.source,
        "created_at": batch.created_at.isoformat().replace("+00:00", "Z"),
        "open": is_open,
    }
