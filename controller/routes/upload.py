"""The first page, and the POST that brings the images."""

from flask import Blueprint, Response, render_template, request

from cloud.image_id import new_request_id
from controller.client import client_name
from controller.intake import read_form
from controller.negotiation import wanted_form, wants_async
from controller.replies import render, services

upload = Blueprint("upload", __name__)


@upload.get("/")
def show_form() -> str:
    return render_template("index.html", settings=services().settings)


@upload.post("/")
def classify() -> Response:
    request_id = new_request_id()
    form = wanted_form(request)
    files = [file for _, file in request.files.items(multi=True)]
    uploads = read_form(request_id, files, services().settings.max_files)
    with services().quota.charge(client_name(), len(uploads)):
        watched = services().submissions.submit(request_id, uploads)
    if wants_async(request):
        response = render(watched.answer(), form, 202)
        response.headers["Preference-Applied"] = "respond-async"
        return response
    with services().long_waits.of_request() as may_wait:
        if may_wait:
            watched.finished.wait(services().settings.request_timeout + 5)
    return render(watched.answer(), form, 202 if watched.unanswered else 200)


@upload.after_request
def say_what_is_left(response: Response) -> Response:
    if request.method == "POST" and response.status_code != 401:
        response.headers.update(services().quota.headers(client_name()))
    return response
