"""Answers and refusals, in the form that the client wants."""

import logging
from typing import Any

from flask import Response, current_app, render_template, request
from pydantic import BaseModel
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from cloud.errors import CloudError
from cloud.prediction import Failure
from controller.answers import RequestAnswer, as_csv, as_text
from controller.intake import BadUpload
from controller.negotiation import NO_PREFERENCES, Form, Preferences, wanted_form
from controller.quota import OverQuota
from controller.services import Services

log = logging.getLogger(__name__)


class Refusal(BaseModel):
    """Why a request is not answered: a code for programs, a sentence for people."""

    error: Failure


def services() -> Services:
    found: Services = current_app.extensions["services"]
    return found


def render(answer: RequestAnswer, form: Form, status: int, wanted: Preferences = NO_PREFERENCES) -> Response:
    if not answer.complete and form in (Form.HTML, Form.JSON):
        wait = services().forecast.wait(answer.counts["waiting"])
        answer = answer.model_copy(update={"wait": wait})
    if form is Form.HTML:
        response = Response(render_template("request.html", answer=answer), status, mimetype="text/html")
    elif form is Form.JSON:
        response = as_json(answer.model_dump(mode="json"), status)
    elif form is Form.CSV:
        response = Response(as_csv(answer, for_excel="format" in request.args), status, mimetype="text/csv")
    else:
        text = as_text(answer, with_stem=form is Form.STEM_LINES)
        response = Response(text, status, mimetype="text/plain")
    if status == 202:
        response.headers["Location"] = answer.url
    if applied := wanted.applied(waits=not answer.complete):
        response.headers["Preference-Applied"] = applied
    response.headers["Vary"] = "Accept, Prefer"
    response.headers["X-Request-ID"] = answer.request_id  # for the access logs, too
    return response


def as_json(data: Any, status: int) -> Response:
    return Response(current_app.json.dumps(data) + "\n", status, mimetype="application/json")


def see_other(address: str) -> Response:
    return Response(status=303, headers={"Location": address})


def refuse(status: int, code: str, message: str, form: Form | None = None) -> Response:
    form = form or wanted_form_of_refusal()
    if form is Form.HTML:
        page = render_template("error.html", status=status, code=code, message=message)
        return Response(page, status, mimetype="text/html")
    if form is Form.JSON:
        return as_json(Refusal(error=Failure(code=code, message=message)).model_dump(), status)
    return Response(f"{message}\n", status, mimetype="text/plain")


def wanted_form_of_refusal() -> Form:
    try:
        return wanted_form(request)
    except HTTPException:  # the form itself was what could not be read
        return Form.JSON


def refuse_http(error: HTTPException) -> Response:
    message = error.description or error.name
    if isinstance(error, NotFound) and message == NotFound.description:
        message = f"There is nothing at {request.path}."
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


def refuse_upload(error: BadUpload) -> Response:
    response = refuse(error.status, error.code, error.message)
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def refuse_over_quota(error: OverQuota) -> Response:
    """413 when so many are never possible at once; else 429, and when to try again."""
    if error.retry_after is None:
        return refuse(413, "too_many_images", error.message)
    response = refuse(429, "over_quota", error.message)
    response.headers["Retry-After"] = str(error.retry_after)
    return response


def refuse_unavailable(error: CloudError) -> Response:
    log.error("%s", error)
    return refuse(503, "unavailable", f"The service cannot do this right now: {error}. Please try again.")
