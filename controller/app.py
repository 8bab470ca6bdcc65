"""Routes, content negotiation and errors."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify, render_template, request
from werkzeug.exceptions import HTTPException, NotFound, RequestEntityTooLarge

from cloud.errors import CloudError
from cloud.errors import NotFound as NoSuchObject
from cloud.image_id import is_request_id, new_request_id
from controller.answers import RequestAnswer, as_text
from controller.intake import BadUpload, read_form
from controller.negotiation import Form, wanted_form, wants_async
from controller.services import Services

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

routes = Blueprint("routes", __name__)


def create_app(services: Services) -> Flask:
    app = Flask(__name__)
    settings = services.settings
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_mb * 1_000_000
    app.config["MAX_FORM_PARTS"] = settings.max_files + 100  # intake refuses them with a better sentence
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["services"] = services
    app.register_blueprint(routes)
    app.after_request(secure)
    app.register_error_handler(HTTPException, refuse_http)
    app.register_error_handler(BadUpload, refuse_upload)
    app.register_error_handler(CloudError, refuse_unavailable)
    return app


def services() -> Services:
    found: Services = current_app.extensions["services"]
    return found


@routes.get("/")
def show_form() -> str:
    return render_template("index.html", settings=services().settings)


@routes.post("/")
def classify() -> Response:
    request_id = new_request_id()
    form = wanted_form(request)
    files = [file for _, file in request.files.items(multi=True)]
    uploads = read_form(request_id, files, services().settings.max_files)
    watched = services().submissions.submit(request_id, uploads)
    if wants_async(request):
        response = render(watched.answer(), form, 202)
        response.headers["Preference-Applied"] = "respond-async"
        return response
    watched.finished.wait(services().settings.request_timeout + 5)
    return render(watched.answer(), form, 202 if watched.unanswered else 200)


@routes.get("/requests/<request_id>")
def show_request(request_id: str) -> Response:
    found = services().submissions.read(request_id) if is_request_id(request_id) else None
    if found is None:
        raise NotFound(f"There is no request {request_id!r}.")
    return render(found, wanted_form(request), 200)


@routes.get("/requests/<request_id>/images/<path:name>")
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


@routes.get("/fleet")
def show_fleet() -> Response:
    return as_json(services().fleet_view.read().model_dump(mode="json"), 200)


@routes.get("/healthz")
def healthz() -> Response:
    return jsonify(status="alive")


@routes.get("/readyz")
def readyz() -> tuple[Response, int]:
    """503 naming what cannot be reached."""
    with ThreadPoolExecutor(3) as pool:
        problems = dict(pool.map(probe, services().dependencies.items()))
    failed = {name: problem for name, problem in problems.items() if problem}
    return jsonify(status="unavailable" if failed else "ready", problems=failed), 503 if failed else 200


def probe(dependency: tuple[str, Any]) -> tuple[str, str]:
    name, it = dependency
    try:
        it.check()
    except CloudError as error:
        return name, str(error)
    return name, ""


def render(answer: RequestAnswer, form: Form, status: int) -> Response:
    if form is Form.HTML:
        response = Response(render_template("request.html", answer=answer), status, mimetype="text/html")
    elif form is Form.JSON:
        response = as_json(answer.model_dump(mode="json"), status)
    else:
        text = as_text(answer, with_stem=form is Form.STEM_LINES)
        response = Response(text, status, mimetype="text/plain")
    if status == 202:
        response.headers["Location"] = answer.url
    response.headers["Vary"] = "Accept"
    response.headers["X-Request-ID"] = answer.request_id  # for the access logs, too
    return response


def secure(response: Response) -> Response:
    """A request's address is the key to it: it stays out of caches and of other sites' logs."""
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def as_json(data: Any, status: int) -> Response:
    return Response(current_app.json.dumps(data) + "\n", status, mimetype="application/json")


def refuse(status: int, code: str, message: str) -> Response:
    form = wanted_form_of_refusal()
    if form is Form.HTML:
        page = render_template("error.html", status=status, code=code, message=message)
        return Response(page, status, mimetype="text/html")
    if form is Form.JSON:
        return as_json({"error": {"code": code, "message": message}}, status)
    return Response(f"{message}\n", status, mimetype="text/plain")


def wanted_form_of_refusal() -> Form:
    try:
        return wanted_form(request)
    except HTTPException:  # the form itself was what could not be read
        return Form.JSON


def refuse_http(error: HTTPException) -> Response:
    message = error.description or error.name
    if isinstance(error, RequestEntityTooLarge):
        settings = services().settings
        message = (
            f"The upload is too large: at most {settings.max_upload_mb} MB"
            f" and {settings.max_files} files in one request."
        )
    response = refuse(error.code or 500, error.name.lower().replace(" ", "_"), message)
    for name, value in error.get_headers(request.environ):
        if name.lower() == "allow":
            response.headers[name] = value
    return response


def refuse_upload(error: BadUpload) -> Response:
    return refuse(error.status, error.code, error.message)


def refuse_unavailable(error: CloudError) -> Response:
    log.error("%s", error)
    return refuse(503, "unavailable", f"The service cannot do this right now: {error}. Please try again.")
