"""Creates the Flask app from its routes, limits, headers and error handlers."""

from flask import Flask, Response, request

from controller.web.cross_site import refuse_cross_site, refuse_foreign_host
from controller.web.errors import register_error_handlers
from controller.web.filename_converter import filename_converter
from controller.web.metrics import end_request, start_request
from controller.web.routes.api import api
from controller.web.routes.batches import batches
from controller.web.routes.events import events
from controller.web.routes.fleet import fleet
from controller.web.routes.health import health
from controller.web.routes.metrics import metrics
from controller.web.routes.requests import requests
from controller.web.routes.sign_in import sign_in
from controller.web.routes.upload import upload
from controller.web.services import Services
from controller.web.spool import SpooledRequest
from controller.web.token_guard import guard

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def create_app(services: Services) -> Flask:
    app = Flask(__name__)
    app.request_class = SpooledRequest
    settings = services.settings
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_mb * 1_000_000
    # The margin lets `read_files` refuse too many files itself, with a clearer message than Flask's.
    app.config["MAX_FORM_PARTS"] = settings.max_files + 100
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["services"] = services
    app.jinja_env.globals["settings"] = settings
    for routes in (requests, events, batches, fleet, metrics, health, api):
        app.register_blueprint(routes)
    app.before_request(start_request)
    app.before_request(refuse_foreign_host)
    app.before_request(refuse_cross_site)
    if services.tokens.restricted:
        app.register_blueprint(sign_in)
        app.before_request(guard)
    app.url_map.converters["filename"] = filename_converter(app.url_map)
    app.register_blueprint(upload)
    app.after_request(end_request)
    app.after_request(secure)
    register_error_handlers(app)
    return app


def secure(response: Response) -> Response:
    """Adds the security headers to a response.

    The address of a request gives access to its images, so it is kept out of caches and other sites' logs.
    """
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("X-Frame-Options", "DENY")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response
