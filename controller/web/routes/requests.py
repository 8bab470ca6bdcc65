"""Shows, cancels, retries and deletes a request, and serves its images."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from cloud.errors import NotFound as NoSuchObject
from cloud.image_id import ImageId
from controller.image_requests.results import RequestResult
from controller.web.answers import address_of
from controller.web.client_name import client_name
from controller.web.negotiation import Form, preferences, wanted_form
from controller.web.reading import looking_at, reading
from controller.web.replies import render, see_other
from controller.web.services import services

requests = Blueprint("requests", __name__, url_prefix="/requests")

ONLY_A_PICTURE = {
    "Cache-Control": "private, max-age=86400, immutable",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Headers that keep browsers from executing strangers' bytes as a page or script."""


@requests.get("/<request_id>")
def show_request(request_id: str) -> Response:
    wanted = replace(preferences(request, services().settings.request_timeout), respond_async=False)
    if not services().request_ids.genuine(request_id):
        raise NotFound(f"There is no request {request_id!r}.")
    if wanted.wait:
        with services().wait_limits.of_request() as may_wait:
            services().follower.wait(request_id, wanted.wait if may_wait else 0, looking_at)
    with looking_at(request_id):
        if (found := services().polling.read(request_id)) is None:
            raise NotFound(f"There is no request {request_id!r}.")
        return render(found, wanted_form(request), 200, wanted)


@requests.delete("/<request_id>")
def delete_request(request_id: str) -> Response:
    """Deletes the request with its pictures and answers, if it is stored. A guessed id is NotFound."""
    if not services().request_ids.genuine(request_id):
        raise NotFound(f"There is no request {request_id!r}.")
    with reading():
        services().deletion.delete(request_id)
    return Response(status=204)


@requests.post("/<request_id>/cancel")
def cancel_request(request_id: str) -> Response:
    return act(request_id, services().cancel_retry.cancel)


@requests.post("/<request_id>/retry")
def retry_request(request_id: str) -> Response:
    charge = partial(services().quota.charge, client_name())
    return act(request_id, partial(services().cancel_retry.retry, charge=charge))


def act(request_id: str, action: Callable[[str], RequestResult | None]) -> Response:
    """Applies `action` to the request and returns the new answer. A browser is redirected to its page.

    Raises NotFound when the request is unknown.
    """
    form = wanted_form(request)  # an invalid form is refused before the action
    if not services().request_ids.genuine(request_id):
        raise NotFound(f"There is no request {request_id!r}.")
    with reading():
        if (found := action(request_id)) is None:
            raise NotFound(f"There is no request {request_id!r}.")
        if form is Form.HTML:
            return see_other(address_of(found.request_id))
        return render(found, form, 200 if found.complete else 202)


@requests.get("/<request_id>/images/<path:name>")
def show_image(request_id: str, name: str) -> Response:
    """Returns an image as it was uploaded. Raises NotFound when there is no such image."""
    try:
        chunks, content_type = services().inputs.open_image(image_id_of(request_id, name))
    except NoSuchObject:
        raise NotFound(f"Request {request_id} has no image {name!r}.") from None
    return Response(chunks, content_type=content_type, headers=ONLY_A_PICTURE)


@requests.get("/<request_id>/previews/<path:name>")
def show_preview(request_id: str, name: str) -> Response:
    """Returns the JPEG that a worker has made of an image. Raises NotFound when there is none."""
    if (preview := services().outputs.get_preview(image_id_of(request_id, name))) is None:
        raise NotFound(
            f"Request {request_id} has no preview of {name!r}, or it was deleted with the earlier picture."
        )
    return Response(preview, content_type="image/jpeg", headers=ONLY_A_PICTURE)


def image_id_of(request_id: str, name: str) -> ImageId:
    """Raises NotFound when the request-id is a guess, or the name is that of no image."""
    if not services().request_ids.genuine(request_id):
        raise NotFound(f"There is no request {request_id!r}.")
    try:
        return ImageId(f"{request_id}/{name}")
    except ValueError:
        raise NotFound(f"Request {request_id} has no image {name!r}.") from None
