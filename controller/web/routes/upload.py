"""Serves the upload form, and accepts the POST or PUT that uploads images."""

from collections.abc import Sequence
from contextlib import suppress

from flask import Blueprint, Response, render_template, request
from werkzeug.http import unquote_header_value

from controller.image_requests.errors import RequestForgotten
from controller.image_requests.idempotency import Claim, ClaimLost, in_use, object_name
from controller.image_requests.results import RequestResult
from controller.image_requests.upload import Upload
from controller.web.client_name import client_name
from controller.web.negotiation import Preferences, preferences, wanted_form
from controller.web.rate_limits import OverQuota, TooManyImages
from controller.web.reading import looking_at
from controller.web.replies import render
from controller.web.sent_files import sent_files
from controller.web.services import services
from controller.web.uploads import read_files

upload = Blueprint("upload", __name__)

AT_ONCE = Preferences(respond_async=True, wait=None)


@upload.get("/")
def show_form() -> str:
    return render_template("index.html")


@upload.post("/")
def classify() -> Response:
    return classify_files()


@upload.put("/")
def classify_body() -> Response:
    return classify_files()


@upload.put("/<filename:filename>", provide_automatic_options=False)
def classify_file(filename: str) -> Response:
    """Classifies the body as a file of this name. `curl -T cat.jpg` appends the name to the URL."""
    return classify_files(filename)


def classify_files(filename: str = "") -> Response:
    settings, request_id = services().settings, services().request_ids.new()
    key = request.headers.get("Idempotency-Key")
    key_object = object_name(unquote_header_value(key), client_name()) if key is not None else None
    wanted = preferences(request, settings.request_timeout)
    seconds = wanted.patience(otherwise=settings.request_timeout + 5)
    form = wanted_form(request)
    uploads = read_files(request_id, sent_files(request, filename), settings.max_files)
    if key_object:
        answer = submit_once(key_object, request_id, uploads, seconds)
    else:
        answer = submit(request_id, uploads, seconds)
    return render(answer, form, 202 if wanted == AT_ONCE or not answer.complete else 200, wanted)


def submit(
    request_id: str, uploads: Sequence[Upload], seconds: float, claim: Claim | None = None
) -> RequestResult:
    """Submits the uploads and returns their result, complete or as it is after `seconds`.

    Raises OverQuota or TooManyImages when the client's quota is too small, ClaimLost when another POST with
    the same Idempotency-Key was faster, and CloudError when AWS fails.
    """
    try:
        with services().quota.charge(client_name(), len(uploads)):
            watched = services().submissions.submit(request_id, uploads, claim)
    except (OverQuota, TooManyImages):
        if claim:
            claim.release()
        raise
    with services().wait_limits.of_request() as may_wait:
        watched.finished.wait(seconds if may_wait else 0)
    return watched.result()


def submit_once(key_object: str, request_id: str, uploads: Sequence[Upload], seconds: float) -> RequestResult:
    """Does what `submit` does, but does not submit again what was posted with this key before.

    Raises IdempotencyKeyReused when the key belongs to other files, and IdempotencyKeyInUse while another
    POST with the key is in progress.
    """
    keys = services().idempotency_keys
    while not isinstance(claim := keys.claim(key_object, request_id, uploads), str):
        with suppress(ClaimLost):
            return submit(claim.request_id, [u.of(claim.request_id) for u in uploads], seconds, claim)
    return replay(key_object, claim, seconds)


def replay(key_object: str, request_id: str, seconds: float) -> RequestResult:
    """Returns the result of a request that was posted before, complete or as it is after `seconds`.

    Raises RequestForgotten when the request has expired, and IdempotencyKeyInUse if it is not accepted yet.
    """
    with services().wait_limits.of_request() as may_wait:
        services().follower.wait(request_id, seconds if may_wait else 0, looking_at)
    with looking_at(request_id):
        answer = services().polling.read(request_id)
    if answer is None:
        raise RequestForgotten("The request of this Idempotency-Key is no longer kept. Use a new key.")
    if not answer.complete and not services().idempotency_keys.accepted(key_object):
        raise in_use()
    return answer


@upload.after_request
def say_what_is_left(response: Response) -> Response:
    if request.method in ("POST", "PUT") and response.status_code != 401:
        response.headers.update(services().quota.headers(client_name()))
    return response
