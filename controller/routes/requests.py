"""One request, under its own address."""

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from cloud.errors import NotFound as NoSuchObject
from cloud.image_id import is_request_id
from controller.negotiation import wanted_form
from controller.replies import render, services

requests = Blueprint("requests", __name__, url_prefix="/requests")


@requests.get("/<request_id>")
def show_request(request_id: str) -> Response:
    found = services().submissions.read(request_id) if is_request_id(request_id) else None
    if found is None:
        raise NotFound(f"There is no request {request_id!r}.")
    return render(found, wanted_form(request), 200)


@requests.get("/<request_id>/images/<path:name>")
def show_image(request_id: str, name: str) -> Response:
    """The picture as it was uploaded; never anything that a browser would run."""
    if not is_request_id(request_id):
        raise NotFound(f"There is no request {request_id!r}.")
    try:
        chunks, content_type = services().inputs.open_image(f"{request_id}/{name}")
    except NoSuchObject:
        raise NotFound(f"Request {request_id} has no image {name!r}.") from None
    headers = {
        "Cache-Control": "private, max-age=86400, immutable",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(chunks, content_type=content_type, headers=headers)
