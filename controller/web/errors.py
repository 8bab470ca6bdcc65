"""Maps the errors of the other packages to HTTP statuses, and builds the refusals that clients receive."""

import errno
import logging

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from cloud.errors import CloudError
from controller.batches.errors import BadBatch, BatchesOff, SourceNotAllowed, TooManyBatches
from controller.image_requests import errors
from controller.web.negotiation import accepted_form
from controller.web.rate_limits import OverQuota, TooManyImages
from controller.web.replies import refuse
from controller.web.services import services

log = logging.getLogger(__name__)

STATUSES: dict[type[errors.RequestRefused], int] = {
    errors.BadIdempotencyKey: 400,
    errors.IdempotencyKeyInUse: 409,
    errors.IdempotencyKeyReused: 422,
    errors.InvalidState: 409,
    errors.NoFile: 400,
    errors.RequestForgotten: 410,
    errors.TooManyFiles: 413,
    BadBatch: 400,
    BatchesOff: 404,
    SourceNotAllowed: 403,
    TooManyBatches: 429,
    OverQuota: 429,
    TooManyImages: 413,
}
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
FULL_DISK_SECONDS = 60  # the Retry-After of what the disk has no room for


def register_error_handlers(app: Flask) -> None:
    app.register_error_handler(HTTPException, refuse_http)
    app.register_error_handler(errors.RequestRefused, refuse_request)
    app.register_error_handler(CloudError, refuse_unavailable)
    app.register_error_handler(OSError, refuse_full_disk)


def refuse_request(error: errors.RequestRefused) -> Response:
    response = refuse(STATUSES[type(error)], error.code, error.message)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def refuse_unavailable(error: CloudError) -> Response:
    log.error("%s", error)
    return refuse(
        503, "unavailable", f"The service cannot do this right now: {error.public}. Please try again."
    )


def refuse_full_disk(error: OSError) -> Response:
    """Refuses an upload for which the disk has no room. Any other error of the system is a bug."""
    if error.errno not in DISK_FULL:
        raise error
    log.error("%s", error)
    message = "There is no room on the disk of this service at the moment. Please try again in a minute."
    response = refuse(507, "insufficient_storage", message, accepted_form(request))
    response.headers["Retry-After"] = str(FULL_DISK_SECONDS)
    return response


def without_slash() -> str:
    """Returns ", but at" the address without the slash at its end if there is something, else ""."""
    path = request.path.removesuffix("/")
    if path in ("", request.path) or not current_app.url_map.bind("").test(path, request.method):
        return ""
    return f", but at {path}"


def refuse_http(error: HTTPException) -> Response:
    message = error.description or error.name
    if isinstance(error, MethodNotAllowed) and error.valid_methods == ["PUT"]:
        error = NotFound()  # a file may be put here, but there is nothing yet
        message = error.description or error.name
    if isinstance(error, NotFound) and message == NotFound.description:
        message = f"There is nothing at {request.path}{without_slash()}."
    elif isinstance(error, MethodNotAllowed):
        known = ", ".join(sorted(error.valid_methods or []))
        message = f"{request.path} does not take {request.method}, only {known}."
    elif isinstance(error, RequestEntityTooLarge):
        settings = services().settings
        message = (
            f"The upload is too large: at most {settings.max_upload_mb} MB"
            f" and {settings.max_files} files in one request."
        )
    response = refuse(error.code or 500, error.name.lower().replace(" ", "_"), message)
    for name, value in error.get_headers(request.environ):
        if name.lower() in ("allow", "retry-after"):
            response.headers[name] = value
    return response
