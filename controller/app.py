"""The Flask app: routes, limits, headers and errors, put together."""

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from cloud.errors import CloudError
from controller import replies
from controller.cross_site import refuse_cross_site
from controller.guard import guard
from controller.intake import BadUpload
from controller.metrics import end_request, start_request
from controller.quota import OverQuota
from controller.routes.api import api
from controller.routes.events import events
from controller.routes.fleet import fleet
from controller.routes.health import health
from controller.routes.metrics import metrics
from controller.routes.requests import requests
from controller.routes.sign_in import sign_in
from controller.routes.upload import upload
from controller.services import Services

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def create_app(services: Services) -> Flask:
    app = Flask(__name__)
    settings = services.settings
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_mb * 1_000_000
    app.config["MAX_FORM_PARTS"] = settings.max_files + 100  # intake refuses them with a better sentence
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["services"] = services
    for routes in (upload, requests, events, fleet, metrics, health, api):
        app.register_blueprint(routes)
    app.before_request(start_request)
    app.before_request(refuse_cross_site)
    if services.access.restricted:
        app.register_blueprint(sign_in)
        app.before_request(guard)
    app.after_request(end_request)
    app.after_request(secure)
    app.register_error_handler(HTTPException, replies.refuse_http)
    app.register_error_handler(BadUpload, replies.refuse_upload)
    app.register_error_handler(OverQuota, replies.refuse_over_quota)
    app.register_error_handler(CloudError, replies.refuse_unavailable)
    return app


def secure(response: Response) -> Response:
    """A request's address is the key to it: it stays out of caches and of other sites' logs."""
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response
