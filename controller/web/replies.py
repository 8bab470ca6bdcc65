"""Builds answers and refusals in the form that the client wants."""

import logging
from typing import Any

from flask import Response, current_app, render_template, request
from pydantic import BaseModel
from werkzeug.exceptions import HTTPException

from cloud.prediction import Status
from controller.image_requests.results import RequestResult
from controller.web.answers import RequestAnswer, as_csv, as_text
from controller.web.negotiation import NO_PREFERENCES, Form, Preferences, wanted_form
from controller.web.services import services

log = logging.getLogger(__name__)


class Reason(BaseModel):
    """Why a request was refused: a code for programs, and a sentence for people."""

    code: str
    message: str


class Refusal(BaseModel):
    """The body of a response that refuses a request."""

    error: Reason


def render(result: RequestResult, form: Form, status: int, wanted: Preferences = NO_PREFERENCES) -> Response:
    """Returns the HTTP response for `result`. An incomplete page or JSON says why the request waits."""
    answer = RequestAnswer(request_id=result.request_id, images=result.images)
    if not answer.complete and form in (Form.HTML, Form.JSON):
        answer.wait = services().forecast.wait(answer.counts[Status.WAITING])
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
    response.headers["X-Request-ID"] = answer.request_id  # the access log records this header
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
        return as_json(Refusal(error=Reason(code=code, message=message)).model_dump(), status)
    return Response(f"{message}\n", status, mimetype="text/plain")


def wanted_form_of_refusal() -> Form:
    try:
        return wanted_form(request)
    except HTTPException:  # the part of the request that names the form is invalid
        return Form.JSON
